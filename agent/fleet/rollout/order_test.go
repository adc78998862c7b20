package rollout_test

import (
	"slices"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/fleet/rollout"
	"github.com/limber-edge/limber/agent/wire"
)

// swap has the other rollout of two take its turn.
func (g *rig) swap() { g.r, g.others = g.others[0], []*rollout.Record{g.r} }

func TestAPhaseWhoseDevicesAllWentAwayWaits(t *testing.T) {
	g := newRig(t, 4)
	g.begin(wire.RolloutSpec{Phases: []string{"2", "100%"}})
	order := g.order()
	g.succeed()
	g.traffic(nil, 600, 6, 10)
	g.off(order[0], order[1])
	g.after(20 * time.Minute)
	g.want(wire.RolloutWaiting, "no device of phase 1 is online")
	g.wantCommanded()
	g.on(order[1])
	g.step()
	g.wantCommanded(order[2:]...)
}

func TestOneThatIsAlreadyThereAndOfflineIsNoneThatIsOnline(t *testing.T) {
	g := newRig(t, 4)
	order := func() []string { g.begin(wire.RolloutSpec{Phases: []string{"2", "100%"}}); return g.order() }()
	g = newRig(t, 4)
	g.set(order[0], func(d *fleet.Device) { d.Caps.Family = new(family("new")) })
	g.off(order[0], order[1])
	g.begin(wire.RolloutSpec{Phases: []string{"2", "100%"}})
	g.after(30 * time.Minute)
	g.want(wire.RolloutWaiting, "no device of phase 1 is online")
	g.wantCommanded()
}

func TestAPhaseOfAnotherMachineIsObservedAnew(t *testing.T) {
	g := newRig(t, 4)
	g.begin(wire.RolloutSpec{Phases: []string{"1", "100%"}, Gates: gates("success=0.5")})
	first := g.order()[0]
	g.succeed()
	g.after(9 * time.Minute)
	g.set(first, func(d *fleet.Device) { d.Caps.Machine = "another"; d.Caps.Family = new(family("old")) })
	g.step()
	g.succeed()
	g.after(9 * time.Minute)
	g.want(wire.RolloutWaiting, "observed until")
	g.after(time.Minute)
	g.wantCommanded(g.order()[1:]...)
}

func TestAPhaseThatAnotherRolloutTookWaitsForNoApproval(t *testing.T) {
	g := newRig(t, 4)
	g.begin(wire.RolloutSpec{Phases: []string{"1", "100%"}, Approve: true})
	g.pass()
	g.want(wire.RolloutApproval, "phase 2")
	g.others = []*rollout.Record{g.r}
	if _, err := g.new("s", wire.RolloutSpec{Update: updateTo("newer"), Supersede: true}); err != nil {
		t.Fatal(err)
	}
	g.others = nil
	g.step()
	g.want(wire.RolloutDone, "")
}

// TestADeviceThatDidItIsDoneThoughItsAnswerWasLost: the controller was dead when it came,
// and until the command had expired.
func TestADeviceThatDidItIsDoneThoughItsAnswerWasLost(t *testing.T) {
	for name, spec := range map[string]wire.RolloutSpec{"family": {}, "mode": {Mode: "low-latency"}} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, 1)
			spec.ForMS = new(600_000.0)
			g.begin(spec)
			g.obey("d-0000", g.r.Commands()[0])
			g.after(time.Hour)
			g.wantDevice("d-0000", wire.DeviceSucceeded)
		})
	}
}

func TestADeviceThatWentBackIsBackThoughItsAnswerWasLost(t *testing.T) {
	g := newRig(t, 2)
	g.begin(wire.RolloutSpec{ForMS: new(600_000.0)})
	first := g.order()[0]
	g.succeed()
	if err := g.do(wire.RolloutCommand{Action: wire.RolloutAbort, Rollback: true}); err != nil {
		t.Fatal(err)
	}
	g.obey(first, g.r.Commands()[0])
	g.after(time.Hour)
	g.wantDevice(first, wire.DeviceRolledBack)
	g.want(wire.RolloutAborted, "")
}

func TestADeviceOnProbationAtTheEndOfForIsTimedOut(t *testing.T) {
	g := newRig(t, 1)
	g.begin(wire.RolloutSpec{ForMS: new(600_000.0)})
	c := g.r.Commands()[0]
	g.obey("d-0000", c)
	g.set("d-0000", func(d *fleet.Device) {
		d.Caps.Update = &wire.UpdateStep{ID: c.ID, Family: family("new"), Step: wire.UpdateProbation}
	})
	g.after(time.Hour)
	g.wantDevice("d-0000", wire.DeviceTimedOut)
}

// TestACancelInVainEndsNothingThatTheDeviceIsAt: what the device had told was lost when the
// controller died, but its caps are there.
func TestACancelInVainEndsNothingThatTheDeviceIsAt(t *testing.T) {
	for name, done := range map[string]bool{"under way": false, "done": true} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, 1)
			g.begin(wire.RolloutSpec{})
			c := g.r.Commands()[0]
			g.set("d-0000", func(d *fleet.Device) {
				if d.Caps.Family = new(family("new")); !done {
					d.Caps.Update = &wire.UpdateStep{ID: c.ID, Family: family("new"), Step: wire.UpdateProbation}
				}
			})
			if err := g.do(wire.RolloutCommand{Action: wire.RolloutAbort, Rollback: true}); err != nil {
				t.Fatal(err)
			}
			g.answer("d-0000", wire.Ack{State: wire.CommandFailed, Reason: wire.Precondition})
			g.step()
			if again := g.r.Commands(); len(again) != 1 || again[0].ID != c.ID {
				t.Fatalf("got commands %v; want %s once more, whose answer says how it ended", again, c.ID)
			}
			g.set("d-0000", func(d *fleet.Device) { d.Caps.Update = nil })
			g.succeed()
			g.succeed()
			g.wantDevice("d-0000", wire.DeviceRolledBack)
		})
	}
}

func TestWithRollbackADeviceThatALaterRolloutTookStaysThere(t *testing.T) {
	for state, want := range map[wire.Step]string{
		wire.CommandSucceeded: wire.DeviceSucceeded,  // it has what the later one gave it
		wire.CommandFailed:    wire.DeviceRolledBack, // it has still what this one gave it
	} {
		t.Run(string(state), func(t *testing.T) {
			g := newRig(t, 2)
			g.begin(wire.RolloutSpec{Phases: []string{"1", "100%"}, Rollback: true, Gates: gates("success=0.5", "misses=0.5")})
			first := g.order()[0]
			g.succeed()
			g.now = g.now.Add(time.Second)
			g.others = []*rollout.Record{g.r}
			second, err := g.new("s", wire.RolloutSpec{Update: updateTo("newer"), Supersede: true, Phases: []string{"100%"},
				Gates: gates("success=0")})
			if err != nil {
				t.Fatal(err)
			}
			g.r, g.others = second, []*rollout.Record{g.r}
			g.step()
			if !slices.Contains(g.commanded(), first) {
				t.Fatalf("got commands for %v; want %s among them", g.commanded(), first)
			}
			g.answer(first, wire.Ack{State: state, Reason: wire.Unsupported})
			g.step()
			g.swap()
			if err := g.do(wire.RolloutCommand{Action: wire.RolloutAbort, Rollback: true}); err != nil {
				t.Fatal(err)
			}
			if len(g.r.Commands()) > 0 {
				g.succeed()
			}
			g.wantDevice(first, want)
		})
	}
}

func TestWhatAnotherMachineReportsIsNotWhatTheOneBeforeDid(t *testing.T) {
	g := newRig(t, 2)
	g.begin(wire.RolloutSpec{Mode: "low-latency", Phases: []string{"100%"}})
	first := g.order()[0]
	g.succeed()
	g.set(first, func(d *fleet.Device) { d.Caps.Machine = "another" }) // its caps come first
	g.step()
	g.wantCommanded(first)
}

func TestTheWayBackOfALaterRolloutComesFirst(t *testing.T) {
	g := newRig(t, 1)
	spec := wire.RolloutSpec{Supersede: true, Gates: gates("success=0.5", "misses=0.5")}
	g.begin(spec)
	g.succeed()
	g.now = g.now.Add(time.Second)
	spec.Update = updateTo("newer")
	g.others = []*rollout.Record{g.r}
	second, err := g.new("s", spec)
	if err != nil {
		t.Fatal(err)
	}
	g.r = second
	g.step()
	g.succeed()
	g.off("d-0000")
	for range 2 {
		if err := g.do(wire.RolloutCommand{Action: wire.RolloutAbort, Rollback: true}); err != nil {
			t.Fatal(err)
		}
		g.swap()
	}
	g.on("d-0000")
	g.swap() // to the first
	g.step()
	g.wantCommanded()
	g.swap()
	g.step()
	g.succeed()
	if is := g.devices["d-0000"].Caps.Family.Name; is != "new" {
		t.Fatalf("the later rollout led back to %s; want new", is)
	}
	g.swap()
	g.step()
	g.succeed()
	if is := g.devices["d-0000"].Caps.Family.Name; is != "old" {
		t.Errorf("the first rollout led back to %s; want old", is)
	}
}
