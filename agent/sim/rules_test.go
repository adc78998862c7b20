package sim_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/sim"
	"github.com/limber-edge/limber/agent/wire"
)

// steady is a profile of families of one member, which takes so many milliseconds: so long
// that what a busy machine adds to it is little.
func steady(tb testing.TB, fps float64, takes map[string]float64) *sim.Profile {
	tb.Helper()
	p := mustProfile(tb)
	p.Load, p.FPS, p.DeadlineMS = nil, fps, 1500
	member := sim.Member{Name: "only", Top1: 0.75, LatencyMS: 500}
	p.Families = []sim.Family{{Name: "before", Classes: 10, Members: []sim.Member{member}}}
	for name, ms := range takes {
		member.TakesMS = ms
		p.Families = append(p.Families, sim.Family{Name: name, Classes: 10, Members: []sim.Member{member}})
	}
	return p
}

// place is that of a family in the profile.
func (y *yard) place(name string) int {
	return slices.IndexFunc(y.profile.Families, func(f sim.Family) bool { return f.Name == name })
}

// label has the devices of these numbers have a label.
func (y *yard) label(key, value string, devices ...int) {
	y.tb.Helper()
	for _, i := range devices {
		change := []fleet.LabelChange{{Key: key, Value: value}}
		if _, err := y.seen.SetLabels(y.tb.Context(), wire.DefaultFleet, sim.Name(i), change, patience); err != nil {
			y.tb.Fatal(err)
		}
	}
}

// atOnce is the spec of a rollout on which nothing waits for frames.
func atOnce(change func(*wire.RolloutSpec)) wire.RolloutSpec {
	return spec(func(s *wire.RolloutSpec) {
		s.Probation = &wire.Probation{MaxMissed: 9}
		change(s)
	})
}

func TestAGateWithXHoldsAFamilyAgainstTheDevicesOwnHourBefore(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		takes float64 // ms; 500 before
		state wire.RolloutState
		why   string
	}{
		{"as good", 500, wire.RolloutDone, ""},
		{"slower and in time", 800, wire.RolloutFailed, "phase 1: p95 is"},
		{"late", 1700, wire.RolloutFailed, "phase 1: misses is"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			at := mustBroker(t)
			mustServe(t, at)
			cfg := config(t, 3, at)
			cfg.Telemetry, cfg.Profile = time.Second, steady(t, 1.1, map[string]float64{"next": tt.takes})
			y := mustYardOf(t, at, cfg)
			y.start(1, spec(func(s *wire.RolloutSpec) {
				s.Probation = &wire.Probation{Frames: 1, MaxMissed: 1000} // the device itself does not mind
				s.Phases, s.Observe = []string{"1", "100%"}, 5
				s.Gates = append(s.Gates, wire.Gate{Name: wire.GateMisses, Limit: "1.2x"}, wire.Gate{Name: wire.GateP95, Limit: "1.2x"})
			}))
			y.becomes("next", tt.state, tt.why)
		})
	}
}

func TestAPhaseWithoutABaselineWaits(t *testing.T) {
	t.Parallel()
	y := mustYard(t, 2, steady(t, 0, map[string]float64{"next": 500}))
	y.start(1, atOnce(func(s *wire.RolloutSpec) {
		s.Gates = append(s.Gates, wire.Gate{Name: wire.GateMisses, Limit: "1.2x"})
	}))
	y.becomes("next", wire.RolloutWaiting, "no baseline of misses")
	y.uses(1, 0)
}

func TestFollowTakesDevicesThatFitLaterIntoTheLastPhase(t *testing.T) {
	t.Parallel()
	y := mustYard(t, 4, steady(t, 0, map[string]float64{"next": 500}))
	y.label("site", "berlin", 0, 1)
	y.start(1, atOnce(func(s *wire.RolloutSpec) {
		s.Where, s.Follow, s.Approve, s.Phases = "label.site=berlin", true, true, []string{"1", "100%"}
	}))
	y.becomes("next", wire.RolloutApproval, "phase 2 of 2")
	y.label("site", "berlin", 2)
	y.shows("next", func(r wire.Rollout) bool { return r.Phases[0].Size == 1 && r.Phases[1].Size == 2 })
	y.do(wire.RolloutCommand{Action: wire.RolloutApprove, Rollout: "next"})
	y.becomes("next", wire.RolloutDone, "")
	y.label("site", "berlin", 3) // which is too late
	y.uses(1, 3)
}

func TestASecondRolloutIsRefusedOrTakesWhatTheFirstHasNotStarted(t *testing.T) {
	t.Parallel()
	y := mustYard(t, 3, steady(t, 0, map[string]float64{"first": 500, "second": 500}))
	y.start(y.place("first"), atOnce(func(s *wire.RolloutSpec) { s.Approve, s.Phases = true, []string{"1", "100%"} }))
	y.becomes("first", wire.RolloutApproval, "")
	all := wire.RolloutSpec{Update: wire.Update{Family: y.named(y.place("second")), Sources: []string{"http://127.0.0.1:9/"}}}
	_, err := y.remote.Do(t.Context(), wire.RolloutCommand{Action: wire.RolloutStart, Rollout: "second", Spec: &all}, patience, nil)
	if refusal, ok := errors.AsType[*wire.Refusal](err); !ok || refusal.Reason != wire.Conflict {
		t.Errorf("got %v; want a conflict, as the first is under way", err)
	}
	y.start(y.place("second"), atOnce(func(s *wire.RolloutSpec) { s.Supersede = true }))
	r := y.becomes("first", wire.RolloutDone, "")
	if c := r.Phases[1].Counts; c.Superseded != 2 || r.Phases[0].Counts.Succeeded != 1 {
		t.Errorf("got %+v; want the canary done, and two left to the second", r.Phases)
	}
	y.becomes("second", wire.RolloutDone, "")
	y.uses(y.place("second"), 3)
}

func TestNoMoreThanNOfALabelsValueAreUnavailableAtOnce(t *testing.T) {
	t.Parallel()
	y := mustYard(t, 4, steady(t, 1.5, map[string]float64{"next": 500}))
	y.label("site", "berlin", 0, 1)
	y.label("site", "rome", 2, 3)
	most := make(chan map[string]int, 1)
	ctx, stop := context.WithCancel(t.Context())
	go func() { most <- y.busiest(ctx) }()
	y.start(1, spec(func(s *wire.RolloutSpec) {
		s.Phases, s.MaxUnavailable = []string{"100%"}, &wire.Unavailable{N: 1, Label: "site"}
		s.Probation = &wire.Probation{Frames: 2, MaxMissed: 9}
	}))
	y.becomes("next", wire.RolloutDone, "")
	y.uses(1, 4)
	stop()
	if got := <-most; got["berlin"] != 1 || got["rome"] != 1 {
		t.Errorf("got up to %v devices of each site on their way at once, want one", got)
	}
}

// busiest is how many devices of each site were at an update at once, as they said
// themselves until ctx ended.
func (y *yard) busiest(ctx context.Context) map[string]int {
	s := y.seen.Registry().Subscribe()
	defer s.Close()
	most, at := map[string]int{}, map[string]map[string]bool{"berlin": {}, "rome": {}}
	for {
		d, err := s.Next(ctx)
		if err != nil {
			return most
		}
		site := d.Labels["site"]
		if at[site] == nil {
			continue
		}
		at[site][d.Name] = true
		if d.Caps == nil || d.Caps.Update == nil {
			delete(at[site], d.Name)
		}
		most[site] = max(most[site], len(at[site]))
	}
}

func TestTheSameNameWithAnotherMachineTakesTheRolloutAgain(t *testing.T) {
	t.Parallel()
	at := mustBroker(t)
	mustServe(t, at)
	p := steady(t, 0, map[string]float64{"next": 500})
	fresh := func() sim.Config {
		cfg := config(t, 1, at)
		cfg.Profile = p
		return cfg
	}
	_, end := beginUntil(t, fresh())
	y := &yard{tb: t, devices: 1, profile: p, seen: mustOperator(t, at), remote: mustRemote(t, at)}
	await(t, y.seen, func(s sim.Seen) bool { return s.Online == 1 })
	y.start(1, atOnce(func(s *wire.RolloutSpec) { s.SoakMS = new(3_600_000.0) }))
	was := y.shows("next", func(r wire.Rollout) bool { return r.Phases[0].Counts.Succeeded == 1 }).Devices[0]
	end()
	y.shows("next", func(r wire.Rollout) bool { return r.Phases[0].Counts.Succeeded == 1 && r.State == wire.RolloutWaiting })
	begin(t, fresh())
	y.shows("next", func(r wire.Rollout) bool { return r.Phases[0].Counts.Succeeded == 0 })
	is := y.shows("next", func(r wire.Rollout) bool { return r.Phases[0].Counts.Succeeded == 1 }).Devices[0]
	if is.Machine == was.Machine || is.Attempt != was.Attempt+1 {
		t.Errorf("got %+v, then %+v; want another machine, and one more attempt", was, is)
	}
	y.uses(1, 1)
}
