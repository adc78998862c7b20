package host

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limber-edge/limber/agent/monitor"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/firmware/power"
)

func TestTelemetryTellsWhatTheBoardTakesWithAndWithoutInferences(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		chip := filepath.Join(t.TempDir(), "sys/class/hwmon/hwmon0")
		root := filepath.Join(chip, "../../../..")
		if err := os.MkdirAll(chip, 0o700); err != nil {
			t.Fatal(err)
		}
		write := func(file, value string) {
			if err := os.WriteFile(filepath.Join(chip, file), []byte(value), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write("name", "ina3221")
		write("in1_label", "VDD_IN")
		write("in1_input", "5000")
		write("curr1_input", "800")
		h, busy := New(monitor.New(root), power.New(root)), time.Duration(0)
		for second := range 120 {
			share := float64(second / 20 % 2)                         // for 20 s none, for 20 s all of the time
			write("curr1_input", fmt.Sprintf("%.0f", 800+1200*share)) // 4 W and 6 W more
			busy += time.Duration(share * float64(time.Second))
			<-time.After(time.Second)
			h.Sample(busy)
		}
		var got wire.Telemetry
		h.Fill(&got, 1, busy)
		if got.IdleW == nil || math.Abs(*got.IdleW-4) > 0.4 || got.ActiveW == nil || math.Abs(*got.ActiveW-6) > 0.6 {
			t.Errorf("got %v and %v W, want about 4 and 6", got.IdleW, got.ActiveW)
		}
		if want := 4.0*60 + 10*60; got.Joules == nil || math.Abs(*got.Joules-want) > 20 || got.PowerW == nil ||
			math.Abs(*got.PowerW-7) > 0.2 {
			t.Errorf("got %v J and %v W, want about %v J of one inference in 120 s", got.Joules, got.PowerW, want)
		}
	})
}
