package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"time"

	"github.com/limber-edge/limber/agent/bench/desk"
	"github.com/limber-edge/limber/agent/bench/figure"
	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/fleet/rollout"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

// FleetRounds is how often each fleet is started.
const FleetRounds = 3

// What a fleet is allowed.
const (
	birthLeast = time.Second           // until all births are seen, and
	birthEach  = 10 * time.Millisecond // for each device
	modeMost   = 2 * time.Second       // until the last of 95 of 100 devices has taken a mode
)

// Fleet measures fleets of simulated devices, with broker and devices in processes of
// their own, and how blobs come to a device.
func Fleet(ctx context.Context, b Bench) error {
	f := fleetBench{Bench: b, rounds: FleetRounds, sizes: []int{10, 100, 1000}, modes: 6, blob: 16 << 20}
	return f.run(ctx)
}

type fleetBench struct {
	Bench
	rounds int
	sizes  []int // devices; what one takes among the most is compared with among those before
	modes  int   // sent to all in a round
	blob   int   // bytes
}

// fleetSamples is what was measured of fleets of one size, by round.
type fleetSamples struct {
	birth    figure.Sample // s until all are seen online
	p50, p95 figure.Sample // ms from a mode's publication until a device has taken it
	// KiB a device
	broker, controller, client, evidence figure.Sample
}

func (b *fleetBench) run(ctx context.Context) error {
	b.Note("base of births is %v and %v a device, of modes %v; of memory what a device takes in a fleet of %d",
		birthLeast, birthEach, modeMost, b.sizes[len(b.sizes)-2])
	all := make([]fleetSamples, len(b.sizes))
	for i, n := range b.sizes { // first, as nothing else is in memory yet that could go meanwhile
		for range b.rounds {
			all[i].evidence = append(all[i].evidence, evidenceOf(n))
		}
	}
	for round := range b.rounds {
		for i, n := range b.sizes {
			b.Progress.Tell("fleets", round*len(b.sizes)+i, b.rounds*len(b.sizes))
			if err := b.measure(ctx, n, &all[i]); err != nil {
				return fmt.Errorf("%d devices: %w", n, err)
			}
		}
	}
	for i, n := range b.sizes {
		if err := b.printTimes(n, &all[i]); err != nil {
			return err
		}
	}
	if err := b.printMemory(&all[len(all)-1], &all[len(all)-2]); err != nil {
		return err
	}
	return b.blobs(ctx)
}

// printTimes prints the figures of fleets of one size.
func (b *fleetBench) printTimes(n int, s *fleetSamples) error {
	birth := (birthLeast + time.Duration(n)*birthEach).Seconds()
	size := fmt.Sprintf(" %d", n)
	return errors.Join(
		b.Print(figure.New("fleet", "birth"+size, "s", s.birth, b.always(birth), 1, 0.5)),
		b.Print(figure.New("fleet", "mode p50"+size, "ms", s.p50, b.always(wire.Millis(modeMost)), 0.5, 0.25)),
		b.Print(figure.New("fleet", "mode p95"+size, "ms", s.p95, b.always(wire.Millis(modeMost)), 1, 0.5)))
}

// printMemory prints what a device takes in a large fleet over what it takes in a small
// one.
func (b *fleetBench) printMemory(large, small *fleetSamples) error {
	return errors.Join(
		b.Print(figure.New("fleet", "memory of the broker", "KiB", large.broker, small.broker, 1.2, 1)),
		b.Print(figure.New("fleet", "memory of the controller", "KiB", large.controller, small.controller, 1.2, 1)),
		b.Print(figure.New("fleet", "memory of a client", "KiB", large.client, small.client, 1.2, 1)),
		b.Print(figure.New("fleet", "memory of evidence", "KiB", large.evidence, small.evidence, 1.2, 1)))
}

// always is a base that is no measurement.
func (b *fleetBench) always(v float64) (s figure.Sample) {
	for range b.rounds {
		s = append(s, v)
	}
	return s
}

const benchFleet = "bench-fleet"

// measure starts a broker, a controller and a fleet, looks on and ends them.
func (b *fleetBench) measure(ctx context.Context, n int, into *fleetSamples) (err error) {
	s, err := b.alone(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close(ctx)) }()
	cfg := mqtt.Default()
	cfg.Broker, cfg.ClientID = s.url, "limber-"+fleet.NewID()[:12]
	log := slog.New(slog.NewTextHandler(b.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	c, err := fleet.Open(cfg, log, fleet.RegistryFilters(benchFleet)...)
	if err != nil {
		return err
	}
	start := func() error { // it outlives the client
		return s.startSelf(ctx, "sim", "-n", fmt.Sprint(n), "--broker", s.url, "--fleet", benchFleet)
	}
	if err := b.serve(ctx, s); err != nil {
		return err
	}
	return c.While(ctx, func(ctx context.Context) error { return b.lookOn(ctx, s, c, start, n, into) })
}

// alone is a site with a broker and nothing else.
func (b *fleetBench) alone(ctx context.Context) (*site, error) {
	dir, err := os.MkdirTemp(b.Dir, "fleet-")
	if err != nil {
		return nil, err
	}
	addr, err := freeAddress()
	if err != nil {
		return nil, err
	}
	s := &site{dir: dir, url: "mqtt://" + addr, stderr: b.Stderr}
	return s, s.startBroker(ctx, addr)
}

// lookOn has the fleet start, and measures it with a client that sees all of it.
func (b *fleetBench) lookOn(ctx context.Context, s *site, c *fleet.Client, start func() error, n int,
	into *fleetSamples) error {
	before, err := s.anonymous()
	if err != nil {
		return err
	}
	own, began := heap(), time.Now()
	if err := start(); err != nil {
		return err
	}
	if err := awaitEach(ctx, c, n, fleet.Device.Online); err != nil {
		return err
	}
	into.birth = append(into.birth, time.Since(began).Seconds())
	if err := b.obey(ctx, s, n, into); err != nil {
		return err
	}
	if err := b.rollOut(ctx, s); err != nil {
		return err
	}
	told := func(d fleet.Device) bool { return d.Caps != nil && d.Reported != nil && d.Telemetry != nil }
	if err := awaitEach(ctx, c, n, told); err != nil {
		return err
	}
	after, err := s.anonymous()
	if err != nil {
		return err
	}
	into.broker = append(into.broker, 1024*(after[0]-before[0])/float64(n))
	into.controller = append(into.controller, 1024*(after[1]-before[1])/float64(n))
	into.client = append(into.client, (heap()-own)/1024/float64(n))
	runtime.KeepAlive(c)
	return nil
}

// anonymous is what the first two processes have of their own, broker and controller, in MiB.
func (s *site) anonymous() (mib [2]float64, err error) {
	for i := range mib {
		if mib[i], err = anonymousOf(fmt.Sprintf("/proc/%d/status", s.running[i].Process.Pid)); err != nil {
			return mib, err
		}
	}
	return mib, nil
}

// heap is how many bytes of this process are in use.
func heap() float64 {
	runtime.GC()
	runtime.GC() // what had a finalizer or was in a pool
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// awaitEach waits until so many devices fit.
func awaitEach(ctx context.Context, c *fleet.Client, n int, fits func(fleet.Device) bool) error {
	ctx, cancel := context.WithTimeout(ctx, desk.StartTime)
	defer cancel()
	s := c.Registry().Subscribe()
	defer s.Close()
	fit := map[string]bool{}
	for len(fit) < n {
		d, err := s.Next(ctx)
		if err != nil {
			return fmt.Errorf("%d devices came, and not the others: %w", len(fit), err)
		}
		if fits(d) {
			fit[d.Name] = true
		}
	}
	return nil
}

// obey sends modes to all, one after the other.
func (b *fleetBench) obey(ctx context.Context, s *site, n int, into *fleetSamples) error {
	filters := []string{wire.FleetFilter(benchFleet, wire.KindAck)}
	return desk.Connect(ctx, s.url, b.Stderr, filters, func(ctx context.Context, m *fleet.Mailbox) error {
		var took figure.Sample
		for i := range b.modes {
			if err := setAll(ctx, m, n, []string{"max-accuracy", "balanced"}[i%2], &took); err != nil {
				return err
			}
		}
		into.p50, into.p95 = append(into.p50, took.Percentile(50)), append(into.p95, took.Percentile(95))
		return nil
	})
}

// setAll sends a mode to all, and adds how long each device took, in milliseconds.
func setAll(ctx context.Context, m *fleet.Mailbox, n int, mode string, took *figure.Sample) error {
	ctx, cancel := context.WithTimeout(ctx, desk.StartTime)
	defer cancel()
	id := fleet.NewID()
	command, err := json.Marshal(wire.Command{Mode: mode, TTLMS: new(wire.Millis(desk.StartTime))})
	if err != nil {
		return err
	}
	all, began := wire.Address{Fleet: benchFleet, Device: wire.Everybody}, time.Now()
	if err := m.Publish(ctx, mqtt.Message{Topic: all.Cmd(wire.VerbMode, id), Payload: command, QoS: 1}); err != nil {
		return err
	}
	for open := n; open > 0; {
		msg, err := m.Next(ctx)
		if err != nil {
			return fmt.Errorf("%d of %d devices do not answer: %w", open, n, err)
		}
		var ack wire.Ack
		t, err := wire.ParseTopic(msg.Topic)
		if err == nil && t.ID == id {
			err = wire.Decode(msg.Payload, &ack)
		}
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", msg.Topic, err)
		case !ack.State.Final():
			continue
		case ack.State != wire.CommandSucceeded:
			return fmt.Errorf("mode %s: %s: %s %s", mode, t.Device, ack.State, ack.Detail)
		}
		*took = append(*took, wire.Millis(time.Since(began)))
		open--
	}
	return nil
}

// evidenceOf is what an hour of telemetry of so many devices takes of a controller, in
// KiB a device.
func evidenceOf(n int) float64 {
	before := heap()
	e, now := rollout.NewEvidence(), time.Now()
	for i := range n {
		for minute := range 61 {
			t := wire.Telemetry{Jobs: uint64(60 * minute), P95MS: new(float64(minute))}
			e.Take(fmt.Sprintf("device-%d", i), "boot", &t, now.Add(time.Duration(minute)*time.Minute))
		}
	}
	took := (heap() - before) / 1024 / float64(n)
	runtime.KeepAlive(e)
	return took
}

// blobs measures how they come to a device over a broker.
func (b *fleetBench) blobs(ctx context.Context) (err error) {
	s, err := b.alone(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close(ctx)) }()
	b.Progress.Say("blobs")
	cfg := mqtt.Default()
	cfg.Broker = s.url
	f, err := Blobs(ctx, cfg, s.dir, b.blob, b.rounds)
	if err != nil {
		return err
	}
	return b.Print(figure.New("fleet", "blob", "MB/s", f.MQTT, f.HTTP, 0.5, 1).Rising())
}
