package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"runtime"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/limber-edge/limber/agent"
	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/broker-config/devbroker"
)

// demoArgs are the flags of `limber demo`.
type demoArgs struct {
	asJSON   bool
	deadline time.Duration
	quiet    time.Duration
	busy     time.Duration
}

func newDemo() *cobra.Command {
	var a demoArgs
	c := &cobra.Command{
		Use:   "demo",
		Short: "See all of it on this desk: broker, agent, cameras, a load that comes and goes",
		Long: `Start a broker, an agent with the stock family and as many virtual cameras at
30 frames a second as take 70 % of what the device can do with its largest member
on this machine. They send test images as 640x480 JPEGs to frame/{source}. Then let other programs take the CPU for a while, and see the
agent go down to a smaller sub-network and come back. A member's name is its cost:
23.1M takes 23.1 million multiply-accumulates a frame. Before the first phase the
cameras run for a second that counts nowhere, for the agent to settle.

Ports are free ones, the state is temporary, and nothing is left behind.

The exit code is 1 when the account does not add up: a frame without an answer,
no answer at all, or a phase without frames. Missed deadlines are printed only:
a machine with other work misses some.

In the summary of --json, top1 is the accuracy over the answered frames and
expected_top1 that of the same frames and members inferred anew without load;
met is the fraction of all frames that were answered within the deadline; members
counts answers. settled is the same for those frames of a phase that were sent from
its third second on. return_ms is the time from the end of the load, the beginning of
the last phase, to the first answer by the largest member to a frame of that
phase; probes do not count, and it is absent when there was none.`,
		Example: `  limber demo
  limber demo --json --busy 20s`,
		Args: exactly(0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) error { return a.run(c) },
	}
	f := c.Flags()
	f.BoolVar(&a.asJSON, "json", false, "print one summary object and nothing else")
	f.DurationVar(&a.deadline, "deadline", 50*time.Millisecond, "of every frame")
	f.DurationVar(&a.quiet, "quiet", 6*time.Second, "length of each quiet phase, at least 5s")
	f.DurationVar(&a.busy, "busy", 8*time.Second, "length of the busy phase, at least 5s")
	return c
}

const (
	cameraRate  = 30   // frames a second of one camera
	mostCameras = 250  // of the sources that an agent tells apart
	cameraShare = 0.7  // of the device's unloaded capacity with its largest member
	trials      = 5    // of fewer and fewer cameras: a machine with other work may never be calm
	calm        = 0.99 // of their frames are answered in time: the largest member can serve the cameras
	tooSlow     = 0.8  // of what the cameras send: the largest member clearly cannot keep up
	shortest    = 5 * time.Second
	demoPhases  = 3 // quiet, busy, quiet
	rehearsal   = time.Second
	lastCall    = 10 * time.Second // for answers that are missing in the end
)

func (a *demoArgs) run(c *cobra.Command) error {
	if a.quiet < shortest || a.busy < shortest {
		return usageError{fmt.Errorf("limber demo: a phase under %v is too short to see anything", shortest)}
	}
	state, err := os.MkdirTemp("", "limber-demo-")
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	defer os.RemoveAll(state)
	d := &demo{args: a, out: c.OutOrStdout(), err: c.ErrOrStderr(), log: newLogger(c.ErrOrStderr(), "error"),
		progress: newProgress(c.ErrOrStderr())}
	defer d.progress.end()
	d.progress.say("starting broker and agent, measuring the members on this machine")
	err = d.run(c.Context(), state)
	if c.Context().Err() != nil && errors.Is(err, context.Canceled) {
		return errors.New("demo: stopped before its end")
	}
	return err
}

// demo is one desk: broker, agent and operator in this process.
type demo struct {
	args  *demoArgs
	out   io.Writer
	err   io.Writer
	log   *slog.Logger
	parts *agent.Parts
	hogs  hogs

	progress *progress
}

// deskFleet and deskDevice are the names the demo's device goes by.
const deskFleet, deskDevice = "demo", "desk"

// run starts broker, agent and station, and stops them in the reverse order.
func (d *demo) run(ctx context.Context, state string) (err error) {
	broker, err := devbroker.New(devbroker.Config{Listen: "127.0.0.1:0"}, d.log)
	if err != nil {
		return err
	}
	cfg := agent.Default()
	cfg.Fleet, cfg.Device, cfg.State = deskFleet, deskDevice, state
	cfg.Broker.URL = "mqtt://" + broker.Addr()
	cfg.Telemetry.Every.Duration = 250 * time.Millisecond
	if d.parts, err = agent.Open(cfg, version, newTrial(), d.log); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.parts.Close()) }()
	if d.parts.Fault != nil {
		return d.parts.Fault
	}
	dev, err := agent.New(cfg, d.parts, d.log)
	if err != nil {
		return err
	}
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	working, stopWorking := context.WithCancel(ctx)
	var serve, work errgroup.Group
	serve.Go(func() error { return broker.Run(serving) })
	work.Go(func() error { return dev.Run(working) })
	defer func() {
		stopWorking()
		err = errors.Join(err, d.hogs.clear(), work.Wait())
		stopServing()
		err = errors.Join(err, serve.Wait())
	}()
	return d.operate(working, cfg)
}

// operate is the operator's part: wait for the device, drive the cameras, sum
// up.
func (d *demo) operate(ctx context.Context, cfg agent.Config) error {
	op := operatorArgs{broker: cfg.Broker.Broker, fleet: cfg.Fleet}
	self := wire.Address{Fleet: cfg.Fleet, Device: cfg.Device}
	filters := []string{self.Filter(wire.KindState), self.Filter(wire.KindCaps), self.Filter(wire.KindResult), self.Filter(wire.KindEvent),
		self.Filter(wire.KindTelemetry), self.Filter(wire.KindAck)}
	return op.mailbox(ctx, d.err, filters, func(ctx context.Context, s *fleet.Mailbox) error {
		p, err := awaitDevice(ctx, s)
		if err != nil {
			return err
		}
		if len(p.caps.Members) < 2 {
			return fmt.Errorf("demo: %d members are worth using on this machine, two are needed", len(p.caps.Members))
		}
		if err := d.plan(ctx, s, self, p); err != nil {
			return err
		}
		return d.film(ctx, s, self, p)
	})
}

// awaitDevice waits for the device to say who it is and what it can do.
func awaitDevice(ctx context.Context, s *fleet.Mailbox) (*plan, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	p := new(plan)
	for p.boot == "" || p.caps == nil {
		m, err := s.Next(ctx)
		if err != nil {
			return nil, fmt.Errorf("demo: the agent did not come up: %w", err)
		}
		if err := p.meet(m); err != nil {
			return nil, fmt.Errorf("%s: %w", m.Topic, err)
		}
	}
	return p, nil
}

// plan is what the demo will do on this machine.
type plan struct {
	caps     *wire.Caps
	pictures *gallery
	jobs     [][]byte // the pictures, with the deadline
	boot     string   // of the agent
	cameras  []*deskCamera
	hogs     int
}

// meet takes in what the device says of itself.
func (p *plan) meet(m mqtt.Message) error {
	switch t, err := wire.ParseTopic(m.Topic); {
	case err != nil:
		return err
	case t.Kind == wire.KindState:
		var s wire.State
		err := wire.Decode(m.Payload, &s)
		p.boot = s.BootID
		return err
	case t.Kind == wire.KindCaps:
		p.caps = new(wire.Caps)
		return wire.Decode(m.Payload, p.caps)
	}
	return nil
}

func (d *demo) plan(ctx context.Context, s *fleet.Mailbox, self wire.Address, p *plan) (err error) {
	if p.pictures, err = newGallery(ctx, demoImages, func(done int) { d.progress.tell("making pictures", done, demoImages) }); err != nil {
		return err
	}
	if p.jobs, err = p.pictures.jobs(d.args.deadline); err != nil {
		return err
	}
	gauge := &gauge{station: s, self: self}
	if gauge.jobs, err = p.pictures.jobs(time.Minute); err != nil { // nothing is to be refused here
		return err
	}
	// The load ends before the mode changes: the agent is not to find its place
	// under a load that is none of the demo's.
	if err := errors.Join(d.measure(ctx, gauge, p), d.hogs.clear()); err != nil {
		return err
	}
	return gauge.setMode(ctx, "balanced")
}

// measure finds how many cameras the largest member can serve, and how many
// other programs it takes that it cannot any more while the smallest still can.
func (d *demo) measure(ctx context.Context, g *gauge, p *plan) error {
	smallest, largest := p.caps.Members[0].Name, p.caps.Members[len(p.caps.Members)-1].Name
	d.progress.say("counting the frames a second that " + largest + " answers alone")
	capacity, err := g.capacity(ctx, largest)
	if err != nil {
		return err
	}
	p.place(int(math.Round(capacity / cameraRate)))
	if err := d.lighten(ctx, g, p); err != nil {
		return err
	}
	demand := float64(len(p.cameras) * cameraRate)
	for p.hogs = runtime.NumCPU(); p.hogs < 8*runtime.NumCPU(); p.hogs++ {
		d.progress.say(fmt.Sprintf("counting the frames a second that %s answers beside %d other programs", largest, p.hogs))
		if err := d.hogs.set(cpuHog, p.hogs); err != nil {
			return err
		}
		if capacity, err = g.capacity(ctx, largest); err != nil {
			return err
		}
		if capacity < tooSlow*demand {
			break
		}
	}
	if capacity, err = g.capacity(ctx, smallest); err != nil {
		return err
	}
	if capacity < demand {
		d.log.Warn("even the smallest member may not keep up", "hogs", p.hogs)
	}
	return nil
}

// lighten takes cameras away until the member in use carries the rest, and of these
// all but their share. The gauge sends a frame for each answer, so that its frames
// share what wakes the machine; cameras do not. They are carried if answers take
// half of the deadline at most: a queue that grows slowly shows within a trial.
func (d *demo) lighten(ctx context.Context, g *gauge, p *plan) (err error) {
	trial := *p
	if trial.jobs, err = p.pictures.jobs(d.args.deadline / 2); err != nil {
		return err
	}
	set := &filmset{station: g.station, self: g.self, plan: &trial}
	for range trials {
		n := len(trial.cameras)
		d.progress.say(fmt.Sprintf("trying %d cameras", n))
		rec, err := set.practise(ctx, d.args.deadline, "trial")
		if err != nil {
			return err
		}
		carried := rec.summary().Met
		if carried >= calm || n == 1 {
			break
		}
		trial.cameras = trial.cameras[:fewer(n, carried)]
	}
	p.cameras = trial.cameras[:max(1, int(math.Round(cameraShare*float64(len(trial.cameras)))))]
	return nil
}

// fewer is how many of n cameras may be carried if this share of their frames was.
func fewer(n int, carried float64) int { return max(1, min(n-1, int(carried*float64(n)))) }

// place sets up so many cameras, but one at least. They are not to be replaced by
// others of their names: the device would go on counting.
func (p *plan) place(cameras int) {
	p.cameras = nil
	for i := range min(max(1, cameras), mostCameras) {
		p.cameras = append(p.cameras, &deskCamera{source: fmt.Sprintf("camera-%d", i+1), boot: p.boot})
	}
}

// film runs the phases and prints what came of them.
func (d *demo) film(ctx context.Context, s *fleet.Mailbox, self wire.Address, p *plan) error {
	set := &filmset{station: s, self: self, plan: p, rec: newRecord(p, d.args.deadline)}
	if err := d.rehearse(ctx, set); err != nil {
		return err
	}
	view := newView(d.out, p, set.rec, 2*d.args.quiet+d.args.busy, d.args.asJSON)
	d.progress.end()
	expected := 0.0
	err := set.roll(ctx, func(ctx context.Context) (err error) {
		if err := d.phases(ctx, set); err != nil {
			return err
		}
		w, err := newWitness(d.parts, p)
		if err != nil {
			return err
		}
		if expected, err = w.top1(ctx, set.rec.used()); err != nil {
			return err
		}
		return set.rec.hush(ctx) // after what takes time anyway
	}, view.run)
	if err != nil {
		return err
	}
	return d.sumUp(set, expected)
}

// rehearse runs the cameras without a record. The agent comes from the member
// that the gauge fixed last, and tells of its way from there: neither is the
// demo's to count.
func (d *demo) rehearse(ctx context.Context, set *filmset) error {
	d.progress.say("letting the agent settle")
	warm, err := set.practise(ctx, d.args.deadline, "rehearsal")
	if err != nil {
		return err
	}
	set.rec.operates = warm.operates
	return nil
}

// phases drives load and cameras, and waits for the last answers.
func (d *demo) phases(ctx context.Context, set *filmset) error {
	for _, phase := range [demoPhases]struct {
		name string
		hogs int
		d    time.Duration
	}{{"quiet", 0, d.args.quiet}, {"busy", set.plan.hogs, d.args.busy}, {"quiet", 0, d.args.quiet}} {
		if err := d.hogs.set(cpuHog, phase.hogs); err != nil {
			return err
		}
		set.rec.begin(phase.name, phase.hogs)
		if err := set.shoot(ctx, phase.d); err != nil {
			return err
		}
	}
	set.rec.end()
	return set.rec.await(ctx, lastCall)
}

// sumUp prints the summary and judges it.
func (d *demo) sumUp(set *filmset, expected float64) (err error) {
	sum := set.rec.summary()
	sum.ExpectedTop1, sum.Cameras = round4(expected), len(set.plan.cameras)
	if d.args.asJSON {
		err = json.NewEncoder(d.out).Encode(sum)
	} else {
		err = sum.print(d.out, set.plan)
	}
	return errors.Join(err, sum.check())
}

func argmax(v []float32) int {
	best := 0
	for i, x := range v {
		if x > v[best] {
			best = i
		}
	}
	return best
}

func round4(v float64) float64 { return math.Round(v*1e4) / 1e4 }
