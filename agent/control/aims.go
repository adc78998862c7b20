package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/store"
)

// aims is what the device pursues, and who said so. Its fields from order on belong
// to the goroutine of run, and to New and Start before it.
type aims struct {
	cfg    Config
	deps   Deps
	log    *slog.Logger
	target Target // Run's

	turns   chan func()    // what others have run do
	desires chan request   // desired states that wait
	asks    sync.WaitGroup // goroutines that ask the target
	status  atomic.Pointer[Status]

	order     *order    // an operator's last one; nil if there is none
	taken     time.Time // when that came
	aim       aim       // what is in force
	versions  versions  // of desired states that were applied
	unmet     governor.Mode
	rejected  versions // desired states that were told of as infeasible: they come again with every connection
	judging   bool     // a desired state waits for the target
	reviewing bool     // likewise the goal in force
}

// aim is what is to be pursued at a time.
type aim struct {
	wire.Aim
	since     time.Time // zero for the configuration's
	scheduled bool
}

// order is what an operator set, as it is stored.
type order struct {
	wire.Aim
	Set wire.Time `json:"set"` // zero if a version before goals stored it
}

// cellMode holds what an operator set last. Versions before goals wrote the plain
// name of a mode.
const cellMode = "mode"

// ordersMost is how many commands for modes and goals may wait, and how many desired
// states.
const ordersMost = 256

func newAims(cfg Config, deps Deps, log *slog.Logger) *aims {
	a := &aims{
		cfg: cfg, deps: deps, log: log,
		turns: make(chan func()), desires: make(chan request, ordersMost),
		rejected: versions{},
	}
	a.order, a.versions = a.savedOrder(), a.savedVersions()
	newest := a.versions.newest()
	a.status.Store(&Status{wire.Reported{Version: newest, Status: wire.Applied}, newest})
	return a
}

func (a *aims) verbs() []Verb {
	return []Verb{
		{Name: wire.VerbMode, Class: Instant, Most: ordersMost, Prepare: a.prepare},
		{Name: wire.VerbGoal, Class: Instant, Most: ordersMost, Prepare: a.prepare},
	}
}

// start is the mode to begin with. The configuration was judged before, and what is
// stored when it was read.
func (a *aims) start() governor.Mode {
	a.aim = a.aimAt(time.Now())
	mode, err := ModeOf(a.aim.Aim)
	if err != nil {
		panic("control: a configuration that is not valid: " + err.Error())
	}
	return mode
}

// run pursues what it is told to and what the clock says, until ctx ends.
func (a *aims) run(ctx context.Context) {
	defer a.asks.Wait()
	// A timer for the next moment of the schedule would not notice that the clock was
	// set.
	second := time.NewTicker(time.Second)
	defer second.Stop()
	for {
		next := a.desires
		if a.judging {
			next = nil
		}
		select {
		case <-ctx.Done():
			return
		case <-second.C:
			a.review(ctx)
		case r := <-next:
			a.desire(ctx, r)
		case turn := <-a.turns:
			turn()
		}
	}
}

// do has run call f, and waits for it. An error is ctx's, and means that f was not
// called.
func (a *aims) do(ctx context.Context, f func()) error {
	done := make(chan struct{})
	select {
	case a.turns <- func() { defer close(done); f() }:
		<-done
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ask has the target say whether a mode can be had, which may take as long as its
// members are prepared, and then has run go on with the answer. It does not wait.
func (a *aims) ask(ctx context.Context, mode governor.Mode, then func(error)) {
	a.asks.Go(func() {
		err := a.feasible(ctx, mode)
		a.do(ctx, func() { then(err) }) // where ctx has ended nobody goes on
	})
}

// unmet is the refusal of a goal, with the nearest that can be had.
type unmet struct {
	*wire.Refusal
	nearest *wire.Goal
}

// Unwrap returns the refusal.
func (u *unmet) Unwrap() error { return u.Refusal }

// feasible says why the target cannot give what a mode asks for.
func (a *aims) feasible(ctx context.Context, mode governor.Mode) error {
	goal, err := a.target.Feasible(ctx, mode)
	r, ok := errors.AsType[*wire.Refusal](err)
	if !ok || r.Reason != wire.Infeasible {
		return err
	}
	nearest := WireGoal(goal)
	if nearest != nil {
		r = wire.Refuse(wire.Infeasible, "%w; the nearest that can be had is %v", r.Err, nearest)
	}
	return &unmet{r, nearest}
}

// tellUnmet tells of a goal that cannot be had. It does not wait for its turn among
// the events of its kind: those of jobs would push it out.
func (a *aims) tellUnmet(err error) {
	if u, ok := errors.AsType[*unmet](err); ok {
		a.deps.Events.EventAtOnce(wire.SeverityWarning,
			wire.Event{TS: wire.At(time.Now()), Kind: wire.EventInfeasible, Detail: u.Error()})
	}
}

// prepare judges a command for a mode or a goal.
func (a *aims) prepare(ctx context.Context, c Order) (Action, error) {
	mode, err := ModeOf(c.Aim())
	if err != nil {
		return nil, &wire.Refusal{Reason: wire.Invalid, Err: err}
	}
	switch err := a.feasible(ctx, mode); {
	case errors.Is(err, context.DeadlineExceeded):
		return nil, fmt.Errorf(
			"it expired before the members, which are being prepared, could say what they can do: %w", err)
	case err != nil:
		a.tellUnmet(err)
		return nil, err
	}
	return func(ctx context.Context, _ *Course) (out Outcome, err error) {
		if ended := a.do(ctx, func() { out, err = a.obey(ctx, c.Aim(), c.Received) }); ended != nil {
			return out, ended
		}
		return out, err
	}, nil
}

func (a *aims) obey(ctx context.Context, w wire.Aim, received time.Time) (Outcome, error) {
	cell, undo, err := a.set(ctx, w, received)
	if errors.Is(err, context.DeadlineExceeded) {
		return Outcome{}, fmt.Errorf("it expired before the mode was in force: %w", err)
	}
	if err != nil {
		return Outcome{}, err
	}
	a.report(wire.Reported{Version: a.versions.newest(), Status: wire.Applied})
	return Outcome{
		Remember: []store.Cell{cell},
		Undo:     func(ctx context.Context) { a.do(ctx, func() { undo(ctx) }) },
	}, nil
}

// set pursues an operator's order. It is to be remembered in cell; where that fails,
// undo puts back what was before.
func (a *aims) set(
	ctx context.Context, w wire.Aim, received time.Time,
) (cell store.Cell, undo func(context.Context), err error) {
	o := &order{w, wire.At(time.Now())}
	b, err := json.Marshal(o)
	if err != nil {
		return cell, nil, err
	}
	if err := a.pursue(ctx, aim{Aim: w, since: o.Set.Time}); err != nil {
		return cell, nil, err
	}
	former, taken, said := a.order, a.taken, a.status.Load()
	a.order, a.taken = o, received
	return store.Cell{Name: cellMode, Value: b}, func(ctx context.Context) {
		a.order, a.taken = former, taken
		if err := a.pursue(ctx, a.aimAt(time.Now())); err != nil {
			a.log.Error("mode before not put back", "err", err)
		}
		a.status.Store(said)
		a.deps.Changed()
	}, nil
}

// pursue gives the target an aim. When that fails the one before stays.
func (a *aims) pursue(ctx context.Context, want aim) error {
	mode, err := ModeOf(want.Aim)
	if err != nil {
		return err
	}
	if err := a.target.SetMode(ctx, mode); err != nil {
		return err
	}
	a.log.Info("mode set", "mode", want.String(), "scheduled", want.scheduled)
	a.aim = want
	return nil
}

func (a *aims) aimAt(now time.Time) aim {
	want := aim{Aim: wire.Aim{Mode: a.cfg.Mode}}
	if a.order != nil {
		want = aim{Aim: a.order.Aim, since: a.order.Set.Time}
	}
	if last, _ := a.cfg.Schedule.around(now); last.at.After(want.since) {
		want = aim{last.aim(), last.at, true}
	}
	return want
}

// review looks at the clock, and whether the goal in force can still be had. What
// the schedule could not set is not tried again.
func (a *aims) review(ctx context.Context) {
	if want := a.aimAt(time.Now()); !want.since.Equal(a.aim.since) || want.scheduled != a.aim.scheduled {
		if err := a.pursue(ctx, want); err != nil && ctx.Err() == nil {
			a.aim = want
			a.log.Error("scheduled mode not set", "mode", want.String(), "err", err)
			a.deps.Events.Event(wire.SeverityError, wire.Event{Kind: wire.EventFault,
				Detail: fmt.Sprintf("the scheduled mode cannot be set, the one before stays: %v", err)})
		}
		a.deps.Changed()
	}
	a.reviewGoal(ctx)
}

// reviewGoal tells, once, that the goal in force cannot be had any more, as members
// dropped out; or never could, as nobody asked when the schedule or the last run set
// it.
func (a *aims) reviewGoal(ctx context.Context) {
	mode, err := ModeOf(a.aim.Aim)
	if err != nil || mode.Goal() == (governor.Goal{}) {
		a.unmet = governor.Mode{}
		return
	}
	if a.reviewing {
		return
	}
	a.reviewing = true
	a.ask(ctx, mode, func(err error) {
		a.reviewing = false
		if err == nil {
			a.unmet = governor.Mode{}
		}
		if _, ok := errors.AsType[*unmet](err); ok && mode != a.unmet {
			a.unmet = mode
			a.tellUnmet(err)
		}
	})
}

func (a *aims) report(r wire.Reported) {
	a.status.Store(&Status{r, a.versions.newest()})
	a.deps.Changed()
}

// savedOrder is what an operator set last, or nil.
func (a *aims) savedOrder() *order {
	b, err := a.deps.State.Cell(cellMode)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	var o order
	if err == nil {
		o, err = readOrder(b)
	}
	if err != nil {
		a.log.Error("saved mode not readable, that of the configuration is used", "err", err)
		return nil
	}
	return &o
}

func readOrder(b []byte) (o order, err error) {
	if bytes.HasPrefix(b, []byte("{")) {
		err = wire.Decode(b, &o)
	} else {
		o.Mode = string(b)
	}
	if err == nil {
		err = o.Check()
	}
	if err == nil {
		_, err = ModeOf(o.Aim)
	}
	return o, err
}
