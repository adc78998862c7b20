package rollout_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/fleet/rollout"
	"github.com/limber-edge/limber/agent/wire"
)

func TestTargetsAreASnapshotInTheOrderOfTheHashOfRolloutAndDevice(t *testing.T) {
	g := newRig(t, 20)
	g.begin(wire.RolloutSpec{})
	got := g.order()
	rank := func(name string) string {
		sum := sha256.Sum256([]byte("r/" + name))
		return hex.EncodeToString(sum[:])
	}
	if !slices.IsSortedFunc(got, func(a, b string) int { return strings.Compare(rank(a), rank(b)) }) {
		t.Errorf("got %v, not in the order of SHA-256", got)
	}
	g.join("d-late")
	g.after(time.Minute)
	if again := g.order(); !slices.Equal(again, got) {
		t.Errorf("got %v after another device came; want %v", again, got)
	}
	other, err := g.new("s", wire.RolloutSpec{})
	if err != nil {
		t.Fatal(err)
	}
	if other.Devices[0].Name == got[0] && other.Devices[1].Name == got[1] {
		t.Errorf("another rollout begins with %v as well", got[:2])
	}
}

func TestFollowAddsLaterDevicesToTheLastPhase(t *testing.T) {
	g := newRig(t, 4)
	g.begin(wire.RolloutSpec{Phases: []string{"1", "100%"}, Follow: true})
	g.join("d-late")
	g.after(time.Second)
	doc := g.r.Document()[0]
	if doc.Phases[0].Size != 1 || doc.Phases[1].Size != 4 {
		t.Errorf("got phases of %d and %d; want 1 and 4", doc.Phases[0].Size, doc.Phases[1].Size)
	}
	if order := g.order(); order[4] != "d-late" {
		t.Errorf("got %v; want d-late last", order)
	}
	g.pass()
	if !slices.Contains(g.commanded(), "d-late") {
		t.Errorf("got commands for %v; want d-late among them", g.commanded())
	}
}

func TestLabelsThatChangeMoveNobodyAndTheDocumentSaysSo(t *testing.T) {
	g := newRig(t, 4)
	g.where = "berlin"
	g.begin(wire.RolloutSpec{Phases: []string{"1", "100%"}, Where: "label.site=berlin"})
	last := g.order()[3]
	g.set(last, func(d *fleet.Device) { d.Labels = map[string]string{"site": "rome"} })
	g.after(time.Second)
	if d := g.device(last); d.State != wire.DevicePending || !strings.Contains(d.Detail, "does not fit any more") {
		t.Errorf("got %s %q; want it pending, and the detail to say that it does not fit", d.State, d.Detail)
	}
	g.pass()
	if !slices.Contains(g.commanded(), last) {
		t.Errorf("got commands for %v; want %s among them", g.commanded(), last)
	}
}

func TestCanariesAreTheFirstPhase(t *testing.T) {
	g := newRig(t, 10)
	g.begin(wire.RolloutSpec{Canary: []string{"d-0007", "d-0003", "d-0007"}, Phases: []string{"1", "50%", "100%"}})
	g.wantCommanded("d-0003", "d-0007")
	if order := g.order(); order[0] != "d-0007" || order[1] != "d-0003" {
		t.Errorf("got %v; want d-0007 and d-0003 first", order)
	}
	var sizes []int
	for _, p := range g.r.Document()[0].Phases {
		sizes = append(sizes, p.Size)
	}
	if !slices.Equal(sizes, []int{2, 3, 5}) {
		t.Errorf("got phases of %v; want 2, 3, 5", sizes)
	}
	g = newRig(t, 2)
	_, err := g.new("r", wire.RolloutSpec{Canary: []string{"d-9999"}})
	wantRefused(t, err, wire.Invalid, "d-9999")
}

func TestPhasesAreCumulativeRoundedUpAndNeverEmpty(t *testing.T) {
	for _, tt := range []struct {
		phases  string
		devices int
		want    []int
	}{
		{"1,5%,25%,100%", 1000, []int{1, 49, 200, 750}},
		{"1,5%,25%,100%", 10, []int{1, 2, 7}},
		{"1,5%,25%,100%", 1, []int{1}},
		{"5%,100%", 7, []int{1, 6}},
		{"0.5%,100%", 1000, []int{5, 995}},
		{"7%,100%", 100, []int{7, 93}},
		{"50%,10%,100%", 10, []int{5, 5}},
		{"3,2,9", 5, []int{3, 2}},
		{"33.3%,66.6%,100%", 3, []int{1, 1, 1}},
	} {
		t.Run(tt.phases, func(t *testing.T) {
			g := newRig(t, tt.devices)
			r, err := g.new("r", wire.RolloutSpec{Phases: strings.Split(tt.phases, ",")})
			if err != nil {
				t.Fatal(err)
			}
			var got []int
			for _, p := range r.Phases {
				got = append(got, p.Size)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got phases of %v devices; want %v", got, tt.want)
			}
		})
	}
	_, err := newRig(t, 10).new("r", wire.RolloutSpec{Phases: []string{"1", "50%"}})
	wantRefused(t, err, wire.Invalid, "reach 5 of 10")
}

func TestAPhaseBeginsWhenTheOneBeforePassed(t *testing.T) {
	g := newRig(t, 8)
	g.begin(wire.RolloutSpec{Phases: []string{"1", "50%", "100%"}})
	order := g.order()
	g.wantCommanded(order[0])
	g.pass()
	g.wantCommanded(order[1:4]...)
	g.succeed(order[1:3]...)
	g.after(time.Hour)
	g.wantCommanded(order[3])
	g.pass()
	g.wantCommanded(order[4:]...)
	g.pass()
	g.want(wire.RolloutDone, "")
}

func TestFewerFramesThanObserveAreNoEvidenceAndThePhaseNeverPasses(t *testing.T) {
	g := newRig(t, 4)
	g.begin(wire.RolloutSpec{Observe: 500})
	g.succeed()
	for range 5 {
		g.traffic(nil, 50, 50, 90)
		g.step()
	}
	g.after(10 * time.Second)
	g.want(wire.RolloutWaiting, "misses: 250 of 500 frames are known")
	for range 50 {
		g.after(time.Hour)
	}
	g.want(wire.RolloutWaiting, "of 500 frames are known")
	if c := g.r.Document()[0].Phases[0]; c.State != wire.PhaseRunning || c.Counts.Succeeded != 1 {
		t.Errorf("got %+v; want it running, one succeeded", c)
	}
}

func TestAPhaseIsObservedForTheSoak(t *testing.T) {
	g := newRig(t, 4)
	g.begin(wire.RolloutSpec{Phases: []string{"1", "100%"}, SoakMS: new(1_800_000.0)})
	g.succeed()
	from := g.now
	g.traffic(nil, 600, 6, 10)
	g.after(28 * time.Minute)
	g.want(wire.RolloutWaiting, "observed until "+from.Add(30*time.Minute).Format(time.RFC3339))
	g.after(time.Minute)
	if len(g.commanded()) != 3 {
		t.Errorf("got commands for %v; want the three of the last phase", g.commanded())
	}
}

func TestAnOfflineDeviceBlocksNothingAndCountsNowhereUntilForIsOver(t *testing.T) {
	g := newRig(t, 4)
	g.begin(wire.RolloutSpec{Phases: []string{"50%", "100%"}, ForMS: new(3_600_000.0)})
	order := g.order()
	g = newRig(t, 4)
	g.off(order[0])
	g.begin(wire.RolloutSpec{Phases: []string{"50%", "100%"}, ForMS: new(3_600_000.0)})
	g.step()
	g.wantDevice(order[0], wire.DeviceOffline)
	g.wantCommanded(order[1])
	g.pass()
	if gate := g.r.Document()[0].Phases[0].Gates[0]; *gate.Value != 1 {
		t.Errorf("got success %v of the first phase; want 1", *gate.Value)
	}
	g.wantCommanded(order[2:]...)
	g.pass()
	g.want(wire.RolloutWaiting, "offline")
	g.after(2 * time.Hour)
	g.wantDevice(order[0], wire.DeviceTimedOut)
	g.want(wire.RolloutDone, "")
}

func TestADeviceThatGoesOfflineWhileItIsCommandedBlocksNothing(t *testing.T) {
	g := newRig(t, 4)
	g.begin(wire.RolloutSpec{Phases: []string{"2", "100%"}})
	order := g.order()
	g.off(order[0])
	g.step()
	g.wantDevice(order[0], wire.DeviceOffline)
	g.succeed(order[1])
	g.traffic(nil, 600, 6, 10)
	g.step()
	g.after(10 * time.Minute)
	g.wantCommanded(order[0], order[2], order[3])
	g.after(24 * time.Hour)
	g.wantDevice(order[0], wire.DeviceTimedOut)
}

func TestAPhaseNoneOfWhoseDevicesIsOnlineWaits(t *testing.T) {
	g := newRig(t, 4)
	for name := range g.devices {
		g.off(name)
	}
	g.begin(wire.RolloutSpec{})
	g.after(30 * time.Minute)
	g.want(wire.RolloutWaiting, "no device of phase 1 is online")
	g.wantCommanded()
	g.on(g.order()[0])
	g.step()
	g.wantCommanded(g.order()[0])
}

func TestOneThatReturnsLateTakesPartWhileTheRolloutLives(t *testing.T) {
	g := newRig(t, 4)
	g.begin(wire.RolloutSpec{})
	first := g.order()[0]
	second := g.order()[1]
	g = newRig(t, 4)
	g.off(first)
	g.begin(wire.RolloutSpec{Phases: []string{"2", "100%"}})
	g.wantCommanded(second)
	g.pass()
	g.on(first)
	g.step()
	if !slices.Contains(g.commanded(), first) {
		t.Errorf("got commands for %v; want %s among them", g.commanded(), first)
	}
	g.pass()
	g.want(wire.RolloutDone, "")
	g.wantDevice(first, wire.DeviceSucceeded)
}

func TestWhatIsAnsweredAfterItsTimeCountsWhileTheRolloutLivesAndIsToldOfLater(t *testing.T) {
	late := func(g *rig, name string, c rollout.Command, a wire.Ack) {
		a.ID, a.Verb = c.ID, c.Verb
		g.r.Ack(name, a, g.now)
		g.step()
	}
	begun := func(canaries string, others bool) (*rig, rollout.Command) {
		g := newRig(t, 4)
		g.begin(wire.RolloutSpec{Phases: []string{canaries, "100%"}, Gates: gates("success=0.5"), ForMS: new(3_600_000.0)})
		c := g.r.Commands()[0]
		g.off(c.Device)
		if others {
			g.succeed(g.order()[1])
		}
		return g, c
	}
	g, c := begun("2", true)
	g.after(2 * time.Hour)
	g.wantDevice(c.Device, wire.DeviceTimedOut)
	g.on(c.Device)
	late(g, c.Device, c, wire.Ack{State: wire.CommandSucceeded})
	g.wantDevice(c.Device, wire.DeviceSucceeded)
	if gate := g.r.Document()[0].Phases[0].Counts; gate.Succeeded != 2 || gate.TimedOut != 0 {
		t.Errorf("got %+v; want both succeeded", gate)
	}
	g, c = begun("2", true)
	g.after(2 * time.Hour)
	g.on(c.Device)
	g.obey(c.Device, c) // and its answer was lost
	g.step()
	g.wantDevice(c.Device, wire.DeviceSucceeded)

	g, c = begun("2", true)
	g.after(2 * time.Hour)
	g.on(c.Device)
	late(g, c.Device, c, wire.Ack{State: wire.CommandFailed, Reason: wire.Infeasible, Detail: "too slow"})
	g.wantDevice(c.Device, wire.DeviceFailed)

	g, c = begun("1", false)
	g.after(2 * time.Hour)
	g.want(wire.RolloutFailed, "success")
	late(g, c.Device, c, wire.Ack{State: wire.CommandSucceeded})
	g.want(wire.RolloutFailed, "success")
	if d := g.device(c.Device); d.State != wire.DeviceTimedOut || !strings.Contains(d.Detail, "ended: succeeded") {
		t.Errorf("got %+v; want it timed out, and told that it succeeded", d)
	}
	g.wantCommanded()
}

func TestOneThatReturnsLateAndFailsCountsAgainstItsPhase(t *testing.T) {
	g := newRig(t, 4)
	g.begin(wire.RolloutSpec{})
	first := g.order()[0]
	g = newRig(t, 4)
	g.off(first)
	g.begin(wire.RolloutSpec{Phases: []string{"2", "100%"}})
	g.pass()
	g.on(first)
	g.step()
	g.fail(first, wire.Internal)
	g.want(wire.RolloutRunning, "phase 1: success")
	for _, c := range g.r.Commands() {
		if c.Verb != wire.VerbCancel {
			t.Errorf("got the verb %s open; want cancel alone", c.Verb)
		}
	}
	g.succeed()
	g.want(wire.RolloutFailed, "phase 1: success")
}

func TestTheSameNameWithAnotherMachineIsQueuedAgainAndItsEarlierOutcomeUncounted(t *testing.T) {
	g := newRig(t, 8)
	g.begin(wire.RolloutSpec{Phases: []string{"4", "100%"}, Gates: gates("success=0.5"), SoakMS: new(0.0)})
	first := g.order()[0]
	g.fail(first, wire.Internal)
	g.set(first, func(d *fleet.Device) { d.Caps.Machine = "another" })
	g.step()
	if d := g.device(first); d.State != wire.DeviceRunning || d.Machine != "another" || d.Reason != "" || d.Attempt != 2 {
		t.Errorf("got %+v; want it running on another machine, for the second time", d)
	}
	if c := g.r.Document()[0].Phases[0].Counts; c.Failed != 0 || c.Running != 4 {
		t.Errorf("got %+v; want four running", c)
	}
	g.succeed()
	if gate := g.r.Document()[0].Phases[0].Gates[0]; *gate.Value != 1 {
		t.Errorf("got success %v; want 1", *gate.Value)
	}
	g.set(first, func(d *fleet.Device) { d.Caps.Machine = "a-third"; d.Caps.Family = new(family("old")) })
	g.step()
	if !slices.Contains(g.commanded(), first) {
		t.Errorf("got commands for %v; want %s among them, though its phase has passed", g.commanded(), first)
	}
}

func TestADeviceThatIsAnotherMachineEachTimeFailsAndKeepsNoPhaseOpen(t *testing.T) {
	g := newRig(t, 4)
	g.begin(wire.RolloutSpec{Phases: []string{"1", "100%"}, Gates: gates("success=0.5")})
	g.pass()
	first := g.order()[0]
	for i := range 6 {
		g.wantDevice(first, wire.DeviceSucceeded)
		g.set(first, func(d *fleet.Device) { d.Caps.Machine = fmt.Sprint("m", i); d.Caps.Family = new(family("old")) })
		g.step()
		if i < 5 {
			g.wantDevice(first, wire.DeviceRunning)
			g.succeed(first)
		}
	}
	stays := func(i int) {
		g.set(first, func(d *fleet.Device) { d.Caps.Machine = fmt.Sprint("n", i) })
		g.step()
		if d := g.device(first); d.State != wire.DeviceFailed || d.Reason != wire.Conflict ||
			d.Detail != "it said 6 times that it is another machine: several devices may have its name" {
			t.Fatalf("got %+v; want it failed, and why", d)
		}
	}
	stays(0)
	g.succeed() // what else is under way
	g.want(wire.RolloutFailed, "phase 1: success")
	stays(1)
	g.act(wire.RolloutRetry)
	g.wantDevice(first, wire.DeviceRunning)
}

func TestADeviceTakesARolloutOnce(t *testing.T) {
	g := newRig(t, 2)
	g.begin(wire.RolloutSpec{Phases: []string{"1", "100%"}})
	first := g.order()[0]
	open := g.r.Commands()[0]
	g.succeed()
	g.set(first, func(d *fleet.Device) { d.Caps.Family = new(family("old")) }) // somebody set it back
	g.after(time.Minute)
	g.wantCommanded()
	if g.r.Ack(first, wire.Ack{ID: open.ID, Verb: open.Verb, State: wire.CommandFailed}, g.now) {
		t.Error("an answer to a command that was answered changed something")
	}
	g.wantDevice(first, wire.DeviceSucceeded)
}

func TestOneThatIsAlreadyThereIsCountedApart(t *testing.T) {
	for name, spec := range map[string]wire.RolloutSpec{
		"family": {Update: updateTo("new")},
		"mode":   {Mode: "low-latency"},
		"goal":   {Goal: &wire.Goal{DeadlineMS: new(20.0), MinTop1: new(0.7)}},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, 4)
			g.set("d-0002", func(d *fleet.Device) {
				d.Caps.Family, d.Reported = new(family("new")), &wire.Reported{Mode: spec.Mode, Goal: spec.Goal}
			})
			spec.Phases = []string{"100%"}
			g.begin(spec)
			g.wantCommanded("d-0000", "d-0001", "d-0003")
			g.pass()
			g.want(wire.RolloutDone, "")
			if c := g.r.Document()[0].Phases[0].Counts; c.Already != 1 || c.Succeeded != 3 {
				t.Errorf("got %+v; want one already, three succeeded", c)
			}
		})
	}
}

func TestOneThatGotThereBeforeItsTurnIsNotCommanded(t *testing.T) {
	g := newRig(t, 2)
	g.begin(wire.RolloutSpec{Phases: []string{"1", "100%"}})
	last := g.order()[1]
	g.set(last, func(d *fleet.Device) { d.Caps.Family = new(family("new")) })
	g.pass()
	g.want(wire.RolloutDone, "")
	g.wantDevice(last, wire.DeviceAlready)
}

func TestNoMoreThanNOfALabelsValueAreUnavailableAtOnce(t *testing.T) {
	g := newRig(t, 6)
	for _, name := range []string{"d-0003", "d-0004", "d-0005"} {
		g.set(name, func(d *fleet.Device) { d.Labels = map[string]string{"site": "rome"} })
	}
	g.begin(wire.RolloutSpec{Phases: []string{"100%"}, MaxUnavailable: &wire.Unavailable{N: 1, Label: "site"}})
	for range 3 {
		sites := map[string]int{}
		for _, name := range g.commanded() {
			sites[g.devices[name].Labels["site"]]++
		}
		if sites["berlin"] != 1 || sites["rome"] != 1 {
			t.Fatalf("got %v commanded at once; want one of each site", sites)
		}
		for _, name := range g.commanded() {
			g.answer(name, wire.Ack{State: wire.CommandExecuting, Progress: &wire.Progress{Step: wire.UpdateLocked}})
		}
		g.after(time.Minute)
		if len(g.commanded()) != 2 {
			t.Fatalf("got commands for %v while two are locked", g.commanded())
		}
		g.succeed()
	}
	g.wantCommanded()
}

func TestALimitThatLetsNobodyStartIsAUsageError(t *testing.T) {
	g := newRig(t, 4)
	for _, n := range []int{0, -1} {
		_, err := g.new("r", wire.RolloutSpec{MaxUnavailable: &wire.Unavailable{N: n, Label: "site"}})
		wantRefused(t, err, wire.Invalid, "lets no device start")
	}
}

func TestAFailedGateStopsAllStarts(t *testing.T) {
	g := newRig(t, 8)
	g.begin(wire.RolloutSpec{Phases: []string{"1", "100%"}})
	first := g.order()[0]
	g.fail(first, wire.Precondition)
	g.want(wire.RolloutFailed, "phase 1: success is 0, the limit 0.95")
	g.after(time.Hour)
	g.wantCommanded()
	if d := g.device(first); d.State != wire.DeviceFailed || d.Reason != wire.Precondition {
		t.Errorf("got %s, %s; want failed, precondition", d.State, d.Reason)
	}
	if c := g.r.Document()[0].Phases[1].Counts; c.Cancelled != 7 {
		t.Errorf("got %+v; want seven cancelled", c)
	}
	success, misses := g.gate("success"), g.gate("misses")
	if success.Verdict != wire.GateFail || misses.Verdict != wire.GateWait {
		t.Errorf("got %+v, %+v; want success failed, misses waiting", success, misses)
	}
}

func TestSpecsThatCannotBeDoneAreUsageErrors(t *testing.T) {
	for name, spec := range map[string]wire.RolloutSpec{
		"agreement":  {Gates: []wire.Gate{{Name: "agreement", Limit: "97"}}},
		"twice":      {Gates: []wire.Gate{{Name: "p95", Limit: "5"}, {Name: "p95", Limit: "6"}}},
		"success x":  {Gates: []wire.Gate{{Name: "success", Limit: "1.2x"}}},
		"misses":     {Gates: []wire.Gate{{Name: "misses", Limit: "2"}}},
		"no figure":  {Gates: []wire.Gate{{Name: "misses", Limit: "-1"}}},
		"phases":     {Phases: []string{"0"}},
		"percent":    {Phases: []string{"101%"}},
		"observe":    {Observe: -1},
		"soak":       {SoakMS: new(-1.0)},
		"for":        {ForMS: new(0.0)},
		"label":      {MaxUnavailable: &wire.Unavailable{N: 1}},
		"canary":     {Canary: []string{"a/b"}},
		"large":      {Where: strings.Repeat("x", 40<<10)},
		"two things": {Mode: "balanced", Update: updateTo("new")},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := newRig(t, 4).new("r", spec)
			wantRefused(t, err, wire.Invalid, "")
		})
	}
	for _, id := range []string{"", "a b", "r.1", "r.", strings.Repeat("r", 49)} {
		_, err := newRig(t, 4).new(id, wire.RolloutSpec{})
		wantRefused(t, err, wire.Invalid, "the id")
	}
	_, err := newRig(t, 0).new("r", wire.RolloutSpec{})
	wantRefused(t, err, wire.Precondition, "no device that is known fits")
}

func TestABrokerThatForgotEverythingMovesNobody(t *testing.T) {
	g := newRig(t, 4)
	g.begin(wire.RolloutSpec{Phases: []string{"2", "100%"}, Follow: true})
	order, open := g.order(), g.commanded()
	g.succeed(order[0])
	known := g.devices
	g.devices = picture{}
	g.after(time.Minute)
	g.wantDevice(order[0], wire.DeviceSucceeded)
	g.wantDevice(order[1], wire.DeviceOffline)
	g.wantCommanded(order[1])
	g.devices = known
	g.step()
	g.wantCommanded(order[1])
	g.pass()
	g.wantCommanded(order[2:]...)
	if len(open) != 2 || !slices.Equal(g.order(), order) {
		t.Errorf("got %v; want %v as before", g.order(), order)
	}
}
