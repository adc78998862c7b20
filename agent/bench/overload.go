package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/limber-edge/limber/agent/bench/camera"
	"github.com/limber-edge/limber/agent/bench/desk"
	"github.com/limber-edge/limber/agent/bench/figure"
	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/wire"
)

// How an agent is overloaded.
const (
	OverloadRounds   = 5
	OverloadDeadline = 100 * time.Millisecond
	ShortestSlot     = time.Second
)

// Overload measures what is left of the answers when cameras send more than the
// device can do; each load is offered for a slot in each round.
func Overload(ctx context.Context, b Bench, slot time.Duration) error {
	o := overloadBench{Bench: b, rounds: OverloadRounds, slot: slot, deadline: OverloadDeadline, size: camera.VGA()}
	return o.run(ctx)
}

// overloadBench offers an agent more than it can do.
type overloadBench struct {
	Bench
	rounds   int
	slot     time.Duration // for which a load is offered
	deadline time.Duration // of every frame
	size     camera.Size

	client   *desk.Client // hears all results
	cameras  []*fleet.Mailbox
	jobs     [][]byte      // frames of nobody in particular
	sourced  [][][]byte    // the same of each source
	capacity figure.Sample // answers in time a second, by round
	closed   ledger        // of the frames that it was measured with
}

// How the load of the cameras is shared.
const (
	sources    = 8   // as many cameras
	modest     = 7   // of them, which offer
	modestPart = 0.1 // of the capacity each, when the last one offers
	greedyPart = 1.0
	frameKinds = 8 // different pictures
)

// series is one figure in the making.
type series struct {
	name, unit    string
	goal, stretch float64
	better        string
	measure       func(ctx context.Context, capacity float64) (ours, base float64, a *ledger, err error)

	ours, base figure.Sample
	all        ledger // of all rounds
}

// plan is everything that is measured in a round.
func (b *overloadBench) plan() (all []*series) {
	for _, times := range [5]float64{0.8, 1.2, 1.5, 2, 4} {
		s := &series{name: fmt.Sprintf("goodput at %g times", times), unit: "1/s", goal: 1, stretch: 1.2,
			better: figure.Higher}
		if times < 1 { // all but one in a hundred of what is offered, or in a thousand
			s.goal, s.stretch = figure.Round(0.99*times), figure.Round(0.999*times)
		}
		s.measure = func(ctx context.Context, capacity float64) (float64, float64, *ledger, error) {
			return b.goodput(ctx, times, capacity)
		}
		all = append(all, s)
	}
	return append(all,
		&series{name: "recovery", unit: "s", goal: 1, stretch: 0.3, better: figure.Lower, measure: b.recovery},
		&series{name: "fairness", unit: "1", goal: 0.95, stretch: 0.99, better: figure.Higher, measure: b.fairness})
}

func (b *overloadBench) run(ctx context.Context) error {
	if err := b.expose(); err != nil {
		return err
	}
	balanced := func([]wire.Member) string { return "balanced" }
	return b.atSite(ctx, 0, balanced, func(ctx context.Context, s *site, c *desk.Client) error {
		b.client = c
		return connectAll(ctx, s.url, b.Stderr, sources, func(ctx context.Context, cameras []*fleet.Mailbox) error {
			b.cameras = cameras
			b.Note("mode balanced, deadline %v, JPEGs of %dx%d, %d kB each; %s, TCP_NODELAY everywhere; the same "+
				"agent on both sides",
				b.deadline, b.size.Width, b.size.Side, len(slices.Concat(b.jobs...))/len(b.jobs)/1000, s.broker)
			return b.measure(ctx, b.plan())
		})
	})
}

func (b *overloadBench) expose() error {
	pngs, _, err := camera.Images(frameKinds)
	if err != nil {
		return err
	}
	frames, err := camera.Frames(pngs, b.size)
	if err != nil {
		return err
	}
	if b.jobs, err = camera.Jobs(frames, b.header("")); err != nil {
		return err
	}
	for i := range sources {
		jobs, err := camera.Jobs(frames, b.header(fmt.Sprintf("cam-%d", i+1)))
		if err != nil {
			return err
		}
		b.sourced = append(b.sourced, jobs)
	}
	return nil
}

func (b *overloadBench) header(source string) wire.Header {
	return wire.Header{DeadlineMS: new(wire.Millis(b.deadline)), Source: source}
}

// measure goes through the rounds, prints what came of them and judges the ledger.
func (b *overloadBench) measure(ctx context.Context, all []*series) error {
	if err := b.client.Settle(ctx, b.jobs[0], ""); err != nil {
		return err
	}
	for round := range b.rounds {
		if err := b.round(ctx, round, all); err != nil {
			return err
		}
	}
	b.Progress.End()
	b.Note("capacity, %d frames under way: %.4g answers in time a second, expected top-1 %.4f", Window,
		b.capacity.Median(), b.closed.top1())
	var errs []error
	for _, s := range all {
		errs = append(errs, b.Print(s.figure()), s.all.check())
		b.Note("  %v; expected top-1 %.4f", &s.all, s.all.top1())
	}
	return errors.Join(errs...)
}

// round measures the capacity, then everything against it.
func (b *overloadBench) round(ctx context.Context, n int, all []*series) error {
	b.Progress.Tell("capacity", n, b.rounds)
	capacity, err := b.capable(ctx)
	if err != nil {
		return err
	}
	b.capacity = append(b.capacity, capacity)
	for _, s := range all {
		b.Progress.Tell(s.name, n, b.rounds)
		if err := s.add(ctx, capacity); err != nil {
			return err
		}
	}
	return nil
}

func (s *series) add(ctx context.Context, capacity float64) error {
	ours, base, a, err := s.measure(ctx, capacity)
	if err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	s.ours, s.base = append(s.ours, ours), append(s.base, base)
	s.all.join(a)
	return nil
}

func (s *series) figure() figure.Figure {
	f := figure.New("overload", s.name, s.unit, s.ours, s.base, s.goal, s.stretch)
	f.Better = s.better
	top1 := figure.Round(s.all.top1())
	f.ExpectedTop1 = &top1
	return f
}

// capable is the answers in time a second with a Window of frames under way. The
// agent has a moment to find its place first.
func (b *overloadBench) capable(ctx context.Context) (float64, error) {
	l := ledger{deadline: b.deadline}
	note := func(r *wire.Result, took time.Duration) { l.fates = append(l.fates, newFate(fate{}, took, r)) }
	for _, d := range [2]time.Duration{b.slot / 4, b.slot} {
		l.fates = nil
		if err := b.client.KeepUnderWay(ctx, b.jobs, Window, d, note); err != nil {
			return 0, err
		}
	}
	capacity := l.goodput(b.slot)
	if capacity == 0 {
		return 0, fmt.Errorf("with %d frames under way none was answered within %v: this machine is too slow or "+
			"too busy to overload", Window, b.deadline)
	}
	b.closed.join(&l)
	return capacity, nil
}

// together are the cameras sending at a rate, each its part.
func (b *overloadBench) together(rate float64, from, until time.Duration) (all []sender) {
	for i, st := range b.cameras {
		all = append(all, sender{mailbox: st, jobs: b.jobs, beats: beats(i, len(b.cameras), rate, from, until)})
	}
	return all
}

// goodput offers some times the capacity.
func (b *overloadBench) goodput(ctx context.Context, times, capacity float64) (ours, base float64, a *ledger,
	err error) {
	a, err = drive(ctx, b.client, b.together(times*capacity, 0, b.slot), b.deadline)
	if err != nil {
		return 0, 0, nil, err
	}
	// The load lasts as long as its frames take at its rate.
	offered := time.Duration(float64(len(a.fates)) / (times * capacity) * float64(time.Second))
	return a.goodput(offered), capacity, a, nil
}

// The loads before and after an overload, and the overload, in capacities.
const (
	normalLoad   = 0.5
	recoveryLoad = 4
)

// recovery offers little, then far too much, then little again.
func (b *overloadBench) recovery(ctx context.Context, capacity float64) (ours, base float64, a *ledger, err error) {
	flood, ebb, end := b.slot/2, b.slot, 2*b.slot
	all := b.together(normalLoad*capacity, 0, flood)
	for i := range all {
		all[i].beats = append(all[i].beats, beats(i, len(all), recoveryLoad*capacity, flood, ebb)...)
		all[i].beats = append(all[i].beats, beats(i, len(all), normalLoad*capacity, ebb, end)...)
	}
	if a, err = drive(ctx, b.client, all, b.deadline); err != nil {
		return 0, 0, nil, err
	}
	normal, _ := a.p95(0, flood)
	return a.back(ebb, end, normal).Seconds(), 1, a, nil
}

// fairness lets one source send ten times as much as each of the others.
func (b *overloadBench) fairness(ctx context.Context, capacity float64) (ours, base float64, a *ledger, err error) {
	all := make([]sender, sources)
	for i := range all {
		rate := modestPart * capacity
		if i >= modest {
			rate = greedyPart * capacity
		}
		// Each begins a little after the one before, as no two cameras keep step.
		offset := time.Duration(float64(i) / sources / rate * float64(time.Second))
		all[i] = sender{mailbox: b.cameras[i], jobs: b.sourced[i], beats: beats(0, 1, rate, offset, b.slot)}
	}
	a, err = drive(ctx, b.client, all, b.deadline)
	if err != nil {
		return 0, 0, nil, err
	}
	return a.worst(modest), 1, a, nil
}
