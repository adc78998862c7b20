package rollout_test

import (
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/wire"
)

func TestAFailedGateTakesBackWhatHasNotBegunToActivate(t *testing.T) {
	g := newRig(t, 4)
	g.begin(wire.RolloutSpec{Phases: []string{"100%"}})
	order := g.order()
	g.answer(order[1], wire.Ack{State: wire.CommandExecuting, Progress: &wire.Progress{Step: wire.UpdateProbation}})
	g.fail(order[0], wire.Invalid)
	g.want(wire.RolloutRunning, "phase 1: success")
	var asked wire.Command
	for _, c := range g.r.Commands() {
		err := wire.Decode(c.Payload, &asked)
		if err != nil || c.Verb != wire.VerbCancel || asked.Cancel != "r.1" || c.ID != "r.2" {
			t.Fatalf("got %s %s %s, %v; want a cancel of r.1", c.Verb, c.ID, c.Payload, err)
		}
	}
	g.answer(order[1], wire.Ack{State: wire.CommandFailed, Reason: wire.Precondition}) // too late
	g.answer(order[2], wire.Ack{State: wire.CommandSucceeded})
	g.answer(order[3], wire.Ack{State: wire.CommandRejected, Reason: wire.Precondition}) // it never heard of it
	g.step()
	g.wantCommanded(order[1])
	g.succeed()
	g.want(wire.RolloutFailed, "phase 1: success")
	for i, want := range []string{wire.DeviceFailed, wire.DeviceSucceeded, wire.DeviceCancelled, wire.DeviceCancelled} {
		g.wantDevice(order[i], want)
	}
}

func TestWithRollbackThoseDoneGoBackToTheFamilyBefore(t *testing.T) {
	g := newRig(t, 4)
	g.set("d-0001", func(d *fleet.Device) { d.Caps.Family = new(family("older")) })
	g.begin(wire.RolloutSpec{Phases: []string{"100%"}, Rollback: true})
	last := g.order()[3]
	g.succeed(g.order()[:3]...)
	g.fail(last, wire.Internal)
	g.wantCommanded(g.order()[:3]...)
	g.want(wire.RolloutRunning, "under way")
	for _, c := range g.r.Commands() {
		var asked wire.Command
		want := family("old")
		if c.Device == "d-0001" {
			want = family("older")
		}
		if err := wire.Decode(c.Payload, &asked); err != nil || *asked.Family != want || c.ID != "r.2" || !asked.Retry ||
			asked.Proof().Frames > 0 {
			t.Errorf("%s: got %s %s, %v; want r.2, to %v, whatever happened before", c.Device, c.ID, c.Payload, err, want)
		}
		if f := g.r.Families(c.Device); len(f) != 1 || f[0] != want {
			t.Errorf("%s: got %v to be fetched; want %v", c.Device, f, want)
		}
	}
	g.succeed()
	g.want(wire.RolloutFailed, "success")
	for _, name := range g.order()[:3] {
		g.wantDevice(name, wire.DeviceRolledBack)
	}
	g.wantDevice(last, wire.DeviceFailed)
}

func TestWithRollbackThoseDoneGoBackToTheModeOrGoalBefore(t *testing.T) {
	g := newRig(t, 2)
	goal := &wire.Goal{DeadlineMS: new(25.0)}
	g.set("d-0001", func(d *fleet.Device) { d.Reported = &wire.Reported{Mode: "goal", Goal: goal} })
	g.begin(wire.RolloutSpec{Mode: "low-latency", Phases: []string{"100%"}, Rollback: true})
	g.succeed()
	g.traffic(nil, 600, 6, 100)
	g.step()
	g.wantCommanded("d-0000", "d-0001")
	for _, c := range g.r.Commands() {
		var asked wire.Command
		want := wire.Aim{Mode: "balanced"}
		if c.Device == "d-0001" {
			want = wire.Aim{Goal: goal}
		}
		if err := wire.Decode(c.Payload, &asked); err != nil || !asked.Aim().Same(want) || c.Verb != asked.Verb() {
			t.Errorf("%s: got %s %s, %v; want it to go back to %v", c.Device, c.Verb, c.Payload, err, want)
		}
	}
	g.succeed()
	g.want(wire.RolloutFailed, "p95 is 100, the limit 12")
}

func TestADeviceThatIsOfflineGoesBackWhenItReturnsOrTimesOut(t *testing.T) {
	g := newRig(t, 3)
	g.begin(wire.RolloutSpec{Phases: []string{"100%"}})
	order := g.order()
	g.succeed(order[:2]...)
	g.off(order[:2]...)
	if err := g.do(wire.RolloutCommand{Action: wire.RolloutAbort, Rollback: true}); err != nil {
		t.Fatal(err)
	}
	g.succeed() // the cancel
	g.wantCommanded()
	g.on(order[0])
	g.step()
	g.wantCommanded(order[0])
	g.succeed()
	g.after(25 * time.Hour)
	g.want(wire.RolloutAborted, "ended")
	for i, want := range []string{wire.DeviceRolledBack, wire.DeviceTimedOut, wire.DeviceCancelled} {
		g.wantDevice(order[i], want)
	}
}

func TestACommandExpiresAtTheEndOfForAndIsTheSameWheneverItIsSent(t *testing.T) {
	g := newRig(t, 4)
	g.begin(wire.RolloutSpec{Phases: []string{"100%"}, ForMS: new(600_000.0)})
	start := g.now
	open := g.r.Commands()
	for _, c := range open {
		var asked wire.Command
		if err := wire.Decode(c.Payload, &asked); err != nil || asked.Check(c.Verb) != nil {
			t.Fatalf("got %s, %v", c.Payload, err)
		}
		if lasts := asked.ExpiresAt.Sub(start); lasts < 10*time.Minute || lasts > 10*time.Minute+2*time.Second {
			t.Errorf("got an expiry in %v; want ten minutes", lasts)
		}
	}
	g.after(5 * time.Minute)
	for i, c := range g.r.Commands() {
		if c.Device != open[i].Device || c.ID != open[i].ID || string(c.Payload) != string(open[i].Payload) {
			t.Errorf("got %v; want %v", c, open[i])
		}
	}
	g.after(6 * time.Minute)
	g.wantCommanded()
	g.wantDevice("d-0000", wire.DeviceTimedOut)
	g.want(wire.RolloutFailed, "success")
}

func TestADeviceEndsAsItAnswers(t *testing.T) {
	for _, tt := range []struct {
		name   string
		ack    wire.Ack
		state  string
		detail string
	}{
		{"succeeded", wire.Ack{State: wire.CommandSucceeded}, wire.DeviceSucceeded, ""},
		{"conflict", wire.Ack{State: wire.CommandRejected, Reason: wire.Conflict, Detail: "other bytes"},
			wire.DeviceFailed, "other bytes"},
		{"precondition", wire.Ack{State: wire.CommandRejected, Reason: wire.Precondition}, wire.DeviceFailed, ""},
		{"rolled back", wire.Ack{State: wire.CommandFailed, Reason: wire.Infeasible, Detail: "21 missed", RolledBack: true},
			wire.DeviceFailed, "it went back: 21 missed"},
		{"timed out", wire.Ack{State: wire.CommandTimedOut, RolledBack: true}, wire.DeviceTimedOut, ""},
		{"expired", wire.Ack{State: wire.CommandRejected, Reason: wire.Expired}, wire.DeviceTimedOut, ""},
		{"superseded", wire.Ack{State: wire.CommandSuperseded}, wire.DeviceFailed, "superseded by another"},
		{"cancelled", wire.Ack{State: wire.CommandCancelled}, wire.DeviceFailed, "cancelled by another"},
		{"executing", wire.Ack{State: wire.CommandExecuting, Progress: &wire.Progress{Step: wire.UpdateVerified}},
			wire.DeviceRunning, "verified"},
		{"another command", wire.Ack{State: wire.CommandFailed, ID: "r.7"}, wire.DeviceRunning, ""},
		{"another verb", wire.Ack{State: wire.CommandFailed, Verb: wire.VerbMode}, wire.DeviceRunning, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newRig(t, 1)
			g.begin(wire.RolloutSpec{})
			g.answer("d-0000", tt.ack)
			if d := g.device("d-0000"); d.State != tt.state || d.Reason != tt.ack.Reason && d.State != wire.DeviceRunning ||
				!strings.Contains(d.Detail, tt.detail) {
				t.Errorf("got %s, %s %q; want %s, %s %q", d.State, d.Reason, d.Detail, tt.state, tt.ack.Reason, tt.detail)
			}
		})
	}
}

func TestADeviceThatIsAtAnotherUpdateIsNotCommanded(t *testing.T) {
	g := newRig(t, 1)
	g.set("d-0000", func(d *fleet.Device) { d.Caps.Update = &wire.UpdateStep{ID: "by-hand", Step: wire.UpdateFetching} })
	g.begin(wire.RolloutSpec{})
	g.want(wire.RolloutWaiting, "at another update")
	g.wantCommanded()
	g.set("d-0000", func(d *fleet.Device) { d.Caps.Update = nil })
	g.step()
	g.wantCommanded("d-0000")
}
