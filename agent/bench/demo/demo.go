// Package demo shows all of Limber on one machine: a broker, a device, as many
// cameras as it can serve, and other programs that take the CPU for a while.
//
//	plan:   capacity alone ─▶ cameras ─▶ how many hogs are too many for the largest member
//	phases: warm-up ─▶ quiet ─▶ busy ─▶ quiet ─▶ the last answers
//	                     traffic ──frames──▶ device ──results, events──▶ record ─▶ Scene, Summary
//
// The one rule: every frame that a camera sends is in the record before it leaves,
// so the account adds up or the summary says that it does not.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/limber-edge/limber/agent/bench"
	"github.com/limber-edge/limber/agent/bench/desk"
	"github.com/limber-edge/limber/agent/bench/figure"
	"github.com/limber-edge/limber/agent/bench/load"
	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/broker-config/devbroker"
	"github.com/limber-edge/limber/family/resident"
)

// Options say how long what lasts, and who looks.
type Options struct {
	Version  string         // of the program
	Trial    resident.Guard // of foreign models
	Deadline time.Duration  // of every frame
	Quiet    time.Duration  // length of each quiet phase, at least Shortest
	Busy     time.Duration  // of the busy phase, likewise
	Stderr   io.Writer
	Log      *slog.Logger
	Progress bench.Progress
	Watch    Watch
	// Beside is told where the broker is, and returns what runs until the device has ended;
	// nil: nothing does.
	Beside func(broker string) (run func(context.Context) error, err error)
}

// Watch shows the demo until ctx ends. It may ask for the scene as often as it likes.
type Watch func(ctx context.Context, cast Cast, now func() (s Scene, begun bool)) error

// What every demo has in common.
const (
	CameraRate = 30 // frames a second of one camera
	Phases     = 3  // quiet, busy, quiet
	Shortest   = 5 * time.Second

	warmUpTime = time.Second
	lastCall   = 10 * time.Second // for answers that are missing in the end
)

// demo is one desk: broker, device and operator in this process.
type demo struct {
	Options
	device *desk.Device
	hogs   load.Hogs
}

// Run starts broker, device and cameras, and stops them in the reverse order. Its
// state is temporary. What the summary adds up to is for the caller to check.
func Run(ctx context.Context, o Options) (sum *Summary, err error) {
	d := &demo{Options: o}
	d.Progress.Say("starting broker and agent, measuring the members on this machine")
	state, err := os.MkdirTemp("", "limber-demo-")
	if err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(state)) }()
	broker, err := devbroker.New(devbroker.Config{Listen: "127.0.0.1:0"}, o.Log)
	if err != nil {
		return nil, err
	}
	url := "mqtt://" + broker.Addr()
	d.device, err = desk.Open(desk.Options{Version: o.Version, Trial: o.Trial, State: state, Broker: url,
		Telemetry: 250 * time.Millisecond, Log: o.Log})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.device.Close()) }()
	beside := func(context.Context) error { return nil }
	if o.Beside != nil {
		if beside, err = o.Beside(url); err != nil {
			return nil, err
		}
	}
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	working, stopWorking := context.WithCancel(ctx)
	var serve, work errgroup.Group
	serve.Go(func() error { return broker.Run(serving) })
	serve.Go(func() error { return beside(serving) })
	work.Go(func() error { return d.device.Run(working) })
	defer func() {
		stopWorking()
		err = errors.Join(err, d.hogs.Clear(), work.Wait())
		stopServing()
		err = errors.Join(err, serve.Wait())
	}()
	return d.operate(working, url)
}

// operate is the operator's part: wait for the device, drive the cameras, sum up.
func (d *demo) operate(ctx context.Context, broker string) (sum *Summary, err error) {
	self := desk.Self()
	filters := []string{self.Filter(wire.KindState), self.Filter(wire.KindCaps), self.Filter(wire.KindResult),
		self.Filter(wire.KindEvent), self.Filter(wire.KindTelemetry), self.Filter(wire.KindAck)}
	return sum, desk.Connect(ctx, broker, d.Stderr, filters, func(ctx context.Context, s *fleet.Mailbox) error {
		wait, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		state, caps, err := desk.AwaitMembers(wait, s, self)
		if err != nil {
			return fmt.Errorf("demo: %w", err)
		}
		p := &plan{boot: state.BootID, members: caps.Members}
		if len(p.members) < 2 {
			return fmt.Errorf("demo: %d members are worth using on this machine, two are needed", len(p.members))
		}
		if err := d.plan(ctx, s, self, p); err != nil {
			return err
		}
		sum, err = d.perform(ctx, s, self, p)
		return err
	})
}

// perform runs the phases and sums up what came of them.
func (d *demo) perform(ctx context.Context, s *fleet.Mailbox, self wire.Address, p *plan) (*Summary, error) {
	t := &traffic{mailbox: s, self: self, plan: p, rec: newRecord(p, d.Deadline)}
	// The cameras run without a record first: the agent comes from the member that was
	// fixed last to measure it, and tells of its way from there. Neither is the demo's
	// to count.
	d.Progress.Say("letting the agent settle")
	warm, err := t.practise(ctx, d.Deadline, "warm-up")
	if err != nil {
		return nil, err
	}
	t.rec.operates = warm.operates
	d.Progress.End()
	expected := 0.0
	drive := func(ctx context.Context) (err error) {
		if err := d.phases(ctx, t); err != nil {
			return err
		}
		w, err := newWitness(d.device, p)
		if err != nil {
			return err
		}
		if expected, err = w.top1(ctx, t.rec.used()); err != nil {
			return err
		}
		return t.rec.settle(ctx) // after what takes time anyway
	}
	cast := Cast{Members: p.members, Cameras: len(p.cameras), Deadline: d.Deadline, Length: 2*d.Quiet + d.Busy}
	watch := func(ctx context.Context) error { return d.Watch(ctx, cast, t.rec.scene) }
	if err := t.run(ctx, drive, watch); err != nil {
		return nil, err
	}
	sum := t.rec.summary()
	sum.ExpectedTop1, sum.Cameras, sum.Cast = figure.Round(expected), cast.Cameras, cast
	return &sum, nil
}

// phases drives load and cameras, and waits for the last answers.
func (d *demo) phases(ctx context.Context, t *traffic) error {
	for _, phase := range [Phases]struct {
		name string
		hogs int
		d    time.Duration
	}{{"quiet", 0, d.Quiet}, {"busy", t.plan.hogs, d.Busy}, {"quiet", 0, d.Quiet}} {
		if err := d.hogs.Set(load.CPU, phase.hogs); err != nil {
			return err
		}
		t.rec.begin(phase.name, phase.hogs)
		if err := t.send(ctx, phase.d); err != nil {
			return err
		}
	}
	t.rec.end()
	return t.rec.await(ctx, lastCall)
}
