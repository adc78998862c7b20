package rollout_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/fleet/rollout"
	"github.com/limber-edge/limber/agent/wire"
)

// gate is how a gate of the first phase stands, as written down.
func (g *rig) gate(name string) wire.RolloutGate {
	g.tb.Helper()
	for _, gate := range g.r.Document()[0].Phases[0].Gates {
		if gate.Name == name {
			return gate
		}
	}
	g.tb.Fatalf("the document has no gate %s", name)
	return wire.RolloutGate{}
}

func gates(names ...string) (all []wire.Gate) {
	for _, s := range names {
		g, err := rollout.ParseGate(s)
		if err != nil {
			panic(err)
		}
		all = append(all, g)
	}
	return all
}

// touched is one device that took a rollout, and then answered for a minute as it says, as
// did the others; in the minutes before, all answered with 1 % missed and a p95 of 10 ms.
func touched(t *testing.T, devices int, spec wire.RolloutSpec, missed uint64, p95 float64, othersMissed uint64,
	othersP95 float64) *rig {
	t.Helper()
	g := newRig(t, devices)
	spec.Phases = []string{"1", "100%"}
	g.begin(spec)
	first := g.order()[0]
	g.succeed()
	g.traffic(g.order()[1:], 1000, othersMissed, othersP95)
	g.now = g.now.Add(-time.Minute)
	g.traffic([]string{first}, 1000, missed, p95)
	g.step()
	g.after(10 * time.Second)
	return g
}

func TestAGateWithAnAbsoluteLimitNeedsNoBaseline(t *testing.T) {
	for _, tt := range []struct {
		gate   string
		missed uint64
		p95    float64
		want   string
	}{
		{"misses=0.05", 50, 10, wire.GatePass},
		{"misses=0.05", 51, 10, wire.GateFail},
		{"misses=0.002", 3, 10, wire.GateFail},
		{"p95=25", 0, 25, wire.GatePass},
		{"p95=25", 0, 25.1, wire.GateFail},
	} {
		t.Run(tt.gate, func(t *testing.T) {
			g := newRig(t, 2)
			g.evidence = rollout.NewEvidence()
			g.begin(wire.RolloutSpec{Phases: []string{"1", "100%"}, Gates: gates(tt.gate)})
			g.succeed()
			g.traffic(nil, 1, 0, 1) // says where the counters stand
			g.traffic(nil, 1000, tt.missed, tt.p95)
			g.step()
			if got := g.r.Document()[0].Phases[0].Gates[0]; got.Verdict != tt.want || got.Frames != 1000 {
				t.Errorf("got %s of %d frames, value %v, limit %v; want %s of 1000", got.Verdict, got.Frames, *got.Value,
					got.Limit, tt.want)
			}
		})
	}
}

func TestAGateWithXIsAgainstTheDevicesOwnHourBefore(t *testing.T) {
	for _, tt := range []struct {
		name   string
		gate   string
		missed uint64
		p95    float64
		want   string
		limit  float64
	}{
		{"misses as before", "misses=1.2x", 10, 10, wire.GatePass, 0.012},
		{"a fifth more", "misses=1.2x", 12, 10, wire.GatePass, 0.012},
		{"more than that", "misses=1.2x", 13, 10, wire.GateFail, 0.012},
		{"faster", "p95=1.2x", 10, 5, wire.GatePass, 12},
		{"a fifth slower", "p95=1.2x", 10, 12, wire.GatePass, 12},
		{"slower than that", "p95=1.2x", 10, 12.1, wire.GateFail, 12},
	} {
		t.Run(tt.name, func(t *testing.T) {
			spec := wire.RolloutSpec{Gates: gates("success=0.95", tt.gate)}
			g := touched(t, 3, spec, tt.missed, tt.p95, 10, 10)
			got := g.gate(spec.Gates[1].Name)
			if got.Verdict != tt.want || math.Abs(got.Limit-tt.limit) > 1e-6 || got.LimitBy != spec.Gates[1].Limit {
				t.Errorf("got %s of %v, limit %v by %s; want %s, limit %v", got.Verdict, *got.Value, got.Limit, got.LimitBy,
					tt.want, tt.limit)
			}
		})
	}
}

func TestMissesHaveAFloorAsTimesNothingIsNothing(t *testing.T) {
	for missed, want := range map[uint64]string{5: wire.GatePass, 6: wire.GateFail} {
		g := newRig(t, 1)
		g.evidence = rollout.NewEvidence()
		g.traffic(nil, 1, 0, 10)
		g.traffic(nil, 1000, 0, 10)
		g.begin(wire.RolloutSpec{Gates: gates("misses=1.2x")})
		g.succeed()
		g.traffic(nil, 1000, missed, 10)
		g.step()
		if got := g.gate("misses"); got.Verdict != want || got.Limit != 0.005 {
			t.Errorf("%d missed of 1000: got %s, limit %v; want %s, limit 0.005", missed, got.Verdict, got.Limit, want)
		}
	}
}

func TestWhatTheUntouchedDevicesChangedMeanwhileIsTakenOff(t *testing.T) {
	for _, tt := range []struct {
		name         string
		gate         string
		missed       uint64
		p95          float64
		othersMissed uint64
		othersP95    float64
		value        float64
		want         string
	}{
		{"all are slower", "p95=1.2x", 10, 30, 10, 30, 10, wire.GatePass},
		{"all are slower, it more so", "p95=1.2x", 10, 40, 10, 30, 13.333333, wire.GateFail},
		{"all are faster, it less so", "p95=1.2x", 10, 9, 10, 5, 18, wire.GateFail},
		{"all miss more", "misses=1.2x", 100, 10, 100, 10, 0.01, wire.GatePass},
		{"all miss more, it more so", "misses=1.2x", 110, 10, 100, 10, 0.02, wire.GateFail},
		{"all miss more but it", "misses=1.2x", 10, 10, 100, 10, 0, wire.GatePass},
	} {
		t.Run(tt.name, func(t *testing.T) {
			spec := wire.RolloutSpec{Gates: gates(tt.gate)}
			g := touched(t, 3, spec, tt.missed, tt.p95, tt.othersMissed, tt.othersP95)
			if got := g.gate(spec.Gates[0].Name); got.Verdict != tt.want || math.Abs(*got.Value-tt.value) > 2e-6 {
				t.Errorf("got %s of %v, limit %v; want %s of %v", got.Verdict, *got.Value, got.Limit, tt.want, tt.value)
			}
		})
	}
}

func TestWithoutUntouchedDevicesNothingIsTakenOff(t *testing.T) {
	g := newRig(t, 1)
	g.begin(wire.RolloutSpec{})
	g.succeed()
	g.traffic(nil, 1000, 10, 30)
	g.step()
	g.want(wire.RolloutFailed, "phase 1: p95 is 30, the limit 12")
	g = newRig(t, 2)
	g.begin(wire.RolloutSpec{Phases: []string{"1", "100%"}, Observe: 300})
	order := g.order()
	g.succeed()
	g.traffic(order[1:], 299, 3, 30)
	g.traffic(order[:1], 1000, 10, 30)
	g.step()
	g.want(wire.RolloutFailed, "phase 1: p95 is 30, the limit 12")
}

func TestWithoutABaselineItWaits(t *testing.T) {
	g := newRig(t, 4)
	g.evidence = rollout.NewEvidence()
	g.begin(wire.RolloutSpec{})
	g.after(time.Hour)
	g.want(wire.RolloutWaiting, "phase 1 has no baseline of misses: its devices answered fewer than 200 frames")
	g.wantCommanded()
	g.traffic(nil, 1, 0, 10)
	g.traffic(nil, 199, 0, 10)
	g.step()
	g.wantCommanded()
	g.traffic(nil, 1, 0, 10)
	g.step()
	g.wantCommanded(g.order()[0])
}

func TestABaselineOutlivesTheController(t *testing.T) {
	g := newRig(t, 4)
	g.begin(wire.RolloutSpec{Phases: []string{"2", "100%"}, MaxUnavailable: &wire.Unavailable{N: 1, Label: "site"}})
	g.evidence = rollout.NewEvidence()
	g.succeed()
	g.succeed()
	g.traffic(nil, 1, 0, 10)
	g.traffic(nil, 1000, 10, 10)
	g.step()
	g.after(10 * time.Minute)
	if got := g.gate("p95"); got.Verdict != wire.GatePass || got.Frames != 2000 {
		t.Errorf("got %+v; want it passed by 2000 frames of both devices", got)
	}
	g.want(wire.RolloutRunning, "")
}

func TestADeviceWithoutAnHourBeforeIsLeftOutOfGatesWithX(t *testing.T) {
	g := newRig(t, 2)
	g.evidence.Forget("d-0001")
	g.begin(wire.RolloutSpec{Phases: []string{"100%"}, Gates: gates("p95=1.2x", "misses=0.5")})
	g.succeed()
	g.traffic(nil, 1000, 10, 10)
	g.traffic([]string{"d-0001"}, 1000, 10, 90)
	g.step()
	x, figure := g.gate("p95"), g.gate("misses")
	if x.Frames != 1000 || x.Verdict != wire.GatePass || figure.Frames != 2000 {
		t.Errorf("got %d frames with x, %d without; want 1000 and 2000", x.Frames, figure.Frames)
	}
}

func TestWhatWasAnsweredBeforeTheHandOverIsNoEvidenceOfIt(t *testing.T) {
	g := newRig(t, 1)
	g.begin(wire.RolloutSpec{Gates: gates("misses=0.5")})
	g.traffic(nil, 1000, 1000, 90)
	g.now = g.now.Add(30 * time.Second)
	g.succeed()
	g.now = g.now.Add(-30 * time.Second)
	g.traffic(nil, 1000, 1000, 90) // of an interval that began before
	g.step()
	g.traffic(nil, 300, 3, 10)
	g.step()
	g.after(10 * time.Second)
	if got := g.gate("misses"); got.Frames != 300 || *got.Value != 0.01 {
		t.Errorf("got a value of %v, of %d frames; want 0.01 of the 300 since", *got.Value, got.Frames)
	}
}

func TestCountersThatBeginAnewWithABootAreCountedFromNothing(t *testing.T) {
	g := newRig(t, 1)
	g.begin(wire.RolloutSpec{Gates: gates("misses=0.5")})
	g.succeed()
	g.jobs["d-0000"] = wire.Telemetry{}
	g.set("d-0000", func(d *fleet.Device) { d.State = &wire.State{State: wire.Online, BootID: "b2"} })
	g.traffic(nil, 5000, 50, 10)
	g.traffic(nil, 100, 1, 10)
	g.step()
	if got := g.gate("misses"); got.Frames != 5100 || *got.Value != 0.01 {
		t.Errorf("got a value of %v, of %d frames; want 0.01 of 5100", *got.Value, got.Frames)
	}
}

func TestFramesAreThoseAnsweredNotThoseRefusedOrReplaced(t *testing.T) {
	g := newRig(t, 1)
	g.begin(wire.RolloutSpec{Gates: gates("misses=0.5")})
	g.succeed()
	count := g.jobs["d-0000"]
	count.Jobs, count.Refused, count.Superseded, count.Missed = count.Jobs+1000, 300, 200, count.Missed+50
	g.jobs["d-0000"] = count
	g.traffic(nil, 0, 0, 10)
	g.step()
	if got := g.gate("misses"); got.Frames != 500 || *got.Value != 0.1 {
		t.Errorf("got a value of %v, of %d frames; want 0.1 of 500", *got.Value, got.Frames)
	}
}

func TestAGateIsOfTheLastHour(t *testing.T) {
	g := newRig(t, 1)
	g.begin(wire.RolloutSpec{Gates: gates("misses=0.5"), Observe: 100_000})
	g.succeed()
	for range 100 {
		g.traffic(nil, 10, 1, 10)
		g.step()
	}
	g.after(10 * time.Second)
	if got := g.gate("misses"); got.Frames < 580 || got.Frames > 600 {
		t.Errorf("got %d frames; want those of an hour, some 600", got.Frames)
	}
}

func TestSuccessFailsAsSoonAsItCannotPass(t *testing.T) {
	g := newRig(t, 40)
	g.begin(wire.RolloutSpec{Phases: []string{"100%"}, Mode: "low-latency"})
	order := g.order()
	g.fail(order[0], wire.Internal)
	g.fail(order[1], wire.Internal)
	g.after(10 * time.Second)
	if got := g.gate("success"); got.Verdict != wire.GateWait || *got.Value != 0 {
		t.Errorf("got %s after two of 40 failed; want wait, as 38 of 40 are enough", got.Verdict)
	}
	g.fail(order[2], wire.Internal)
	g.want(wire.RolloutRunning, "phase 1: success is 0, the limit 0.95")
}

func TestAGateIsReadAsItIsWritten(t *testing.T) {
	for _, s := range []string{"", "p95", "p95=", "p95=x", "p95=0", "p95=-1", "p95=1.2X", "p95=1e3", "p95=NaN", "p95=Inf",
		"p95=0x1p3", "success=2", "success=0.9x", "misses=1.1", "misses=0x", "agreement=97", "agreement=1x", "P95=1"} {
		if g, err := rollout.ParseGate(s); err == nil {
			t.Errorf("%q was read as %+v", s, g)
		}
	}
	for _, s := range []string{"p95=1.2x", "p95=20", "misses=0", "misses=1.5x", "success=1", "success=0", "agreement=0.97"} {
		if g, err := rollout.ParseGate(s); err != nil || g.Name+"="+g.Limit != s {
			t.Errorf("%q: got %+v, %v", s, g, err)
		}
	}
}

func TestALimitOfUnavailableDevicesIsReadAsItIsWritten(t *testing.T) {
	if u, err := rollout.ParseUnavailable("2/site"); err != nil || u != (wire.Unavailable{N: 2, Label: "site"}) {
		t.Errorf("got %+v, %v", u, err)
	}
	for _, s := range []string{"", "1", "/site", "1/", "0/site", "-1/site", "x/site", "1/a b"} {
		if u, err := rollout.ParseUnavailable(s); err == nil {
			t.Errorf("%q was read as %+v", s, u)
		}
	}
}

func TestAProbationIsReadAsItIsWritten(t *testing.T) {
	for s, want := range map[string]wire.Probation{"200/20": {Frames: 200, MaxMissed: 20}, "0/0": {}} {
		if p, err := rollout.ParseProbation(s); err != nil || p != want {
			t.Errorf("%q: got %+v, %v", s, p, err)
		}
	}
	for _, s := range []string{"", "200", "/20", "200/", "-1/0", "1/-1", "1000001/0", "1/2/3", "x/1"} {
		if p, err := rollout.ParseProbation(s); err == nil {
			t.Errorf("%q was read as %+v", s, p)
		}
	}
}

func FuzzGatesAndPhases(f *testing.F) {
	for _, s := range []string{"p95=1.2x", "success=0.95", "misses=.5.", "5%", "1", "100%", "0.0001%"} {
		f.Add(s, 10)
	}
	f.Fuzz(func(t *testing.T, s string, n int) {
		if gate, err := rollout.ParseGate(s); err == nil && !strings.Contains(s, gate.Limit) {
			t.Errorf("%q was read as %+v", s, gate)
		}
		_, _ = rollout.ParseUnavailable(s)
		_, _ = rollout.ParseProbation(s)
		n = 1 + int(uint(n)%50)
		r, err := newRig(t, n).new("r", wire.RolloutSpec{Phases: []string{s, "100%"}})
		if err != nil {
			wantRefused(t, err, wire.Invalid, "")
			return
		}
		size := 0
		for _, p := range r.Phases {
			if size += p.Size; p.Size < 1 {
				t.Errorf("%q has an empty phase", s)
			}
		}
		if size != n {
			t.Errorf("%q has %d devices in its phases; want %d", s, size, n)
		}
	})
}

func TestAMissThatIsToldAfterItsFrameIsCounted(t *testing.T) {
	g := newRig(t, 1)
	g.begin(wire.RolloutSpec{Gates: gates("misses=0.2"), Observe: 20})
	g.succeed()
	for range 25 { // a frame is under way when telemetry is told, and late
		g.traffic(nil, 1, 0, 10)
		g.traffic(nil, 0, 1, 10)
	}
	g.step()
	g.want(wire.RolloutFailed, "misses is 0.96")
}
