package agent_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/wire"
)

func TestC5_ADeviceWhoseClockIsWrongGoesByTheOperators(t *testing.T) {
	brokers(t, func(t *testing.T, addr string) {
		o, cfg, _ := online(t, addr, rig{})
		asked := decoded[wire.Sync](t, o.await(self(cfg).Sync(), 1))
		hour := wire.At(time.Now().Add(time.Hour))
		o.publish(self(cfg).Synced(), encoded(t, wire.Synced{TS: hour, BootID: asked.BootID, ConnSeq: asked.ConnSeq}))
		o.telemetry(cfg, func(s wire.Telemetry) bool {
			return s.ClockOffset != nil && math.Abs(*s.ClockOffset-3.6e6) < 3e4
		}, "the clock is an hour behind")
		told := decoded[wire.Event](t, o.await(self(cfg).Event(wire.SeverityError), 1))
		if !strings.Contains(told.Detail, "behind an operator's") {
			t.Errorf("told %q", told.Detail)
		}
		for at, want := range map[time.Duration]wire.Step{
			30 * time.Minute: wire.CommandRejected, 90 * time.Minute: wire.CommandSucceeded,
		} {
			expires := fmt.Sprintf(`{"mode":"low-latency","expires_at":%q}`, time.Now().Add(at).UTC().Format(time.RFC3339))
			if got := o.command(cfg, cfg.Device, "mode", at.String(), expires); got.State != want {
				t.Errorf("it expires in %v of this clock: got %+v, want %s", at, got, want)
			}
		}
	})
}
