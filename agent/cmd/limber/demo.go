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
	"github.com/limber-edge/limber/agent/frame"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/broker-config/devbroker"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/stock"
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
on this machine. Then let other programs take the CPU for a while, and see the
agent go down to a smaller sub-network and come back. A member's name is its cost:
23.1M takes 23.1 million multiply-accumulates a frame. Before the first phase the
cameras run for a second that counts nowhere, for the agent to settle.

Ports are free ones, the state is temporary, and nothing is left behind.

The exit code is 1 when the account does not add up: a frame without an answer,
no answer at all, or a phase without frames. Missed deadlines are printed only:
a machine with other work misses some.

In the summary of --json, top1 is the accuracy over the answered frames and
expected_top1 that of the same images and members inferred anew without load;
met is the fraction of all frames that were answered within the deadline; members
counts answers. return_ms is the time from the end of the load, the beginning of
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
	cameraRate  = 30  // frames a second of one camera
	cameraShare = 0.7 // of the device's unloaded capacity with its largest member
	tooSlow     = 0.8 // of what the cameras send: the largest member clearly cannot keep up
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
	op := operatorArgs{broker: cfg.Broker.URL, fleet: cfg.Fleet}
	self := wire.Address{Fleet: cfg.Fleet, Device: cfg.Device}
	filters := []string{self.Filter(wire.KindCaps), self.Filter(wire.KindResult), self.Filter(wire.KindEvent), self.Filter(wire.KindTelemetry), self.Filter(wire.KindAck)}
	return op.station(ctx, d.err, filters, func(ctx context.Context, s *fleet.Station) error {
		caps, err := awaitCaps(ctx, s)
		if err != nil {
			return err
		}
		if len(caps.Members) < 2 {
			return fmt.Errorf("demo: %d members are worth using on this machine, two are needed", len(caps.Members))
		}
		plan, err := d.plan(ctx, s, self, caps)
		if err != nil {
			return err
		}
		return d.film(ctx, s, self, plan)
	})
}

// awaitCaps waits for the device to say what it can do.
func awaitCaps(ctx context.Context, s *fleet.Station) (*wire.Caps, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		m, err := s.Next(ctx)
		if err != nil {
			return nil, fmt.Errorf("demo: the agent did not come up: %w", err)
		}
		if t, err := wire.ParseTopic(m.Topic); err != nil || t.Kind != wire.KindCaps {
			continue
		}
		var caps wire.Caps
		return &caps, wire.Decode(m.Payload, &caps)
	}
}

// plan is what the demo will do on this machine.
type plan struct {
	caps    *wire.Caps
	cameras int
	hogs    int
	frames  [][]byte // encoded, with the deadline
	sheet   *frame.Sheet
}

func (d *demo) plan(ctx context.Context, s *fleet.Station, self wire.Address, caps *wire.Caps) (*plan, error) {
	sheet, err := stock.Sheet(frame.OpenSheet)
	if err != nil {
		return nil, err
	}
	p := &plan{caps: caps, sheet: sheet}
	ms := wire.Millis(d.args.deadline)
	for i := range sheet.Len() {
		png, err := sheet.PNG(i)
		if err != nil {
			return nil, err
		}
		job, err := wire.JoinJob(wire.Header{Codec: wire.PNG, DeadlineMS: &ms}, png)
		if err != nil {
			return nil, err
		}
		p.frames = append(p.frames, job)
	}
	gauge := &gauge{station: s, self: self, sheet: sheet}
	// The load ends before the mode changes: the agent is not to find its place
	// under a load that is none of the demo's.
	if err := errors.Join(d.measure(ctx, gauge, p), d.hogs.clear()); err != nil {
		return nil, err
	}
	return p, gauge.setMode(ctx, "balanced")
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
	p.cameras = max(1, int(math.Round(cameraShare*capacity/cameraRate)))
	demand := float64(p.cameras * cameraRate)
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

// film runs the phases and prints what came of them.
func (d *demo) film(ctx context.Context, s *fleet.Station, self wire.Address, p *plan) error {
	set := &filmset{station: s, self: self, plan: p, rec: newRecord(p, d.args.deadline, "frame-")}
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
		if expected, err = d.expected(ctx, set.rec); err != nil {
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
	warm := *set
	warm.rec = newRecord(set.plan, d.args.deadline, "rehearsal-")
	warm.rec.begin("rehearsal", 0)
	err := warm.roll(ctx, func(ctx context.Context) error {
		if err := warm.shoot(ctx, rehearsal); err != nil {
			return err
		}
		return errors.Join(warm.rec.await(ctx, lastCall), warm.rec.hush(ctx))
	})
	set.rec.operates = warm.rec.operates
	return err
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
	sum.ExpectedTop1, sum.Cameras = round4(expected), set.plan.cameras
	if d.args.asJSON {
		err = json.NewEncoder(d.out).Encode(sum)
	} else {
		err = sum.print(d.out, set.plan)
	}
	return errors.Join(err, sum.check())
}

// expected is the top-1 of the very images and members that were used, inferred
// once more without queue, load or network: what the answers must come to. It is
// 0 when there was none.
func (d *demo) expected(ctx context.Context, rec *record) (float64, error) {
	scaler, err := frame.NewScaler(d.parts.Preprocess)
	if err != nil {
		return 0, err
	}
	right, all := 0, 0
	for name, shots := range rec.used() {
		i := d.parts.Family.Index(name)
		if i < 0 {
			return 0, fmt.Errorf("demo: member %q answered, and the family has none of that name", name)
		}
		s, err := d.parts.Shelf.Session(i)
		if err != nil {
			return 0, err
		}
		correct, err := d.correct(ctx, s, scaler, d.parts.Family.Members[i].Arch.R, rec.sheet, shots)
		if err = errors.Join(err, s.Close()); err != nil {
			return 0, err
		}
		right += correct
		for _, n := range shots {
			all += n
		}
	}
	return float64(right) / float64(max(all, 1)), nil
}

// correct counts the frames a session gets right; shots is how often each image
// was taken.
func (d *demo) correct(ctx context.Context, s family.Session, scaler *frame.Scaler, r int, sheet *frame.Sheet, shots map[int]int) (int, error) {
	in, out := make([]float32, 3*r*r), make([]float32, len(d.parts.Family.Classes))
	right := 0
	for image, n := range shots {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		scaler.Tensor(in, sheet.Picture(image), r)
		if err := s.Run(out, in); err != nil {
			return 0, err
		}
		if argmax(out) == sheet.Label(image) {
			right += n
		}
	}
	return right, nil
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
