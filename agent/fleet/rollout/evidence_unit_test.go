package rollout

import (
	"fmt"
	"testing"
	"time"
	"unsafe"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/wire"
)

func TestEvidenceIsBounded(t *testing.T) {
	if size := unsafe.Sizeof(history{}); size > 2<<10 {
		t.Errorf("got %d bytes a device; want less than 2 KiB", size)
	}
	e := NewEvidence()
	for i := range fleet.MaxDevices + 10 {
		e.Take(fmt.Sprint(i), "boot", &wire.Telemetry{}, time.Unix(0, 0))
	}
	if len(e.devices) != fleet.MaxDevices {
		t.Errorf("got %d devices; want %d", len(e.devices), fleet.MaxDevices)
	}
	e.Forget("7")
	if len(e.devices) != fleet.MaxDevices-1 {
		t.Errorf("got %d devices after one was forgotten", len(e.devices))
	}
}

// TestCountersThatNoDeviceCanHaveAreNoEvidence: by their number they would be all that a
// gate looks at.
func TestCountersThatNoDeviceCanHaveAreNoEvidence(t *testing.T) {
	now := time.Now()
	e := NewEvidence()
	take := func(jobs uint64) {
		now = now.Add(5 * time.Second)
		e.Take("d", "boot", &wire.Telemetry{Jobs: jobs}, now)
	}
	take(0)
	take(500)
	for _, jobs := range []uint64{1 << 40, 0, 1 << 50, 1 << 30, ^uint64(0), 0} {
		take(jobs)
	}
	take(500)
	take(1000)
	if got := e.of("d", now.Add(-hour), now).Frames; got != 1500 {
		t.Errorf("got %d frames, want the 1500 that can be", got)
	}
}

func TestWhatWasAnsweredBeforeTheClockWasPutBackIsNotOfTheTimeSince(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	e := NewEvidence()
	take := func(jobs uint64) {
		now = now.Add(5 * time.Second)
		e.Take("d", "boot", &wire.Telemetry{Jobs: jobs, Missed: jobs / 2}, now)
	}
	take(0)
	take(1000)
	e.devices["d"].at = e.devices["d"].at.Add(-hour) // whose monotonic clock goes on
	now = now.Add(-hour)
	take(1100)
	back := now
	e.of("d", back, back)
	take(1200)
	take(1300)
	if got := e.of("d", back, now).Frames; got != 200 {
		t.Errorf("got %d frames since, want 200", got)
	}
}
