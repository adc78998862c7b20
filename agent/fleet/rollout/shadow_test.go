package rollout_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/wire"
)

// compares has a device tell how many of the frames so far agreed.
func (g *rig) compares(name string, frames, agreed int) {
	g.tb.Helper()
	g.answer(name, wire.Ack{State: wire.CommandExecuting, Progress: &wire.Progress{Step: wire.UpdateShadow},
		Shadow: shadow(frames, agreed)})
	g.step()
}

// disagrees has a device end as one does on which too few frames agreed.
func (g *rig) disagrees(name string, agreed int) {
	g.tb.Helper()
	g.answer(name, wire.Ack{State: wire.CommandFailed, Reason: wire.Disagreement, Shadow: shadow(200, agreed),
		Detail: fmt.Sprintf("%d of 200 frames agree", agreed)})
	g.step()
}

func TestAFamilyIsComparedUnlessTheGatesLeaveThatOut(t *testing.T) {
	asked := func(spec wire.RolloutSpec) *wire.Shadow {
		t.Helper()
		g := newRig(t, 1)
		g.begin(spec)
		_, c := g.asked("d-0000")
		return c.Shadow
	}
	is := asked(wire.RolloutSpec{})
	if is == nil || is.Share() != 10 || is.Wants() != 200 || is.Agreement == nil || *is.Agreement != 0.97 || is.Only {
		t.Errorf("got %+v; want 10 %% and 200 frames, of which 0.97 agree", is)
	}
	is = asked(wire.RolloutSpec{Gates: gates("success=0.9", "agreement=0.5"), Observe: 50})
	if is == nil || is.Wants() != 50 || *is.Agreement != 0.5 {
		t.Errorf("got %+v; want 50 frames, of which 0.5 agree", is)
	}
	spec := wire.RolloutSpec{Update: updateTo("new")}
	spec.Shadow = &wire.Shadow{Percent: new(2.5), Frames: new(1000)}
	if is = asked(spec); is.Share() != 2.5 || is.Wants() != 1000 || *is.Agreement != 0.97 {
		t.Errorf("got %+v; want 2.5 %% and 1000 frames, of which 0.97 agree", is)
	}
	spec.Gates = gates("success=0.9")
	if is = asked(spec); is == nil || is.Agreement != nil {
		t.Errorf("got %+v; want it told, and judged by nobody", is)
	}
	if is = asked(wire.RolloutSpec{Gates: gates("success=0.9")}); is != nil {
		t.Errorf("got %+v; want none without the gate", is)
	}
	is = asked(wire.RolloutSpec{Observe: 2_000_000, Gates: gates("agreement=0.97")})
	if is.Wants() != wire.MaxShadowFrames {
		t.Errorf("got %d frames; want as many as there can be", is.Wants())
	}
	if is = asked(wire.RolloutSpec{Mode: "low-latency", Gates: gates("success=0.9")}); is != nil {
		t.Errorf("got %+v of a mode", is)
	}
}

func TestNothingButAFamilyIsCompared(t *testing.T) {
	for name, spec := range map[string]wire.RolloutSpec{
		"agreement is of a family":   {Mode: "balanced", Gates: gates("agreement=0.97")},
		"leave it out for a release": {Release: releaseOf("1.5.0"), Gates: gates("agreement=0.97")},
		"nothing else is compared":   {Goal: &wire.Goal{MinTop1: new(0.7)}, Update: wire.Update{Shadow: &wire.Shadow{}}},
		"misses is of a family in use": {Gates: gates("agreement=0.97", "misses=0.1"),
			Update: wire.Update{Family: new(family("new")), Shadow: &wire.Shadow{Only: true}}},
		"nothing to go back from": {Rollback: true,
			Update: wire.Update{Family: new(family("new")), Shadow: &wire.Shadow{Only: true}}},
	} {
		_, err := newRig(t, 1).new("r", spec)
		wantRefused(t, err, wire.Invalid, name)
	}
	g := newRig(t, 1)
	g.begin(wire.RolloutSpec{Mode: "low-latency"})
	if gates := g.r.Spec.Gates; len(gates) != 3 || gates[0].Name != wire.GateSuccess {
		t.Errorf("got %v of a mode; want success, misses and p95", gates)
	}
}

func TestACandidateThatAgreesTooLittleStopsBeforeAnyDeviceHasTakenIt(t *testing.T) {
	g := newRig(t, 40)
	g.begin(wire.RolloutSpec{Phases: []string{"10", "100%"}, Observe: 200})
	first := g.commanded()
	for i, name := range first[:9] {
		g.compares(name, 20, 18)
		if i < 8 {
			g.want(wire.RolloutRunning, "")
		}
	}
	g.compares(first[9], 20, 18) // of 200 frames, 180
	g.want(wire.RolloutRunning, "phase 1: agreement is 0.9, the limit 0.97")
	for _, name := range first {
		verb, c := g.asked(name)
		if verb != wire.VerbCancel && c.Cancel == "" {
			t.Fatalf("%s has the command %s %+v; want its command taken back", name, verb, c)
		}
		g.r.Ack(name, wire.Ack{ID: g.r.Commands()[0].ID, Verb: wire.VerbCancel, State: wire.CommandSucceeded}, g.now)
	}
	g.step()
	g.want(wire.RolloutFailed, "agreement")
	doc := g.r.Document()[0]
	if c := doc.Phases[0].Counts; c.Cancelled != 10 || doc.Phases[1].Counts.Cancelled != 30 {
		t.Errorf("got %+v; want that all were left out", doc.Phases)
	}
	is := g.device(first[0]).Shadow
	if is == nil || is.Frames != 20 || *is.Agreement != 0.9 || *is.P95MS != 8.25 || is.Missed != 2 {
		t.Errorf("got %+v; want what the device told", is)
	}
}

func TestWhatBreaksTheAgreementIsNamedBeforeTheFailuresThatComeOfIt(t *testing.T) {
	g := newRig(t, 4)
	g.begin(wire.RolloutSpec{Phases: []string{"1", "100%"}})
	g.disagrees(g.order()[0], 187)
	g.want(wire.RolloutFailed, "phase 1: agreement is 0.935, the limit 0.97")
	if d := g.device(g.order()[0]); d.Reason != wire.Disagreement || d.Shadow == nil || d.Shadow.Agreed != 187 {
		t.Errorf("got %+v; want it failed as it disagrees, with the figures", d)
	}
}

func TestOneDeviceThatDisagreesIsWeighedByItsFrames(t *testing.T) {
	g := newRig(t, 20)
	g.begin(wire.RolloutSpec{Phases: []string{"100%"}, Gates: gates("agreement=0.97", "success=0.9")})
	order := g.order()
	g.succeed(order[1:]...)
	g.disagrees(order[0], 100) // 3,900 of 4,000
	g.want(wire.RolloutWaiting, "observed until")
	if gate := g.gate("agreement"); gate.Verdict != wire.GatePass || *gate.Value != 0.975 || gate.Frames != 4000 {
		t.Errorf("got %+v; want it passed with 0.975 of 4000 frames", gate)
	}
}

func TestTooFewFramesAreNoAgreement(t *testing.T) {
	g := newRig(t, 2)
	g.begin(wire.RolloutSpec{Phases: []string{"1", "100%"}})
	first := g.commanded()[0]
	g.compares(first, 180, 1)
	g.want(wire.RolloutRunning, "")
	g.answer(first, wire.Ack{State: wire.CommandSucceeded, Shadow: shadow(199, 199)})
	g.step()
	g.want(wire.RolloutWaiting, "agreement: 199 of 200 frames are known")
}

func TestNoMoreFramesAreWaitedForThanOneDeviceCompares(t *testing.T) {
	g := newRig(t, 1)
	spec := wire.RolloutSpec{Update: updateTo("new"), Gates: gates("agreement=0.97"), SoakMS: new(0.0)}
	spec.Shadow = &wire.Shadow{Frames: new(20)}
	g.begin(spec)
	g.succeed()
	g.want(wire.RolloutDone, "")
}

func TestADeviceThatCannotCompareIsNotCommanded(t *testing.T) {
	g := newRig(t, 3)
	g.set("d-0001", func(d *fleet.Device) { d.Caps.Shadow = false })
	g.set("d-0002", func(d *fleet.Device) { d.Caps = nil })
	g.begin(wire.RolloutSpec{Phases: []string{"100%"}, Gates: gates("agreement=0.97")})
	g.wantCommanded("d-0000")
	if d := g.device("d-0001"); d.State != wire.DeviceFailed || d.Reason != wire.Unsupported || d.Attempt != 0 ||
		!strings.HasSuffix(d.Detail, "update it, or do without the gate agreement") {
		t.Errorf("got %+v; want it failed, why, and what to do", d)
	}
	g.wantDevice("d-0002", wire.DevicePending) // as it may be that its caps are under way
	g.set("d-0002", func(d *fleet.Device) { d.Caps = g.devices["d-0000"].Caps })
	g.step()
	g.wantCommanded("d-0000", "d-0002")
}

func TestWhatIsToldMeanwhileIsWrittenDownATenthAtATime(t *testing.T) {
	g := newRig(t, 1)
	g.begin(wire.RolloutSpec{Gates: gates("agreement=0.97")})
	changes := 0
	for n := range 201 {
		c := g.r.Commands()[0]
		if g.r.Ack("d-0000", wire.Ack{ID: c.ID, Verb: c.Verb, State: wire.CommandExecuting, Shadow: shadow(n, n)}, g.now) {
			changes++
		}
	}
	if is := g.device("d-0000").Shadow; changes > 12 || is.Frames != 200 {
		t.Errorf("got %d changes, and %d frames lastly; want some ten, and 200", changes, is.Frames)
	}
	g.compares("d-0000", 40, 40) // the agent was started in between
	if is := g.device("d-0000").Shadow; is.Frames != 40 {
		t.Errorf("got %d frames; want 40, as it counts anew", is.Frames)
	}
}

func TestWhatNoComparisonCanFindIsNotTaken(t *testing.T) {
	g := newRig(t, 1)
	g.begin(wire.RolloutSpec{Gates: gates("agreement=0.97")})
	for _, told := range []wire.Agreement{{Frames: 200, Agreed: 201}, {Frames: 200, Agreed: -1}, {Frames: -1},
		{Frames: 2_000_000}, {Frames: 200, Missed: 201}, {Frames: 200, Missed: -1}, {Frames: 200, P95MS: new(-1.0)},
		{Frames: 200, P95MS: new(1e300)}} {
		g.answer("d-0000", wire.Ack{State: wire.CommandExecuting, Shadow: &told})
		if is := g.device("d-0000").Shadow; is != nil {
			t.Errorf("%+v was taken as %+v", told, is)
		}
	}
}

func TestNoDeviceCountsForMoreFramesThanItWasAskedFor(t *testing.T) {
	g := newRig(t, 2)
	g.begin(wire.RolloutSpec{Phases: []string{"100%"}, Gates: gates("agreement=0.97")})
	g.compares("d-0000", 201, 201) // it would outweigh all others
	if is := g.device("d-0000").Shadow; is != nil {
		t.Errorf("%+v was taken", is)
	}
	g.compares("d-0001", 200, 100)
	g.want(wire.RolloutRunning, "phase 1: agreement is 0.5, the limit 0.97")
}

func TestAGateThatIsBrokenByLittleIsNotToldAsKept(t *testing.T) {
	g := newRig(t, 1)
	g.begin(wire.RolloutSpec{Gates: gates("agreement=0.97"), Observe: 100_000})
	g.compares("d-0000", 100_000, 96_996)
	g.want(wire.RolloutRunning, "phase 1: agreement is 0.96996, the limit 0.97")
}

func TestAnAgreementWhoseAnswerWasLostIsReadFromTheDevice(t *testing.T) {
	for _, only := range []bool{false, true} {
		g := newRig(t, 1)
		spec := wire.RolloutSpec{Update: updateTo("new"), Gates: gates("agreement=0.97"), SoakMS: new(0.0),
			ForMS: new(60_000.0)}
		spec.Shadow = &wire.Shadow{Only: only}
		g.begin(spec)
		g.obey("d-0000", g.r.Commands()[0])
		g.after(2 * time.Minute)
		g.want(wire.RolloutDone, "")
		if is := g.device("d-0000").Shadow; is == nil || is.Frames != 200 {
			t.Errorf("got %+v; want what the device says of its last update", is)
		}
	}
}

func TestARolloutThatOnlyComparesEndsWithFiguresOfAllAndChangesNothing(t *testing.T) {
	for _, tt := range []struct {
		agreed int // of 200 frames of each device but the last
		state  wire.RolloutState
		why    string
	}{
		{198, wire.RolloutDone, ""},
		{120, wire.RolloutFailed, "phase 1: agreement is 0.7, the limit 0.97"},
	} {
		g := newRig(t, 4)
		spec := wire.RolloutSpec{Update: updateTo("new")}
		spec.Shadow = &wire.Shadow{Only: true}
		g.begin(spec)
		all := g.commanded()
		if len(all) != 4 {
			t.Fatalf("got commands for %v; want all at once", all)
		}
		for _, name := range all[:3] {
			if _, c := g.asked(name); c.Shadow == nil || !c.Shadow.Only || c.Shadow.Agreement != nil {
				t.Fatalf("got %+v; want that it is compared, and judged by nobody there", c.Shadow)
			}
			g.answer(name, wire.Ack{State: wire.CommandSucceeded, Shadow: shadow(200, tt.agreed)})
			g.step()
			g.want(wire.RolloutRunning, "") // whatever is known by now
		}
		g.succeed(all[3])
		g.want(tt.state, tt.why)
		for _, name := range all {
			d, uses := g.device(name), g.devices[name].Caps.Family.Name
			if d.State != wire.DeviceSucceeded || d.Shadow == nil || uses != "old" {
				t.Errorf("got %+v; want it succeeded, with figures, and the family before", d)
			}
		}
	}
}

func TestARolloutThatOnlyComparesIsNothingThatAnotherGoesBackBehind(t *testing.T) {
	g := newRig(t, 1)
	g.begin(wire.RolloutSpec{Gates: gates("success=0.9"), SoakMS: new(3_600_000.0)})
	g.succeed()
	later := wire.RolloutSpec{Update: updateTo("newer")}
	later.Shadow = &wire.Shadow{Only: true}
	g.now = g.now.Add(time.Minute)
	other, err := g.new("s", later)
	if err != nil {
		t.Fatal(err)
	}
	first := g.r
	g.r = other
	g.step()
	g.succeed()
	g.want(wire.RolloutDone, "")
	if err := g.do(wire.RolloutCommand{Action: wire.RolloutAbort, Rollback: true}); err == nil {
		t.Error("a rollout that is done was aborted")
	}
	g.r, g.others = first, append(g.others, g.r)
	if err := g.do(wire.RolloutCommand{Action: wire.RolloutAbort, Rollback: true}); err != nil {
		t.Fatal(err)
	}
	g.succeed()
	g.wantDevice("d-0000", wire.DeviceRolledBack)
}

func TestAnAbortOfARolloutThatOnlyComparesHasNobodyGoBack(t *testing.T) {
	g := newRig(t, 2)
	spec := wire.RolloutSpec{Update: updateTo("new")}
	spec.Shadow = &wire.Shadow{Only: true}
	g.begin(spec)
	g.succeed("d-0000")
	if err := g.do(wire.RolloutCommand{Action: wire.RolloutAbort, Rollback: true}); err != nil {
		t.Fatal(err)
	}
	g.wantDevice("d-0000", wire.DeviceSucceeded)
	if g.r.End.Back {
		t.Error("it is said that devices go back")
	}
	if verb, _ := g.asked("d-0001"); verb != wire.VerbCancel {
		t.Errorf("got %s; want the other one's command taken back", verb)
	}
}

func TestARetryComparesAnew(t *testing.T) {
	g := newRig(t, 2)
	g.begin(wire.RolloutSpec{Phases: []string{"1", "100%"}})
	first := g.order()[0]
	g.disagrees(first, 100)
	g.want(wire.RolloutFailed, "agreement")
	g.act(wire.RolloutRetry)
	if _, c := g.asked(first); !c.Retry || c.Shadow == nil {
		t.Errorf("got %+v; want it compared again", c)
	}
	g.want(wire.RolloutRunning, "")
	if is := g.device(first).Shadow; is != nil {
		t.Errorf("got %+v; want nothing of the time before", is)
	}
	g.pass()
	g.wantDevice(first, wire.DeviceSucceeded)
}
