package sim_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/fleet/controller"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/sim"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/store"
)

// The families of promising, by their places.
const (
	day   = iota // with which devices start
	night        // misses its deadlines
	dusk         // keeps them
)

// promising is a profile whose second family misses every deadline, and whose third none,
// also on a machine that does much else.
func promising(tb testing.TB, fps float64) *sim.Profile {
	tb.Helper()
	p := mustProfile(tb)
	p.Load, p.FPS, p.DeadlineMS = nil, fps, 500
	p.Families = append(p.Families, p.Families[day])
	p.Families[dusk].Name = "dusk"
	night := slices.Clone(p.Families[night].Members)
	for i := range night {
		night[i].TakesMS = 700
	}
	p.Families[1].Members = night
	return p
}

// yard is a fleet with a controller.
type yard struct {
	tb      testing.TB
	devices int
	profile *sim.Profile
	seen    *fleet.Client
	remote  *controller.Remote
}

// mustYard has a fleet and a controller run until the test ends.
func mustYard(tb testing.TB, n int, p *sim.Profile) *yard {
	tb.Helper()
	at := mustBroker(tb)
	mustServe(tb, at)
	return mustYardAt(tb, at, n, p)
}

// mustYardAt has a fleet run where a controller comes to.
func mustYardAt(tb testing.TB, at mqtt.Broker, n int, p *sim.Profile) *yard {
	tb.Helper()
	cfg := config(tb, n, at)
	cfg.Profile = p
	return mustYardOf(tb, at, cfg)
}

// mustYardOf has this fleet run there.
func mustYardOf(tb testing.TB, at mqtt.Broker, cfg sim.Config) *yard {
	tb.Helper()
	begin(tb, cfg)
	y := &yard{tb: tb, devices: cfg.Devices, profile: cfg.Profile, seen: mustOperator(tb, at), remote: mustRemote(tb, at)}
	await(tb, y.seen, func(s sim.Seen) bool { return s.Online == y.devices })
	return y
}

// mustServe runs a controller until the test ends.
func mustServe(tb testing.TB, at mqtt.Broker) {
	tb.Helper()
	dir := tb.TempDir()
	until(tb, func(ctx context.Context) error { return serveFleet(ctx, at, dir) })
}

// serveFleet runs a controller from a state folder.
func serveFleet(ctx context.Context, at mqtt.Broker, dir string) (err error) {
	link, err := at.Config("controller")
	if err != nil {
		return err
	}
	log := slog.New(slog.DiscardHandler)
	documents, err := store.OpenDocuments(dir, store.Options{NoSync: true}, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, documents.Close()) }()
	c, err := controller.New(controller.Config{Fleet: wire.DefaultFleet, Broker: link, Dir: dir}, documents, log)
	if err != nil {
		return err
	}
	return c.Run(ctx)
}

// mustRemote is an operator who has found the controller.
func mustRemote(tb testing.TB, at mqtt.Broker) *controller.Remote {
	tb.Helper()
	link, err := at.Config("remote")
	if err != nil {
		tb.Fatal(err)
	}
	r, err := controller.OpenRemote(link, wire.DefaultFleet, slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatal(err)
	}
	until(tb, r.Run)
	for end := time.Now().Add(patience); ; {
		err := r.Find(tb.Context())
		if err == nil {
			return r
		}
		if time.Now().After(end) {
			tb.Fatal(err)
		}
	}
}

// do gives the controller a command, which must succeed.
func (y *yard) do(c wire.RolloutCommand) {
	y.tb.Helper()
	if _, err := y.remote.Do(y.tb.Context(), c, patience, nil); err != nil {
		y.tb.Fatalf("%s %s: %v", c.Action, c.Rollout, err)
	}
}

// start starts the rollout of a family under its name.
func (y *yard) start(i int, s wire.RolloutSpec) {
	y.tb.Helper()
	f, err := y.profile.Folder(i)
	if err != nil {
		y.tb.Fatal(err)
	}
	ctx, stop := context.WithCancel(y.tb.Context())
	defer stop()
	go y.remote.Serve(ctx, f)
	s.Family = y.named(i)
	y.do(wire.RolloutCommand{Action: wire.RolloutStart, Rollout: f.Name, Spec: &s})
}

// named is a family as commands name it.
func (y *yard) named(i int) *wire.Family {
	y.tb.Helper()
	f := mustFolder(y.tb, y.profile, i)
	return &wire.Family{Name: f.Name, Digest: "sha256:" + string(f.Digest())}
}

// becomes waits until a rollout is in a state, and says why.
func (y *yard) becomes(id string, state wire.RolloutState, why string) (r wire.Rollout) {
	y.tb.Helper()
	began := time.Now()
	r = y.shows(id, func(r wire.Rollout) bool { return r.State == state && strings.Contains(r.Why, why) })
	y.tb.Logf("rollout %s is %s after %v: %s", id, r.State, time.Since(began), r.Why)
	return r
}

// shows waits until a rollout is as it should be.
func (y *yard) shows(id string, should func(wire.Rollout) bool) wire.Rollout {
	y.tb.Helper()
	ctx, cancel := context.WithTimeout(y.tb.Context(), patience)
	defer cancel()
	for {
		r, known := y.remote.Rollout(id)
		if known && should(r) {
			return r
		}
		if err := y.remote.Changed(ctx); err != nil {
			y.tb.Fatalf("rollout %s: %+v, and then %v", id, r, err)
		}
	}
}

// uses fails unless a family is in use on so many devices, and the first on all others.
func (y *yard) uses(i, devices int) {
	y.tb.Helper()
	ctx, cancel := context.WithTimeout(y.tb.Context(), patience)
	defer cancel()
	s := y.seen.Registry().Subscribe()
	defer s.Close()
	want, names := map[string]int{y.profile.Families[day].Name: y.devices - devices}, map[string]string{}
	want[y.profile.Families[i].Name] += devices
	for {
		count := map[string]int{}
		for _, name := range names {
			count[name]++
		}
		if len(names) == y.devices && count[y.profile.Families[i].Name] == want[y.profile.Families[i].Name] {
			return
		}
		d, err := s.Next(ctx)
		if err != nil {
			y.tb.Fatalf("families in use: %v, want %v", count, want)
		}
		if d.Caps != nil && d.Caps.Family != nil && d.Caps.Update == nil {
			names[d.Name] = d.Caps.Family.Name
		}
	}
}

// updated are the devices on which an update ended, by how.
func (y *yard) updated() map[string]int {
	ended := map[string]int{}
	for _, d := range y.seen.Registry().Devices() {
		if d.Caps != nil && d.Caps.LastUpdate != nil {
			u := d.Caps.LastUpdate
			ended[fmt.Sprintf("%s: %s %s, rolled back: %t", u.ID, u.State, u.Reason, u.RolledBack)]++
		}
	}
	return ended
}

// few is a probation that a family passes or fails in seconds.
var few = wire.Probation{Frames: 10, MaxMissed: 5}

// spec is one of a canary and two more phases, which looks at success alone.
func spec(change func(*wire.RolloutSpec)) wire.RolloutSpec {
	s := wire.RolloutSpec{Update: wire.Update{Probation: &few}, Phases: []string{"1", "50%", "100%"}, SoakMS: new(0.0),
		Gates: []wire.Gate{{Name: wire.GateSuccess, Limit: "0.9"}}}
	if change != nil {
		change(&s)
	}
	return s
}

// rolledOut is what happens to families in a fleet.
func rolledOut(t *testing.T, n int, fps float64) {
	y := mustYard(t, n, promising(t, fps))
	// A family that misses its deadlines goes back on the canary by itself, and nobody else gets it.
	y.start(night, spec(nil))
	r := y.becomes("night", wire.RolloutFailed, "success")
	if c := r.Phases[0].Counts; c.Failed != 1 || r.Phases[1].Counts.Cancelled+r.Phases[2].Counts.Cancelled != n-1 {
		t.Errorf("night: got %+v, want that one failed and no other began", r.Phases)
	}
	y.uses(day, n)
	if got := y.updated(); len(got) != 1 || got["night.1: failed infeasible, rolled back: true"] != 1 {
		t.Errorf("updates: got %v, want one that was rolled back", got)
	}
	// Too little evidence is none: it waits, and an operator may have it go back.
	y.start(dusk, spec(func(s *wire.RolloutSpec) {
		s.Observe = 1_000_000
		s.Gates = append(s.Gates, wire.Gate{Name: wire.GateMisses, Limit: "0.5"})
	}))
	y.becomes("dusk", wire.RolloutWaiting, "misses: ")
	y.uses(dusk, 1)
	y.do(wire.RolloutCommand{Action: wire.RolloutAbort, Rollout: "dusk", Rollback: true})
	y.becomes("dusk", wire.RolloutAborted, "")
	y.uses(day, n)
}

func TestAFamilyThatMissesDeadlinesGoesNoFurtherThanTheCanaryAndTooLittleEvidenceWaits(t *testing.T) {
	t.Parallel()
	rolledOut(t, 6, 10)
}

func TestAFamilyThatKeepsItsPromiseReachesAllPhaseByPhase(t *testing.T) {
	t.Parallel()
	const n = 6
	y := mustYard(t, n, promising(t, 10))
	y.start(dusk, spec(func(s *wire.RolloutSpec) { s.Gates[0].Limit = "1" }))
	r := y.becomes("dusk", wire.RolloutDone, "")
	for i, size := range []int{1, 2, 3} {
		if p := r.Phases[i]; p.State != wire.PhasePassed || p.Counts.Succeeded != size {
			t.Errorf("phase %d: got %+v, want that all %d succeeded", i+1, p, size)
		}
	}
	y.uses(dusk, n)
}

func TestAFamilyFailsItsTrialInTheWayThatItIsToldTo(t *testing.T) {
	t.Parallel()
	for how, want := range map[sim.Failure]string{
		sim.Canary: "dusk.1: failed unsupported, rolled back: false",
		sim.Misses: "dusk.1: failed infeasible, rolled back: true",
	} {
		t.Run(string(how), func(t *testing.T) {
			t.Parallel()
			p := promising(t, 10)
			if err := p.Fail("dusk", string(how)); err != nil {
				t.Fatal(err)
			}
			y := mustYard(t, 2, p)
			y.start(dusk, spec(nil))
			y.becomes("dusk", wire.RolloutFailed, "success")
			y.uses(day, 2)
			if got := y.updated(); len(got) != 1 || got[want] != 1 {
				t.Errorf("got %v, want %s", got, want)
			}
		})
	}
}
