package rollout_test

import (
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/wire"
)

func TestEachPhaseAfterTheFirstWaitsForApproval(t *testing.T) {
	g := newRig(t, 4)
	g.begin(wire.RolloutSpec{Phases: []string{"1", "2", "100%"}, Approve: true})
	wantRefused(t, g.do(wire.RolloutCommand{Action: wire.RolloutApprove}), wire.Precondition, "approval")
	for phase := range 2 {
		g.pass()
		g.want(wire.RolloutApproval, "")
		g.after(30 * time.Minute)
		g.wantCommanded()
		g.act(wire.RolloutApprove)
		if len(g.commanded()) != phase+1 {
			t.Errorf("got commands for %v; want those of phase %d", g.commanded(), phase+2)
		}
	}
	g.pass()
	g.want(wire.RolloutDone, "")
}

func TestAPausedRolloutStartsNobody(t *testing.T) {
	g := newRig(t, 4)
	g.begin(wire.RolloutSpec{Phases: []string{"1", "100%"}})
	g.act(wire.RolloutPause)
	g.want(wire.RolloutPaused, "")
	g.pass()
	g.after(30 * time.Minute)
	g.wantCommanded()
	g.want(wire.RolloutPaused, "")
	g.act(wire.RolloutResume)
	if len(g.commanded()) != 3 {
		t.Errorf("got commands for %v; want the three of the last phase", g.commanded())
	}
}

func TestAnAbortedRolloutStartsNobody(t *testing.T) {
	g := newRig(t, 4)
	g.begin(wire.RolloutSpec{Mode: "low-latency", Phases: []string{"1", "100%"}})
	first := g.order()[0]
	g.act(wire.RolloutAbort)
	g.want(wire.RolloutRunning, "an operator ended it; commands are under way")
	g.succeed()
	g.want(wire.RolloutAborted, "an operator ended it")
	g.wantDevice(first, wire.DeviceSucceeded)
	for _, action := range []string{wire.RolloutPause, wire.RolloutApprove, wire.RolloutAbort, wire.RolloutRetry} {
		wantRefused(t, g.do(wire.RolloutCommand{Action: action}), wire.Precondition, "rollout r ")
	}
	g.want(wire.RolloutAborted, "an operator ended it")
}

func TestRetryCommandsThoseThatFailedOnceMore(t *testing.T) {
	g := newRig(t, 4)
	g.begin(wire.RolloutSpec{Phases: []string{"100%"}, Gates: []wire.Gate{{Name: "success", Limit: "0.5"}}})
	first := g.order()[0]
	before := g.r.Commands()[0]
	g.fail(first, wire.NoSpace)
	g.succeed()
	g.act(wire.RolloutRetry)
	g.wantCommanded(first)
	again := g.r.Commands()[0]
	var asked wire.Command
	if err := wire.Decode(again.Payload, &asked); err != nil || before.ID != "r.1" || again.ID != "r.2" || !asked.Retry {
		t.Errorf("got %s, then %s %s, %v; want r.1, then r.2 with retry", before.ID, again.ID, again.Payload, err)
	}
	if d := g.device(first); d.Attempt != 2 || d.Reason != "" {
		t.Errorf("got %+v; want the second attempt, without the reason of the first", d)
	}
	g.succeed()
	g.after(10 * time.Minute)
	g.want(wire.RolloutDone, "")
	wantRefused(t, g.do(wire.RolloutCommand{Action: wire.RolloutRetry}), wire.Precondition, "failed on no device")
}

func TestRetryTakesAFailedRolloutUpWhereItStopped(t *testing.T) {
	g := newRig(t, 8)
	g.begin(wire.RolloutSpec{Phases: []string{"1", "4", "100%"}})
	g.pass()
	order := g.order()
	g.fail(order[1], wire.NoSpace)
	g.succeed() // the cancels
	g.want(wire.RolloutFailed, "phase 2")
	g.act(wire.RolloutRetry)
	g.wantCommanded(order[1:4]...)
	g.pass()
	g.wantCommanded(order[4:]...)
	g.pass()
	g.want(wire.RolloutDone, "")
	g.wantDevice(order[0], wire.DeviceSucceeded)
}

func TestWhatIsRetriedIsObservedAnew(t *testing.T) {
	g := newRig(t, 2)
	g.begin(wire.RolloutSpec{Phases: []string{"100%"}, Gates: gates("success=0.5", "misses=0.5")})
	g.fail(g.order()[0], wire.NoSpace)
	g.succeed()
	g.traffic(nil, 600, 6, 10)
	g.after(8 * time.Minute)
	g.act(wire.RolloutRetry)
	g.after(2 * time.Minute)
	g.succeed()
	g.after(9 * time.Minute)
	g.want(wire.RolloutWaiting, "observed until")
	g.after(time.Minute)
	g.want(wire.RolloutDone, "")
}

func TestAPhaseWhoseGateFailedIsJudgedByWhatIsAnsweredAfterTheRetry(t *testing.T) {
	g := newRig(t, 4)
	g.begin(wire.RolloutSpec{Phases: []string{"1", "100%"}})
	first := g.order()[0]
	g.succeed()
	g.traffic([]string{first}, 600, 60, 10)
	g.step()
	g.want(wire.RolloutFailed, "misses")
	g.act(wire.RolloutRetry)
	g.want(wire.RolloutWaiting, "misses: 0 of 200 frames")
	g.traffic(nil, 600, 6, 10)
	g.traffic(nil, 600, 6, 10)
	g.after(10 * time.Minute)
	g.wantCommanded(g.order()[1:]...)
}
