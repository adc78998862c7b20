package rollout_test

import (
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/wire"
)

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
