package controller_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/fleet/controller"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/store"
)

func TestARolloutOfAModeReachesAllDevicesAndEnds(t *testing.T) {
	t.Parallel()
	addr := desk(t)
	g := plants(t, addr, 5)
	serve(t, addr, t.TempDir())
	r := remote(t, addr)
	ack, err := r.Do(t.Context(), start("r", spec(nil)), patience, nil)
	if err != nil || ack.Detail != "rollout r: 5 devices in 2 phases" {
		t.Errorf("got %q, %v; want how many devices and phases it has", ack.Detail, err)
	}
	doc := become(t, r, "r", wire.RolloutDone)
	if got := doc.Phases[0].Counts.Succeeded + doc.Phases[1].Counts.Succeeded; got != 5 {
		t.Errorf("got %d that succeeded, want 5", got)
	}
	g.once()
}

func TestARolloutThatFailsStopsAtTheCanary(t *testing.T) {
	t.Parallel()
	addr := desk(t)
	g := plants(t, addr, 4)
	g.outcome = func(string, wire.Command) wire.Ack {
		return wire.Ack{State: wire.CommandRejected, Reason: wire.Unsupported, Detail: "no such mode"}
	}
	serve(t, addr, t.TempDir())
	r := remote(t, addr)
	do(t, r, start("r", spec(func(s *wire.RolloutSpec) { s.Canary = []string{"d-2"} })))
	become(t, r, "r", wire.RolloutFailed)
	for _, name := range g.names() {
		if got, want := len(g.effects(name)), map[bool]int{true: 1}[name == "d-2"]; got != want {
			t.Errorf("%s: got %d commands, want %d", name, got, want)
		}
	}
}

func TestACommandThatComesAgainIsAnsweredAgainAndAnotherOfItsIDIsNot(t *testing.T) {
	t.Parallel()
	addr := desk(t)
	plants(t, addr, 1)
	serve(t, addr, t.TempDir())
	remote(t, addr)
	command := start("r", spec(nil))
	command.TTLMS = new(60_000.0)
	box := asker(t, addr)
	first := box.ask("one", command)
	again := box.ask("one", command)
	command.Rollout = "other"
	other := box.ask("one", command)
	if first.State != wire.CommandSucceeded || again.State != first.State || !again.TS.Equal(first.TS.Time) {
		t.Errorf("got %+v, then %+v; want the same success twice", first, again)
	}
	if other.State != wire.CommandRejected || other.Reason != wire.Conflict {
		t.Errorf("got %+v, want a conflict", other)
	}
}

func TestTheAnswerToACommandOutlivesTheController(t *testing.T) {
	t.Parallel()
	addr, dir := desk(t), t.TempDir()
	plants(t, addr, 1)
	first := serve(t, addr, dir)
	r := remote(t, addr)
	command := start("r", spec(nil))
	command.TTLMS = new(60_000.0)
	box := asker(t, addr)
	answer := box.ask("one", command)
	become(t, r, "r", wire.RolloutDone)
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	serve(t, addr, dir)
	until(t, "the controller is back", func() bool { return r.Find(t.Context()) == nil })
	if again := box.ask("one", command); !again.TS.Equal(answer.TS.Time) || again.State != answer.State {
		t.Errorf("got %+v, then %+v; want the same", answer, again)
	}
}

func TestCommandsThatNobodyCanObeyAreRefusedWithTheReason(t *testing.T) {
	t.Parallel()
	addr := desk(t)
	plants(t, addr, 1)
	serve(t, addr, t.TempDir())
	r := remote(t, addr)
	for name, tt := range map[string]struct {
		command wire.RolloutCommand
		want    wire.Reason
	}{
		"a rollout that is not there": {wire.RolloutCommand{Action: wire.RolloutPause, Rollout: "x"}, wire.Precondition},
		"an expression that is none":  {start("x", spec(func(s *wire.RolloutSpec) { s.Where = "colour=blue" })), wire.Invalid},
		"an endless expression": {start("x", spec(func(s *wire.RolloutSpec) {
			s.Where = strings.Repeat("device!=z,", 5000) + "device!=z"
		})), wire.Invalid},
		"ten thousand canaries": {start("x", spec(func(s *wire.RolloutSpec) {
			s.Canary = slices.Repeat([]string{"d-0"}, 10_000)
		})), wire.Invalid},
		"a phase beyond all devices that is not the last": {start("x", spec(func(s *wire.RolloutSpec) {
			s.Phases = slices.Repeat([]string{"1000000000"}, 100)
		})), wire.Invalid},
		"a phase that is no number": {start("x", spec(func(s *wire.RolloutSpec) {
			s.Phases = []string{"NaN%"}
		})), wire.Invalid},
		"nobody fits": {start("x", spec(func(s *wire.RolloutSpec) { s.Where = "device=z" })), wire.Precondition},
		"a limit that lets nobody start": {start("x", spec(func(s *wire.RolloutSpec) {
			s.MaxUnavailable = &wire.Unavailable{N: 0, Label: "site"}
		})), wire.Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := r.Do(t.Context(), tt.command, patience, nil)
			if refusal, ok := errors.AsType[*wire.Refusal](err); !ok || refusal.Reason != tt.want {
				t.Errorf("got %v, want a refusal as %s", err, tt.want)
			}
		})
	}
}

func TestAStartThatDoesNotSayWhereIsRefused(t *testing.T) {
	t.Parallel()
	addr := desk(t)
	plants(t, addr, 2)
	serve(t, addr, t.TempDir())
	r := remote(t, addr)
	do(t, r, start("there", spec(nil)))
	box := asker(t, addr)
	box.publish(at(wire.Controller).Cmd(wire.VerbRollout, "typo"),
		json.RawMessage(`{"action":"start","rollout":"r","spec":{"mode":"power-save","were":"device=d-0"},"ttl_ms":60000}`))
	var ack wire.Ack
	if err := wire.Decode(box.next().Payload, &ack); err != nil || ack.Reason != wire.Invalid ||
		!strings.Contains(ack.Detail, "where is missing") {
		t.Errorf("got %+v, %v; want that where is missing", ack, err)
	}
}

func TestASecondControllerFindsTheFirstAndGivesWay(t *testing.T) {
	t.Parallel()
	addr := desk(t)
	plants(t, addr, 1)
	serve(t, addr, t.TempDir())
	r := remote(t, addr)
	second := serve(t, addr, t.TempDir())
	if err := second.ended(); !errors.Is(err, controller.ErrTaken) {
		t.Errorf("got %v, want ErrTaken", err)
	}
	do(t, r, start("r", spec(nil))) // the first goes on
}

func TestAControllerTakesOverFromOneWhoseStateSaysOnlineAndIsNotThere(t *testing.T) {
	t.Parallel()
	addr := desk(t)
	g := plants(t, addr, 1)
	g.retain(at(wire.Controller).State(), wire.State{State: wire.Online, BootID: "gone", TS: wire.At(time.Now())})
	serve(t, addr, t.TempDir())
	r := remote(t, addr)
	do(t, r, start("r", spec(nil))) // repeated until it is there
	become(t, r, "r", wire.RolloutDone)
}

func TestOfTwoControllersThatStartAtOnceOneStaysAndTheOtherStopsForGood(t *testing.T) {
	t.Parallel()
	addr := mosquitto(t).Addr
	g := plants(t, addr, 3)
	all := []*served{serve(t, addr, t.TempDir()), serve(t, addr, t.TempDir())}
	var loser *served
	select {
	case <-all[0].over:
		loser = all[0]
	case <-all[1].over:
		loser = all[1]
	case <-time.After(patience):
		t.Fatal("both go on")
	}
	if err := loser.ended(); !errors.Is(err, controller.ErrTaken) {
		t.Errorf("got %v, want ErrTaken", err)
	}
	r := remote(t, addr)
	do(t, r, start("r", spec(nil)))
	become(t, r, "r", wire.RolloutDone)
	for _, c := range all {
		select {
		case <-c.over:
			if c != loser {
				t.Errorf("both ended, the other with %v", c.err)
			}
		default:
		}
	}
	g.once()
}

func TestTheOldestRolloutsThatEndedGoFromTheBrokerAndTheStore(t *testing.T) {
	t.Parallel()
	addr, dir := desk(t), t.TempDir()
	g := plants(t, addr, 1)
	for _, id := range []string{"ghost", "ghost.1"} {
		g.retain(at(wire.Controller).Rollout(id), wire.Rollout{ID: "ghost", State: wire.RolloutRunning})
	}
	first := serve(t, addr, dir)
	r := remote(t, addr)
	go r.Serve(t.Context(), folder(t))
	do(t, r, start("family", spec(func(s *wire.RolloutSpec) {
		s.Mode, s.Phases = "", []string{"100%"}
		s.Family = &wire.Family{Name: "new", Digest: "sha256:" + string(folder(t).Digest())}
	})))
	become(t, r, "family", wire.RolloutDone)
	modes := []string{"low-latency", "balanced"}
	for i := range controller.Kept + 2 {
		id := fmt.Sprintf("r-%d", i)
		do(t, r, start(id, spec(func(s *wire.RolloutSpec) { s.Mode, s.Phases = modes[i%2], []string{"100%"} })))
		become(t, r, id, wire.RolloutDone)
	}
	kept := func(r *controller.Remote) func() bool {
		return func() bool {
			all := r.Rollouts()
			return len(all) == controller.Kept && all[0].ID == "r-2"
		}
	}
	until(t, "the newest are left", kept(r))
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	documents, err := store.OpenDocuments(dir, store.Options{NoSync: true}, discard())
	if err != nil {
		t.Fatal(err)
	}
	if blobs, err := documents.Keys("blob/"); err != nil || len(blobs) > 0 {
		t.Errorf("got the blobs %v, %v; want none, as no rollout is left that needs them", blobs, err)
	}
	documents.Close()
	serve(t, addr, dir)
	late := remote(t, addr)
	_, err = late.Do(t.Context(), start("r-0", spec(nil)), patience, nil)
	if refusal, ok := errors.AsType[*wire.Refusal](err); !ok || refusal.Reason != wire.Conflict ||
		!strings.Contains(err.Error(), "choose another") {
		t.Errorf("got %v; want a conflict, as the device knows the commands of r-0", err)
	}
	until(t, "the newest are there again", kept(late))
	if _, known := late.Rollout("ghost"); known {
		t.Error("the rollout of another controller, which nobody carries out, is still retained")
	}
}

func TestAHundredRolloutsTakeNoMoreRoomOnTheDiskThanThoseThatAreKept(t *testing.T) {
	t.Parallel()
	addr, dir := desk(t), t.TempDir()
	plants(t, addr, 50)
	serve(t, addr, dir)
	r := remote(t, addr)
	modes := []string{"low-latency", "balanced"}
	var sizes []int64
	for i := range 100 {
		id := fmt.Sprintf("r-%d", i)
		do(t, r, start(id, spec(func(s *wire.RolloutSpec) { s.Mode, s.Phases = modes[i%2], []string{"100%"} })))
		become(t, r, id, wire.RolloutDone)
		info, err := os.Stat(filepath.Join(dir, "controller.db"))
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, info.Size())
	}
	if full, last := sizes[controller.Kept+8], sizes[99]; last > full*3/2 {
		t.Errorf("%d bytes with all that is kept, and %d after a hundred rollouts", full, last)
	}
}

func TestADeviceThatLostItsCommandGetsTheSameAgainWhenItIsBack(t *testing.T) {
	t.Parallel()
	addr := desk(t)
	g := plants(t, addr, 2)
	g.deafen("d-1", true)
	serve(t, addr, t.TempDir())
	r := remote(t, addr)
	do(t, r, start("r", spec(func(s *wire.RolloutSpec) { s.Phases = []string{"100%"} })))
	until(t, "d-0 obeys", func() bool { return len(g.effects("d-0")) == 1 })
	g.publish(at("d-1").State(), true, wire.State{State: wire.Lost, BootID: "b-d-1", ConnSeq: 1})
	until(t, "d-1 is seen to be gone", func() bool {
		doc, _ := r.Rollout("r")
		return len(doc.Phases) > 0 && doc.Phases[0].Counts.Offline == 1
	})
	g.deafen("d-1", false)
	g.publish(at("d-1").State(), true, wire.State{State: wire.Online, BootID: "b-d-1", ConnSeq: 2})
	doc := become(t, r, "r", wire.RolloutDone)
	for _, d := range doc.Devices {
		if d.State != wire.DeviceSucceeded || d.Attempt != 1 {
			t.Errorf("got %+v, want the first command to have succeeded", d)
		}
	}
}

func TestWhatADeviceTellsAfterItsRolloutHasEndedIsShown(t *testing.T) {
	t.Parallel()
	addr := desk(t)
	g := plants(t, addr, 2)
	g.outcome = func(device string, _ wire.Command) wire.Ack {
		if device == "d-1" {
			return wire.Ack{} // not yet
		}
		return wire.Ack{State: wire.CommandSucceeded}
	}
	serve(t, addr, t.TempDir())
	r := remote(t, addr)
	do(t, r, start("r", spec(func(s *wire.RolloutSpec) {
		s.Phases, s.ForMS, s.Gates[0].Limit = []string{"100%"}, new(8000.0), "0.5"
	})))
	become(t, r, "r", wire.RolloutDone)
	g.publish(at("d-1").Ack(wire.VerbMode, "r.1"), false, wire.Ack{ID: "r.1", Verb: wire.VerbMode,
		State: wire.CommandSucceeded, TS: wire.At(time.Now())})
	until(t, "it is shown", func() bool {
		doc, _ := r.Rollout("r")
		return slices.ContainsFunc(doc.Devices, func(d wire.RolloutDevice) bool {
			return d.Device == "d-1" && d.State == wire.DeviceTimedOut && strings.Contains(d.Detail, "succeeded")
		})
	})
}

func TestTheControllerTellsADeviceWhatTimeItIs(t *testing.T) {
	t.Parallel()
	addr := desk(t)
	serve(t, addr, t.TempDir())
	remote(t, addr)
	box := listen(t, addr, at("d-0").Synced())
	box.publish(at("d-0").Sync(), wire.Sync{BootID: "b", ConnSeq: 7, TS: wire.At(time.Now())})
	var got wire.Synced
	if err := wire.Decode(box.next().Payload, &got); err != nil || got.BootID != "b" || got.ConnSeq != 7 ||
		time.Since(got.TS.Time).Abs() > patience {
		t.Errorf("got %+v, %v; want the time, for this connection", got, err)
	}
}
