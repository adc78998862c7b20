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
