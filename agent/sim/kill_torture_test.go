//go:build torture

package sim_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/sim"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/broker-config/brokertest"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/firmware/slot"
)

// change is what a rollout brings to all devices of a fleet.
type change struct {
	*yard
	id     string // of the rollout
	set    func(*wire.RolloutSpec)
	family *family.Folder // that the operator has; nil: devices take it from elsewhere
	there  func()         // waits until all devices have it
}

// toDusk is the family dusk, in a fleet that starts with day.
func toDusk(tb testing.TB, at mqtt.Broker, n int, p *sim.Profile) change {
	tb.Helper()
	y := mustYardAt(tb, at, n, p)
	set := func(s *wire.RolloutSpec) { s.Family = y.named(dusk) }
	return change{yard: y, id: "dusk", set: set, family: mustFolder(tb, p, dusk), there: func() { y.uses(dusk, n) }}
}

// compared is the same after a comparison on all frames.
func (c change) compared() change {
	set := c.set
	c.set = func(s *wire.RolloutSpec) {
		set(s)
		s.Shadow, s.Observe = &wire.Shadow{Percent: new(100.0)}, 60
		s.Gates = append([]wire.Gate{{Name: wire.GateAgreement, Limit: "0.97"}}, s.Gates...)
	}
	return c
}

// toGood is the release good, in a fleet that starts with old and has each blob after a while.
func toGood(tb testing.TB, at mqtt.Broker, n int, blobs time.Duration) change {
	tb.Helper()
	y, d := mustReleasesAt(tb, at, n, time.Minute, blobs)
	y.runs(old, 0)
	set := func(s *wire.RolloutSpec) { s.Probation, s.Release = nil, d.release(good) }
	return change{yard: y, id: idOf(good), set: set, there: func() { y.runs(good, 0) }}
}

// begin starts the rollout. The answer may be given by a controller that is not there yet.
func (c change) begin(f func(*wire.RolloutSpec)) (asked <-chan error) {
	s := spec(f)
	c.set(&s)
	if c.family != nil {
		go c.remote.Serve(c.tb.Context(), c.family) // also to one that is killed while it takes it
	}
	answer := make(chan error, 1)
	go func() {
		start := wire.RolloutCommand{Action: wire.RolloutStart, Rollout: c.id, Spec: &s}
		_, err := c.remote.Do(c.tb.Context(), start, patience, nil)
		answer <- err
	}()
	return answer
}

// effects is what devices tell of commands for families and releases, and of those that
// took over.
type effects struct {
	mu       sync.Mutex
	commands map[string]map[string]wire.Step // by device and id, the last state
	taken    map[string]int                  // by device, what took over
}

// mustCount counts until the test ends.
func mustCount(tb testing.TB, at mqtt.Broker) *effects {
	tb.Helper()
	link, err := at.Config("counter")
	if err != nil {
		tb.Fatal(err)
	}
	box, err := fleet.OpenMailbox(link, slog.New(slog.NewTextHandler(io.Discard, nil)),
		wire.FleetFilter(wire.DefaultFleet, wire.KindAck), wire.FleetFilter(wire.DefaultFleet, wire.KindEvent))
	if err != nil {
		tb.Fatal(err)
	}
	e := &effects{commands: map[string]map[string]wire.Step{}, taken: map[string]int{}}
	until(tb, box.Run)
	until(tb, func(ctx context.Context) error { return e.count(ctx, box) })
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	if err := box.Ready(ctx); err != nil {
		tb.Fatal(err)
	}
	return e
}

func (e *effects) count(ctx context.Context, box *fleet.Mailbox) error {
	for {
		m, err := box.Next(ctx)
		if err != nil {
			return nil
		}
		t, err := wire.ParseTopic(m.Topic)
		if err != nil {
			return err
		}
		e.mu.Lock()
		switch {
		case t.Kind == wire.KindAck && (t.Verb == wire.VerbFamily || t.Verb == wire.VerbRelease):
			var a wire.Ack
			if err = wire.Decode(m.Payload, &a); err == nil {
				if e.commands[t.Device] == nil {
					e.commands[t.Device] = map[string]wire.Step{}
				}
				e.commands[t.Device][t.ID] = a.State
			}
		case t.Kind == wire.KindEvent && tookOver(string(m.Payload)):
			e.taken[t.Device]++
		}
		e.mu.Unlock()
		if err != nil {
			return fmt.Errorf("%s: %w", m.Topic, err)
		}
	}
}

// tookOver tells whether an event is that of a family or release which is in use for good.
func tookOver(event string) bool {
	return strings.Contains(event, " took over from family ") || strings.Contains(event, "release "+good+" is confirmed")
}

// once fails unless each of so many devices succeeded with one command of this id, which
// took effect once.
func (e *effects) once(tb testing.TB, devices int, id string) {
	tb.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	for device, of := range e.commands {
		if len(of) != 1 || of[id] != wire.CommandSucceeded || e.taken[device] != 1 {
			tb.Errorf("%s: commands %v, of which %d took effect; want %s alone, and once", device, of, e.taken[device], id)
		}
	}
	if len(e.commands) != devices {
		tb.Errorf("%d devices were commanded, want %d", len(e.commands), devices)
	}
}

// process is a controller of its own, which is killed and started again.
type process struct {
	tb  testing.TB
	env []string
	cmd *exec.Cmd
}

func mustProcess(tb testing.TB, at mqtt.Broker) *process {
	tb.Helper()
	p := &process{tb: tb, env: append(os.Environ(), envController+"="+tb.TempDir(), envBroker+"="+at.URL[0])}
	p.start()
	tb.Cleanup(p.kill)
	return p
}

func (p *process) start() {
	p.tb.Helper()
	p.cmd = exec.Command(os.Args[0])
	p.cmd.Env, p.cmd.Stderr = p.env, os.Stderr
	if err := p.cmd.Start(); err != nil {
		p.tb.Fatal(err)
	}
}

// kill is SIGKILL.
func (p *process) kill() {
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

// TestAControllerKilledAtAnyMomentOfARolloutEndsTheSame kills a process, and not only
// behind what it writes.
func TestAControllerKilledAtAnyMomentOfARolloutEndsTheSame(t *testing.T) {
	const n = 20
	for name, to := range map[string]func(testing.TB, mqtt.Broker) change{
		"a family":  func(tb testing.TB, at mqtt.Broker) change { return toDusk(tb, at, n, promising(tb, 10)).compared() },
		"a release": func(tb testing.TB, at mqtt.Broker) change { return toGood(tb, at, n, 300*time.Millisecond) },
	} {
		t.Run(name, func(t *testing.T) {
			at := mustBroker(t)
			p := mustProcess(t, at)
			c, e := to(t, at), mustCount(t, at)
			asked := c.begin(func(s *wire.RolloutSpec) {
				s.Phases, s.SoakMS = []string{"1", "25%", "50%", "100%"}, new(500.0)
			})
			p.killNowAndThen(func() bool {
				doc, _ := c.remote.Rollout(c.id)
				return doc.State.Final()
			})
			if err := <-asked; err != nil {
				t.Fatal(err)
			}
			doc := c.becomes(c.id, wire.RolloutDone, "")
			for i, size := range []int{1, 4, 5, 10} {
				if p := doc.Phases[i]; p.Counts.Succeeded != size {
					t.Errorf("phase %d: got %+v, want that %d succeeded", i+1, p, size)
				}
			}
			c.there()
			e.once(t, n, c.id+".1")
		})
	}
}

// killNowAndThen kills the process at any moment, and starts it again, until what it is at
// has ended.
func (p *process) killNowAndThen(ended func() bool) {
	seed := rand.Uint64()
	r, kills := rand.New(rand.NewPCG(seed, 0)), 0
	for ; kills < 20; kills++ {
		<-time.After(time.Duration(r.Float64() * float64(3*time.Second)))
		if ended() {
			break
		}
		p.kill()
		p.start()
	}
	p.tb.Logf("seed %d: %d kills", seed, kills)
}

// TestABrokerThatForgetsAllInAPhaseOfAnUpdateChangesNothing kills it three times in each, on
// a device that was not in the phase before.
func TestABrokerThatForgetsAllInAPhaseOfAnUpdateChangesNothing(t *testing.T) {
	const n = 6
	slowed := func(slow func(*sim.Member)) func(testing.TB, mqtt.Broker) change {
		return func(tb testing.TB, at mqtt.Broker) change {
			p := promising(tb, 10)
			p.Families[dusk].Members = slices.Clone(p.Families[dusk].Members)
			for i := range p.Families[dusk].Members {
				slow(&p.Families[dusk].Members[i])
			}
			return toDusk(tb, at, n, p)
		}
	}
	compared := func(tb testing.TB, at mqtt.Broker) change { return toDusk(tb, at, n, promising(tb, 10)).compared() }
	release := func(tb testing.TB, at mqtt.Broker) change { return toGood(tb, at, n, time.Second) }
	for _, tt := range []struct {
		of    string
		phase wire.UpdatePhase
		to    func(testing.TB, mqtt.Broker) change // makes the phase last
	}{
		{"a family", wire.UpdateFetching, slowed(func(m *sim.Member) { m.KiB = 16 << 10 })},
		{"a family", wire.UpdateShadow, compared},
		{"a family", wire.UpdateActivating, slowed(func(m *sim.Member) { m.LoadMS = 200 })},
		{"a family", wire.UpdateProbation, slowed(func(*sim.Member) {})}, // by its frames
		{"a release", wire.UpdateFetching, release},
		{"a release", wire.UpdateActivating, release},
		{"a release", wire.UpdateTrial, release}, // by its pictures
	} {
		t.Run(tt.of+" "+string(tt.phase), func(t *testing.T) { forgetsAll(t, n, tt.to, tt.phase) })
	}
}

// forgetsAll kills a broker while devices are in a phase of an update.
func forgetsAll(t *testing.T, n int, to func(testing.TB, mqtt.Broker) change, phase wire.UpdatePhase) {
	broker := brokertest.StartMosquitto(t)
	at := mqtt.Broker{URL: mqtt.URLs{"mqtt://" + broker.Addr}}
	mustServe(t, at)
	c, e := to(t, at), mustCount(t, at)
	asked := c.begin(func(s *wire.RolloutSpec) { s.Probation = &wire.Probation{Frames: 30, MaxMissed: 5} })
	c.forget(broker, 3, phase)
	if err := <-asked; err != nil {
		t.Fatal(err)
	}
	c.becomes(c.id, wire.RolloutDone, "")
	c.there()
	e.once(t, n, c.id+".1")
}

// forget kills the broker, each time while another device is in a phase of its update.
func (y *yard) forget(broker *brokertest.Mosquitto, times int, phase wire.UpdatePhase) {
	y.tb.Helper()
	kills := map[string]bool{}
	picture := y.seen.Registry().Subscribe()
	defer picture.Close()
	ctx, cancel := context.WithTimeout(y.tb.Context(), patience)
	defer cancel()
	for len(kills) < times {
		d, err := picture.Next(ctx)
		if err != nil {
			y.tb.Fatalf("%d kills: %v", len(kills), err)
		}
		if u := d.Caps; u != nil && u.Update != nil && u.Update.Step == phase && !kills[d.Name] {
			kills[d.Name] = true
			broker.Kill()
			broker.Start()
		}
	}
	y.tb.Logf("the broker was killed while these were in the phase %s: %v", phase, kills)
}

// TestABrokerThatForgetsAllWhileABadReleaseIsOnTrialIsToldThatItWentBack is of releases that
// end as they are started, and of those that reach no broker until their time is over.
func TestABrokerThatForgetsAllWhileABadReleaseIsOnTrialIsToldThatItWentBack(t *testing.T) {
	const n = 3
	for version, reason := range map[string]slot.Reason{bad: slot.Crash, deaf: slot.NoLink} {
		t.Run(string(reason), func(t *testing.T) {
			broker := brokertest.StartMosquitto(t)
			at := mqtt.Broker{URL: mqtt.URLs{"mqtt://" + broker.Addr}}
			mustServe(t, at)
			y, d := mustReleasesAt(t, at, n, 10*time.Second, 0)
			e := mustCount(t, at)
			y.runs(old, 0)
			y.release(d, version, spec(nil))
			y.forget(broker, 1, wire.UpdateActivating)
			y.becomes(idOf(version), wire.RolloutFailed, "success")
			y.runs(old, 0)
			canary := y.commanded(idOf(version))
			e.mu.Lock()
			defer e.mu.Unlock()
			if len(canary) != 1 || e.commands[canary[0]][idOf(version)+".1"] != wire.CommandFailed {
				t.Fatalf("%v were commanded, and said %v; want that one did, and failed", canary, e.commands)
			}
			y.wentBack(canary[0], version, string(reason))
		})
	}
}
