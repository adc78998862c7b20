package rollout_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/fleet/rollout"
	"github.com/limber-edge/limber/agent/wire"
)

func TestEvidenceOfADeviceIsLessThanTwoKiB(t *testing.T) {
	e := rollout.NewEvidence()
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	p95 := 10.0
	for minute := range uint64(120) {
		now = now.Add(time.Minute)
		for i := range fleet.MaxDevices + 10 {
			e.Take(fmt.Sprintf("d-%05d", i), "boot", &wire.Telemetry{Jobs: 100 * minute, P95MS: &p95}, now)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if each := (after.HeapAlloc - before.HeapAlloc) / fleet.MaxDevices; each > 2048 {
		t.Errorf("got %d bytes a device", each)
	}
	runtime.KeepAlive(e)
}

func TestFramesThatAreRefusedAfterAllAreNotCountedTwice(t *testing.T) {
	g := newRig(t, 1)
	g.begin(wire.RolloutSpec{Gates: gates("misses=0.5")})
	g.succeed()
	count := g.jobs["d-0000"]
	count.Jobs += 400 // of which 100 wait outside the queue
	g.jobs["d-0000"] = count
	g.traffic(nil, 0, 0, 10)
	count.Refused += 100
	g.jobs["d-0000"] = count
	g.traffic(nil, 0, 0, 10)
	g.traffic(nil, 150, 0, 10)
	g.step()
	g.after(10 * time.Second)
	if got := g.gate("misses"); got.Frames != 450 {
		t.Errorf("got %d frames; want 450", got.Frames)
	}
}

func TestCountersThatAreOutOfAllMeasureAreNoHarm(t *testing.T) {
	g := newRig(t, 1)
	g.begin(wire.RolloutSpec{Gates: gates("misses=0.5", "p95=1000")})
	g.succeed()
	big := ^uint64(0)
	for _, count := range []wire.Telemetry{{Jobs: big, Missed: big, Queue: -1}, {Jobs: 1, Refused: big, Superseded: big},
		{Jobs: big, Queue: 1 << 40}, {Jobs: big, Missed: big}} {
		g.jobs["d-0000"] = count
		g.traffic(nil, 0, 0, 1e300)
		g.step()
	}
	g.after(10 * time.Second)
	for _, gate := range g.r.Document()[0].Phases[0].Gates {
		if gate.Value != nil && !(*gate.Value >= 0 && *gate.Value <= 1e39) {
			t.Errorf("got %s of %v", gate.Name, *gate.Value)
		}
	}
}
