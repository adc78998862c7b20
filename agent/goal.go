package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/store"
)

// aim is what the device pursues: what an operator set last or the schedule did,
// whichever was later by the clock on the wall; without either, the mode of the
// configuration.
type aim struct {
	wire.Aim
	since     time.Time // zero for the configuration's
	scheduled bool
}

// ordered is what an operator set last, as it is stored.
type ordered struct {
	wire.Aim
	Set wire.Time `json:"set"` // zero if a version before goals stored it
}

// cellMode holds what an operator set last. Versions before goals wrote the
// plain name of a mode.
const cellMode = "mode"

// startMode is the mode to begin with.
func (a *Agent) startMode() (governor.Mode, error) {
	a.ordered = a.savedOrder()
	a.aim = a.wanted(time.Now())
	return modeOf(a.aim.Aim)
}

// wanted is the aim at a time.
func (a *Agent) wanted(now time.Time) aim {
	want := aim{Aim: wire.Aim{Mode: a.cfg.Mode}}
	if a.ordered != nil {
		want = aim{Aim: a.ordered.Aim, since: a.ordered.Set.Time}
	}
	if e, at, ok := a.cfg.Schedule.last(now); ok && at.After(want.since) {
		want = aim{e.aim(), at, true}
	}
	return want
}

// savedOrder is what an operator set last, or nil.
func (a *Agent) savedOrder() *ordered {
	b, err := a.parts.Store.Cell(cellMode)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	var o ordered
	if err == nil {
		o, err = readOrdered(b)
	}
	if err != nil {
		a.log.Error("saved mode not readable, that of the configuration is used", "err", err)
		return nil
	}
	return &o
}

func readOrdered(b []byte) (o ordered, err error) {
	if bytes.HasPrefix(b, []byte("{")) {
		err = wire.Decode(b, &o)
	} else {
		o.Mode = string(b)
	}
	if err == nil {
		err = o.Check()
	}
	if err == nil {
		_, err = modeOf(o.Aim)
	}
	return o, err
}

// setAim saves an operator's order for the next start, then carries it out.
func (a *Agent) setAim(ctx context.Context, w wire.Aim) error {
	o := ordered{w, wire.At(time.Now())}
	b, err := json.Marshal(o)
	if err == nil {
		err = a.parts.Store.SetCell(cellMode, b)
	}
	if err != nil {
		return err
	}
	a.ordered = &o
	return a.pursue(ctx, aim{Aim: w, since: o.Set.Time})
}

// pursue gives the governor an aim. When that fails the one before stays, but
// the schedule does not try again.
func (a *Agent) pursue(ctx context.Context, want aim) error {
	a.aim = want
	mode, err := modeOf(want.Aim)
	if err != nil {
		return err
	}
	a.log.Info("mode set", "mode", want.String(), "scheduled", want.scheduled)
	a.relief.RLock()
	defer a.relief.RUnlock()
	return a.crew.Load().pipe.SetMode(ctx, mode)
}

// review looks at the clock, and whether the goal in force can still be had. It
// is due every second: a timer for the next moment of the schedule would not
// notice that the clock was set.
func (a *Agent) review(ctx context.Context) {
	if a.boarding.Load() || a.unfit() != nil {
		return
	}
	if want := a.wanted(time.Now()); !want.since.Equal(a.aim.since) || want.scheduled != a.aim.scheduled {
		if err := a.pursue(ctx, want); err != nil && ctx.Err() == nil {
			a.log.Error("scheduled mode not set", "mode", want.String(), "err", err)
			a.fault(fmt.Sprintf("the scheduled mode cannot be set, the one before stays: %v", err))
		}
		a.sayReported(ctx, nil)
	}
	a.reviewGoal(ctx)
}

// reviewGoal tells, once, that the goal in force cannot be had any more, as
// members dropped out; or never could, as nobody asked when the schedule or the
// last run set it.
func (a *Agent) reviewGoal(ctx context.Context) {
	_, mode := a.crew.Load().pipe.Governed()
	err := a.feasible(ctx, mode)
	if err == nil {
		a.unmet = governor.Mode{}
	}
	if reason, _, _ := told(err); reason == wire.Infeasible && mode != a.unmet {
		a.unmet = mode
		a.tellUnmet(err)
	}
}

// askPatience is how long the members in use may take to say what they can do:
// an inference that hangs is interrupted later than that.
const askPatience = time.Second

// feasible says why the members in use cannot give what a mode asks for.
func (a *Agent) feasible(ctx context.Context, mode governor.Mode) error {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	a.relief.RLock()
	defer a.relief.RUnlock()
	nearest, err := a.crew.Load().pipe.Feasible(ctx, mode)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return refuse(wire.Busy, "the members in use are too busy to say what they can do")
	default:
		return infeasible(nearest, err)
	}
}

// modeOf is the governor's mode that pursues an aim.
func modeOf(w wire.Aim) (governor.Mode, error) {
	if w.Goal == nil {
		return governor.ParseMode(w.Mode)
	}
	g := governor.Goal{Deadline: w.Goal.Deadline()}
	if f := w.Goal.MinTop1; f != nil {
		g.Floor = *f
	}
	if f := w.Goal.MaxWatts; f != nil {
		g.Watts = *f
	}
	switch w.Goal.Prefer {
	case wire.PreferLatency:
		g.Prefer = governor.Latency
	case wire.PreferEnergy:
		g.Prefer = governor.Energy
	}
	if g == (governor.Goal{}) {
		return governor.Mode{}, nil // accuracy and nothing else is what balanced is for
	}
	return governor.ModeOf(g)
}

// WireGoal is a goal as it travels; nil if it asks for nothing. The deadline is
// rounded up, for the nearest feasible one must be feasible.
func WireGoal(g governor.Goal) *wire.Goal {
	if g == (governor.Goal{}) {
		return nil
	}
	w := &wire.Goal{Prefer: [...]string{governor.Accuracy: "", governor.Latency: wire.PreferLatency, governor.Energy: wire.PreferEnergy}[g.Prefer]}
	if g.Deadline > 0 {
		w.DeadlineMS = new(wire.Millis((g.Deadline + time.Microsecond - 1).Truncate(time.Microsecond)))
	}
	if g.Floor > 0 {
		w.MinTop1 = &g.Floor
	}
	if g.Watts > 0 {
		w.MaxWatts = &g.Watts
	}
	return w
}

// judgeAim says why the device cannot have an aim.
func (a *Agent) judgeAim(ctx context.Context, w wire.Aim) error {
	mode, err := modeOf(w)
	if err != nil {
		return refused{reason: wire.Invalid, error: err}
	}
	if err := a.unfit(); err != nil {
		return refused{reason: wire.Unsupported, error: err}
	}
	if w.Goal == nil {
		return a.judgeMember(mode)
	}
	if err := a.awaitMembers(ctx); err != nil {
		return err
	}
	if err := a.unfit(); err != nil {
		return refused{reason: wire.Unsupported, error: err}
	}
	return a.feasible(ctx, mode)
}

// awaitMembers returns when no member is being loaded: what they can do together
// is not known before. Its error is ctx's.
func (a *Agent) awaitMembers(ctx context.Context) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for a.boarding.Load() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// judgeMember says why a fixed member cannot be used.
func (a *Agent) judgeMember(mode governor.Mode) error {
	if mode.Member() == "" {
		return nil
	}
	var names []string
	c := a.crew.Load()
	for at := range c.front {
		names = append(names, c.member(at).Name)
	}
	if slices.Contains(names, mode.Member()) {
		return nil
	}
	return refused{reason: wire.Invalid, error: fmt.Errorf("mode %s: no such member in use; there are %s", mode, joined(names))}
}

// infeasible is the refusal of a goal, with the nearest that can be had.
func infeasible(nearest governor.Goal, why error) refused {
	r := refused{reason: wire.Infeasible, nearest: WireGoal(nearest), error: why}
	if r.nearest != nil {
		r.error = fmt.Errorf("%w; the nearest that can be had is %v", why, r.nearest)
	}
	return r
}

// tellUnmet tells of a goal that cannot be had. It does not wait for its turn
// among the events of its kind: those of jobs would push it out.
func (a *Agent) tellUnmet(err error) {
	if r, ok := errors.AsType[refused](err); ok && r.reason == wire.Infeasible {
		a.publishEvent(wire.SeverityWarning, wire.Event{TS: wire.At(time.Now()), Kind: wire.EventInfeasible, Detail: r.Error()})
	}
}
