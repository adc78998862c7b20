package sim_test

import (
	"context"
	"log/slog"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/sim"
	"github.com/limber-edge/limber/agent/wire"
)

// beside is a profile of families of one member, which are as fast as another and go astray
// from the first on a share of the pictures.
func beside(tb testing.TB, agreement map[string]float64) *sim.Profile {
	tb.Helper()
	p := mustProfile(tb)
	p.Load, p.FPS, p.DeadlineMS = nil, 40, 1500
	member := sim.Member{Name: "only", Top1: 0.75, LatencyMS: 4}
	p.Families = []sim.Family{{Name: "before", Classes: 10, Members: []sim.Member{member}}}
	for name, share := range agreement {
		member.Agreement = share
		p.Families = append(p.Families, sim.Family{Name: name, Classes: 10, Members: []sim.Member{member}})
	}
	return p
}

// answers are all results that devices published, by family.
type answers struct {
	mu       sync.Mutex
	families map[string]int
}

// mustAnswers counts until the test ends. It is there before it returns.
func mustAnswers(tb testing.TB, at mqtt.Broker) *answers {
	tb.Helper()
	link, err := at.Config("answers")
	if err != nil {
		tb.Fatal(err)
	}
	box, err := fleet.OpenMailbox(link, slog.New(slog.DiscardHandler),
		wire.FleetFilter(wire.DefaultFleet, wire.KindResult))
	if err != nil {
		tb.Fatal(err)
	}
	a := &answers{families: map[string]int{}}
	until(tb, box.Run)
	until(tb, func(ctx context.Context) error { return a.count(ctx, box) })
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	if err := box.Ready(ctx); err != nil {
		tb.Fatal(err)
	}
	return a
}

func (a *answers) count(ctx context.Context, box *fleet.Mailbox) error {
	for {
		m, err := box.Next(ctx)
		if err != nil {
			return nil
		}
		var r wire.Result
		if err := wire.Decode(m.Payload, &r); err != nil {
			return err
		}
		a.mu.Lock()
		if r.Status == wire.OK {
			a.families[r.Family]++
		}
		a.mu.Unlock()
	}
}

// of is how many results of a family there are by now.
func (a *answers) of(family string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.families[family]
}

// more waits until there are so many more of a family.
func (a *answers) more(tb testing.TB, family string, n int) {
	tb.Helper()
	began, was := time.Now(), a.of(family)
	for a.of(family) < was+n {
		if time.Since(began) > patience {
			tb.Fatalf("got %d results of %s, want %d", a.of(family), family, was+n)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// swift is a comparison on all frames, which takes seconds.
func swift(change func(*wire.RolloutSpec)) wire.RolloutSpec {
	return spec(func(s *wire.RolloutSpec) {
		s.Shadow, s.Observe = &wire.Shadow{Percent: new(100.0)}, 40
		s.Gates = []wire.Gate{{Name: wire.GateAgreement, Limit: "0.9"}, {Name: wire.GateSuccess, Limit: "0.9"}}
		if change != nil {
			change(s)
		}
	})
}

func TestARolloutWhoseCandidateAgreesTooLittleStopsInShadowNeverHavingAnswered(t *testing.T) {
	t.Parallel()
	const n = 6
	at := mustBroker(t)
	mustServe(t, at)
	a := mustAnswers(t, at)
	y := mustYardAt(t, at, n, beside(t, map[string]float64{"stranger": 0.6}))
	y.start(1, swift(nil))
	r := y.becomes("stranger", wire.RolloutFailed, "phase 1: agreement is 0.")
	a.more(t, "before", 10*n) // what is answered by now has been published
	if got := a.of("stranger"); got != 0 {
		t.Errorf("%d results are of the candidate; want none", got)
	}
	t.Logf("%d results of the family before", a.of("before"))
	c := r.Phases[0].Counts
	if c.Failed+c.Cancelled != 1 || c.Succeeded != 0 || r.Phases[1].Counts.Cancelled+r.Phases[2].Counts.Cancelled != n-1 {
		t.Errorf("got %+v; want that one compared, and no other began", r.Phases)
	}
	if is := r.Devices[0].Shadow; is == nil || is.Frames < 40 || *is.Agreement > 0.8 {
		t.Errorf("got %+v; want what its comparison came to", is)
	}
	y.uses(day, n)
}

func TestACandidateThatAgreesIsComparedOnEachDeviceAndTakenByAll(t *testing.T) {
	t.Parallel()
	const n = 4
	y := mustYard(t, n, beside(t, map[string]float64{"like": 0}))
	y.start(1, swift(nil))
	r := y.becomes("like", wire.RolloutDone, "")
	for _, d := range r.Devices {
		if d.State != wire.DeviceSucceeded || d.Shadow == nil || d.Shadow.Frames != 40 || d.Shadow.Agreed != 40 {
			t.Errorf("got %+v of %+v; want it succeeded with 40 frames, which all agree", d.Shadow, d)
		}
	}
	y.uses(1, n)
}

func TestARolloutThatOnlyComparesTellsFiguresOfAllAndDevicesKeepWhatTheyHad(t *testing.T) {
	t.Parallel()
	const n = 4
	at := mustBroker(t)
	mustServe(t, at)
	a := mustAnswers(t, at)
	y := mustYardAt(t, at, n, beside(t, map[string]float64{"near": 0.8}))
	y.start(1, wire.RolloutSpec{Update: wire.Update{Shadow: &wire.Shadow{Percent: new(100.0), Only: true}}, Observe: 100})
	r := y.becomes("near", wire.RolloutFailed, "phase 1: agreement is 0.")
	a.more(t, "before", 10*n)
	if got := a.of("near"); got != 0 {
		t.Errorf("%d results are of the candidate; want none", got)
	}
	for _, d := range r.Devices {
		is := d.Shadow // of few pictures, again and again
		if d.State != wire.DeviceSucceeded || is == nil || is.Frames != 100 || math.Abs(*is.Agreement-0.8) > 0.4 ||
			*is.P95MS < 4 {
			t.Errorf("got %+v of %+v; want 100 frames, of which some 0.8 agree, at 4 ms", is, d)
		}
	}
	y.uses(day, n)
	for name, count := range y.updated() {
		t.Logf("%s: %d", name, count)
	}
}
