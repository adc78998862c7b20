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
)

// effects is what devices tell of commands for families, and of families that took over.
type effects struct {
	mu       sync.Mutex
	commands map[string]map[string]wire.Step // by device and id, the last state
	taken    map[string]int                  // by device, families that took over
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
		case t.Kind == wire.KindAck && t.Verb == wire.VerbFamily:
			var a wire.Ack
			if err = wire.Decode(m.Payload, &a); err == nil {
				if e.commands[t.Device] == nil {
					e.commands[t.Device] = map[string]wire.Step{}
				}
				e.commands[t.Device][t.ID] = a.State
			}
		case t.Kind == wire.KindEvent && strings.Contains(string(m.Payload), " took over from family "):
			e.taken[t.Device]++
		}
		e.mu.Unlock()
		if err != nil {
			return fmt.Errorf("%s: %w", m.Topic, err)
		}
	}
}

// once fails unless each of so many devices succeeded with one command of this id, and one
// family took over on it.
func (e *effects) once(tb testing.TB, devices int, id string) {
	tb.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	for device, of := range e.commands {
		if len(of) != 1 || of[id] != wire.CommandSucceeded || e.taken[device] != 1 {
			tb.Errorf("%s: commands %v, and %d families took over; want %s alone, and one", device, of, e.taken[device], id)
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
	at := mustBroker(t)
	p := mustProcess(t, at)
	y, e := mustYardAt(t, at, n, promising(t, 10)), mustCount(t, at)
	f, err := y.profile.Folder(dusk)
	if err != nil {
		t.Fatal(err)
	}
	go y.remote.Serve(t.Context(), f) // also to one that is killed while it takes it
	s := spec(func(s *wire.RolloutSpec) {
		s.Phases, s.SoakMS = []string{"1", "25%", "50%", "100%"}, new(500.0)
		s.Family = &wire.Family{Name: f.Name, Digest: "sha256:" + string(f.Digest())}
	})
	asked := make(chan error, 1)
	go func() {
		start := wire.RolloutCommand{Action: wire.RolloutStart, Rollout: "dusk", Spec: &s}
		_, err := y.remote.Do(t.Context(), start, patience, nil)
		asked <- err
	}()
	seed := rand.Uint64()
	r, kills := rand.New(rand.NewPCG(seed, 0)), 0
	ended := func() bool {
		doc, _ := y.remote.Rollout("dusk")
		return doc.State.Final()
	}
	for ; kills < 20; kills++ {
		<-time.After(time.Duration(r.Float64() * float64(3*time.Second)))
		if ended() {
			break
		}
		p.kill()
		p.start()
	}
	t.Logf("seed %d: %d kills", seed, kills)
	if err := <-asked; err != nil {
		t.Fatal(err)
	}
	doc := y.becomes("dusk", wire.RolloutDone, "")
	for i, size := range []int{1, 4, 5, 10} {
		if p := doc.Phases[i]; p.Counts.Succeeded != size {
			t.Errorf("phase %d: got %+v, want that %d succeeded", i+1, p, size)
		}
	}
	y.uses(dusk, n)
	e.once(t, n, "dusk.1")
}

// TestABrokerThatForgetsAllInAPhaseOfAnUpdateChangesNothing kills it three times in each, on
// a device that was not in the phase before.
func TestABrokerThatForgetsAllInAPhaseOfAnUpdateChangesNothing(t *testing.T) {
	for _, tt := range []struct {
		phase wire.UpdatePhase
		slow  func(*sim.Member) // makes the phase last
	}{
		{wire.UpdateFetching, func(m *sim.Member) { m.KiB = 16 << 10 }},
		{wire.UpdateActivating, func(m *sim.Member) { m.LoadMS = 200 }},
		{wire.UpdateProbation, func(*sim.Member) {}}, // by its frames
	} {
		t.Run(string(tt.phase), func(t *testing.T) {
			p := promising(t, 10)
			p.Families[dusk].Members = slices.Clone(p.Families[dusk].Members)
			for i := range p.Families[dusk].Members {
				tt.slow(&p.Families[dusk].Members[i])
			}
			forgetsAll(t, p, tt.phase)
		})
	}
}

// forgetsAll kills a broker while devices are in a phase of the update to dusk.
func forgetsAll(t *testing.T, p *sim.Profile, phase wire.UpdatePhase) {
	const n = 6
	broker := brokertest.StartMosquitto(t)
	at := mqtt.Broker{URL: mqtt.URLs{"mqtt://" + broker.Addr}}
	mustServe(t, at)
	y, e := mustYardAt(t, at, n, p), mustCount(t, at)
	started := make(chan struct{})
	go func() {
		defer close(started)
		y.start(dusk, spec(func(s *wire.RolloutSpec) { s.Probation = &wire.Probation{Frames: 30, MaxMissed: 5} }))
	}()
	kills := map[string]bool{}
	picture := y.seen.Registry().Subscribe()
	defer picture.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for len(kills) < 3 {
		d, err := picture.Next(ctx)
		if err != nil {
			t.Fatalf("%d kills: %v", len(kills), err)
		}
		if u := d.Caps; u != nil && u.Update != nil && u.Update.Step == phase && !kills[d.Name] {
			kills[d.Name] = true
			broker.Kill()
			broker.Start()
		}
	}
	<-started
	y.becomes("dusk", wire.RolloutDone, "")
	t.Logf("the broker was killed while these were in the phase %s: %v", phase, kills)
	y.uses(dusk, n)
	e.once(t, n, "dusk.1")
}
