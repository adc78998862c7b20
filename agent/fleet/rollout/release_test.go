package rollout_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/fleet/rollout"
	"github.com/limber-edge/limber/agent/wire"
)

// asked is what a device's open command says.
func (g *rig) asked(name string) (verb string, asked wire.Command) {
	g.tb.Helper()
	for _, c := range g.r.Commands() {
		if c.Device != name {
			continue
		}
		if err := wire.Decode(c.Payload, &asked); err != nil {
			g.tb.Fatal(err)
		}
		return c.Verb, asked
	}
	g.tb.Fatalf("%s has no command open", name)
	return "", asked
}

func TestARolloutOfAReleaseGivesEachDeviceTheManifestOfItsArchitecture(t *testing.T) {
	g := newRig(t, 5)
	g.set("d-0000", func(d *fleet.Device) { d.Caps.Arch = "amd64" })
	g.set("d-0001", func(d *fleet.Device) { d.Caps.Arch = "" })
	g.set("d-0002", func(d *fleet.Device) { d.Caps.Arch = "" })
	g.off("d-0001")
	g.set("d-0003", func(d *fleet.Device) { d.Caps.Release = release("1.5.0") })
	other := "sha256:" + strings.Repeat("f", 64)
	spec := wire.RolloutSpec{Release: releaseOf("1.5.0"), Phases: []string{"100%"}, Gates: gates("success=0.1")}
	spec.Release.Manifests = append(spec.Release.Manifests, wire.ReleaseFor{Arch: "amd64", Digest: other})
	spec.Release.Downgrade, spec.Sources = true, []string{"https://files.example/blobs/"}
	g.begin(spec)
	g.wantCommanded("d-0000", "d-0004")
	g.on("d-0001")
	g.set("d-0001", func(d *fleet.Device) { d.Caps.Arch = "riscv64" }) // as was not known at the start
	g.step()
	for name, digest := range map[string]string{"d-0000": other, "d-0004": release("1.5.0").Digest} {
		verb, c := g.asked(name)
		if verb != wire.VerbRelease || c.Version != "1.5.0" || c.Digest != digest || !c.Downgrade || c.OneWay || c.Retry ||
			len(c.Sources) != 1 || c.Check(verb) != nil {
			t.Errorf("%s: got %s %+v; want the release %s", name, verb, c, digest)
		}
	}
	for name, want := range map[string]string{"d-0001": "no release 1.5.0 for riscv64", "d-0002": "for which architecture"} {
		if d := g.device(name); d.State != wire.DeviceFailed || d.Reason != wire.Unsupported || !strings.Contains(d.Detail, want) {
			t.Errorf("got %+v; want it failed: %s", d, want)
		}
	}
	g.wantDevice("d-0003", wire.DeviceAlready)
	if doc := g.r.Document()[0]; doc.Kind != wire.VerbRelease {
		t.Errorf("got the kind %s", doc.Kind)
	}
}

func TestARolloutOfAReleaseIsRefusedWhereADeviceIsOfAnotherArchitecture(t *testing.T) {
	g := newRig(t, 6)
	for i, arch := range []string{"s390x", "riscv64", "riscv64", ""} {
		g.set(fmt.Sprintf("d-%04d", i), func(d *fleet.Device) { d.Caps.Arch = arch })
	}
	_, err := g.new("r", wire.RolloutSpec{Release: releaseOf("1.5.0")})
	wantRefused(t, err, wire.Precondition, "no release 1.5.0 for riscv64 and s390x, which d-0000 and 2 more would need: "+
		"add it to the repository, or leave them out with arch!=riscv64,arch!=s390x in where")
	where, err := fleet.ParseWhere("arch!=riscv64,arch!=s390x")
	if err != nil {
		t.Fatal(err)
	}
	r, err := rollout.New("r", wire.RolloutSpec{Release: releaseOf("1.5.0")},
		rollout.View{Picture: g.devices, Where: where, Evidence: g.evidence}, g.now)
	if err != nil || len(r.Devices) != 3 {
		t.Errorf("got %+v, %v; want the three others", r, err)
	}
}

func TestAReleaseThatFailsAtTheCanaryGoesNoFurther(t *testing.T) {
	g := newRig(t, 100)
	g.begin(wire.RolloutSpec{Release: releaseOf("1.5.0")})
	first := g.order()[0]
	g.wantCommanded(first)
	g.answer(first, wire.Ack{State: wire.CommandFailed, Reason: wire.Internal, RolledBack: true,
		Detail: "release 1.5.0 did not prove itself: crash; this one runs again"})
	g.step()
	g.want(wire.RolloutFailed, "phase 1: success")
	if d := g.device(first); d.State != wire.DeviceFailed || !strings.HasPrefix(d.Detail, "it went back: release 1.5.0") {
		t.Errorf("got %+v; want why it went back", d)
	}
	g.act(wire.RolloutRetry)
	if _, c := g.asked(first); !c.Retry {
		t.Errorf("got %+v; want that it is tried although it failed there", c)
	}
}

func TestAReleaseIsJudgedByTheHourBeforeThoughItsCountersBeginAnew(t *testing.T) {
	for name, tt := range map[string]struct {
		missed uint64 // of 600 frames; 6 before
		state  wire.RolloutState
		why    string
	}{
		"as before": {6, wire.RolloutDone, ""},
		"worse":     {60, wire.RolloutFailed, "misses"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, 1)
			g.begin(wire.RolloutSpec{Release: releaseOf("1.5.0"), Gates: gates("success=1", "misses=1.2x")})
			g.wantCommanded("d-0000")
			g.set("d-0000", func(d *fleet.Device) { d.State = &wire.State{State: wire.Online, BootID: "b2"} })
			g.jobs["d-0000"] = wire.Telemetry{}
			g.traffic(nil, 20, 20, 10) // what it answers on trial is not held against it
			g.succeed()
			g.traffic(nil, 600, tt.missed, 10)
			g.traffic(nil, 600, tt.missed, 10)
			g.after(10 * time.Minute)
			g.want(tt.state, tt.why)
		})
	}
}

func TestAReleaseOnTrialIsNotThereYet(t *testing.T) {
	g := newRig(t, 1)
	g.begin(wire.RolloutSpec{Release: releaseOf("1.5.0"), ForMS: new(60_000.0)})
	g.set("d-0000", func(d *fleet.Device) {
		d.Caps.Release = release("1.5.0")
		d.Caps.Update = &wire.UpdateStep{ID: "r.1", Release: release("1.5.0"), Step: wire.UpdateTrial}
	})
	g.after(2 * time.Minute)
	g.wantDevice("d-0000", wire.DeviceTimedOut)
	g.act(wire.RolloutRetry)
	g.wantCommanded() // while it is at another update
	g.set("d-0000", func(d *fleet.Device) { d.Caps.Update = nil })
	g.step()
	g.wantDevice("d-0000", wire.DeviceAlready)
}

func TestWithRollbackThoseDoneGoBackToTheReleaseBefore(t *testing.T) {
	g := newRig(t, 4)
	order := willOrder(g)
	g.set(order[1], func(d *fleet.Device) { d.Caps.Release = release("1.3.0") })
	g.set(order[2], func(d *fleet.Device) { d.Caps.Release = &wire.Release{Version: "1.4.0", Slot: "package"} })
	g.begin(wire.RolloutSpec{Release: releaseOf("1.5.0"), Phases: []string{"100%"}, Rollback: true})
	g.succeed(order[:3]...)
	g.fail(order[3], wire.Internal)
	g.wantCommanded(order[:2]...)
	for i, version := range []string{"1.4.0", "1.3.0"} {
		verb, c := g.asked(order[i])
		if c.Version != version || c.Digest != release(version).Digest || !c.Downgrade || !c.OneWay || !c.Retry || c.Check(verb) != nil {
			t.Errorf("%s: got %s %+v; want it back to %s", order[i], verb, c, version)
		}
	}
	g.succeed(order[0])
	g.answer(order[1], wire.Ack{State: wire.CommandFailed, Reason: wire.Precondition,
		Detail: "release 1.3.0 does not replace 1.5.0"})
	g.step()
	g.want(wire.RolloutFailed, "success")
	g.wantDevice(order[0], wire.DeviceRolledBack)
	if d := g.device(order[1]); d.State != wire.DeviceFailed || d.Detail != "on its way back: release 1.3.0 does not replace 1.5.0" {
		t.Errorf("got %+v; want what it said", d)
	}
	if d := g.device(order[2]); d.State != wire.DeviceSucceeded || !strings.Contains(d.Detail, "program of its package") {
		t.Errorf("got %+v; want why it stays", d)
	}
}

// willOrder is the order in which devices will take the rollout r.
func willOrder(g *rig) []string {
	g.tb.Helper()
	r, err := g.new("r", wire.RolloutSpec{Release: releaseOf("1.5.0")})
	if err != nil {
		g.tb.Fatal(err)
	}
	return (&rig{tb: g.tb, r: r}).order()
}

func TestAFailedGateTakesReleasesBackThatHaveNotBegunToActivate(t *testing.T) {
	g := newRig(t, 2)
	g.begin(wire.RolloutSpec{Release: releaseOf("1.5.0"), Phases: []string{"100%"}})
	order := g.order()
	g.fail(order[0], wire.Internal)
	if verb, c := g.asked(order[1]); verb != wire.VerbCancel || c.Cancel != "r.1" {
		t.Errorf("got %s %+v; want a cancel of r.1", verb, c)
	}
}

func TestAFamilyAndAReleaseMayBeUnderWayButADeviceTakesOneAfterTheOther(t *testing.T) {
	g := newRig(t, 2)
	g.begin(wire.RolloutSpec{Phases: []string{"1", "100%"}})
	family, at := g.r, g.order()[0]
	g.wantCommanded(at)
	g.others = []*rollout.Record{family}
	_, err := g.new("r", wire.RolloutSpec{Release: releaseOf("1.5.0")})
	wantRefused(t, err, wire.Conflict, "id r")
	second, err := g.new("s", wire.RolloutSpec{Release: releaseOf("1.5.0"), Phases: []string{"100%"}})
	if err != nil {
		t.Fatalf("a rollout of another kind was refused: %v", err)
	}
	_, err = rollout.New("t", wire.RolloutSpec{Release: releaseOf("1.6.0")},
		rollout.View{Picture: g.devices, Where: g.where, Evidence: g.evidence, Others: []*rollout.Record{family, second}}, g.now)
	wantRefused(t, err, wire.Conflict, "rollout s is under way")
	g.r = second
	g.step()
	if got := g.commanded(); len(got) != 1 || got[0] == at {
		t.Errorf("got commands for %v; want none for %s, which is at a family", got, at)
	}
	g.r, g.others = family, []*rollout.Record{g.r}
	g.succeed()
	g.r, g.others = g.others[0], []*rollout.Record{g.r}
	g.step()
	g.wantCommanded("d-0000", "d-0001")
}
