package rollout_test

import (
	"slices"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/fleet/rollout"
	"github.com/limber-edge/limber/agent/wire"
)

func TestOverlappingRolloutsOfAKindAreRefusedAndNameTheFirst(t *testing.T) {
	g := newRig(t, 4)
	g.begin(wire.RolloutSpec{})
	g.others = append(g.others, g.r)
	_, err := g.new("s", wire.RolloutSpec{})
	wantRefused(t, err, wire.Conflict, "rollout r is under way on ")
	if _, err := g.new("s", wire.RolloutSpec{Mode: "low-latency"}); err != nil {
		t.Errorf("a rollout of another kind was refused: %v", err)
	}
	_, err = g.new("r", wire.RolloutSpec{Mode: "low-latency"})
	wantRefused(t, err, wire.Conflict, "id r")
	for _, name := range []string{"d-0000", "d-0001", "d-0002", "d-0003"} {
		g.set(name, func(d *fleet.Device) { d.Labels = map[string]string{"site": "rome"} })
	}
	g.join("d-other")
	g.where = "berlin"
	if _, err := g.new("s", wire.RolloutSpec{}); err != nil {
		t.Errorf("a rollout to other devices was refused: %v", err)
	}
}

func TestSupersedeTakesTheUnstartedOfTheFirst(t *testing.T) {
	g := newRig(t, 4)
	g.begin(wire.RolloutSpec{Phases: []string{"1", "100%"}})
	started := g.order()[0]
	g.others = append(g.others, g.r)
	second, err := g.new("s", wire.RolloutSpec{Update: updateTo("newer"), Supersede: true, Phases: []string{"100%"}})
	if err != nil {
		t.Fatal(err)
	}
	if c := g.r.Document()[0].Phases; c[0].Counts.Running != 1 || c[1].Counts.Superseded != 3 {
		t.Errorf("got %+v of the first; want one running, three superseded", c)
	}
	first := g.r
	g.r, g.others = second, []*rollout.Record{first}
	g.step()
	if slices.Contains(g.commanded(), started) || len(g.commanded()) != 3 {
		t.Errorf("got commands for %v; want the three others than %s, which has one open", g.commanded(), started)
	}
	g.r, g.others = first, []*rollout.Record{g.r}
	g.pass()
	g.want(wire.RolloutDone, "")
	g.r, g.others = g.others[0], []*rollout.Record{g.r}
	g.step()
	if !slices.Contains(g.commanded(), started) {
		t.Errorf("got commands for %v; want %s among them by now", g.commanded(), started)
	}
}

func TestARolloutOfWhichNothingIsLeftIsAborted(t *testing.T) {
	g := newRig(t, 4)
	first, err := g.new("r", wire.RolloutSpec{})
	if err != nil {
		t.Fatal(err)
	}
	g.others = append(g.others, first)
	if _, err := g.new("s", wire.RolloutSpec{Supersede: true}); err != nil {
		t.Fatal(err)
	}
	g.r, g.others = first, nil
	g.step()
	g.want(wire.RolloutAborted, "another rollout")
}

func TestFollowLeavesDevicesToTheRolloutThatHasThem(t *testing.T) {
	for name, started := range map[string]time.Duration{"that lives": -time.Minute, "that came later": time.Minute} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, 2)
			g.begin(wire.RolloutSpec{Follow: true})
			g.join("d-late")
			first := g.r
			g.where = "rome"
			g.set("d-late", func(d *fleet.Device) { d.Labels = map[string]string{"site": "rome"} })
			other, err := g.new("s", wire.RolloutSpec{})
			if err != nil {
				t.Fatal(err)
			}
			other.Start = wire.At(first.Start.Add(started))
			if started > 0 {
				other.State = wire.RolloutDone
			}
			g.where, g.others = "", []*rollout.Record{other}
			g.step()
			if len(g.order()) != 2 {
				t.Errorf("got %v; want it without d-late", g.order())
			}
		})
	}
}

func TestAnotherMachineIsLeftToTheRolloutThatWasStartedLast(t *testing.T) {
	g := newRig(t, 2)
	g.begin(wire.RolloutSpec{Phases: []string{"100%"}})
	g.succeed()
	other, err := g.new("s", wire.RolloutSpec{Update: updateTo("newer")})
	if err != nil {
		t.Fatal(err)
	}
	other.Start = wire.At(g.now.Add(time.Second))
	g.others = []*rollout.Record{other}
	g.set("d-0000", func(d *fleet.Device) { d.Caps.Machine = "another" })
	g.step()
	if d := g.device("d-0000"); d.State != wire.DeviceSuperseded || d.Detail != "by s" || d.Machine != "another" {
		t.Errorf("got %+v; want it superseded by s", d)
	}
}

func TestDevicesOfOtherRolloutsAreUnavailableAsWell(t *testing.T) {
	g := newRig(t, 4)
	g.where = "rome"
	g.set("d-0003", func(d *fleet.Device) { d.Labels = map[string]string{"site": "rome"} })
	g.begin(wire.RolloutSpec{})
	g.wantCommanded("d-0003")
	other := g.r
	g.set("d-0003", func(d *fleet.Device) { d.Labels = map[string]string{"site": "berlin"} })
	g.where, g.others = "berlin", []*rollout.Record{other}
	second, err := g.new("s", wire.RolloutSpec{Supersede: true, Phases: []string{"100%"},
		MaxUnavailable: &wire.Unavailable{N: 1, Label: "site"}})
	if err != nil {
		t.Fatal(err)
	}
	g.r = second
	g.step()
	g.wantCommanded()
	g.want(wire.RolloutWaiting, "as many of site=berlin are unavailable as may be")
}

func TestRetryIsRefusedForDevicesOfAnotherRollout(t *testing.T) {
	g := newRig(t, 1)
	g.begin(wire.RolloutSpec{})
	g.fail("d-0000", wire.Internal)
	other, err := g.new("s", wire.RolloutSpec{})
	if err != nil {
		t.Fatal(err)
	}
	g.others = []*rollout.Record{other}
	wantRefused(t, g.do(wire.RolloutCommand{Action: wire.RolloutRetry}), wire.Conflict, "rollout s is under way on d-0000")
	g.want(wire.RolloutFailed, "")
}
