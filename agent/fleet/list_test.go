package fleet_test

import (
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/wire"
)

func TestAnAgeIsShownInItsGreatestUnit(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 0: "0s", 119 * time.Second: "119s", 2 * time.Minute: "2m", 119 * time.Minute: "119m",
		2 * time.Hour: "2h", 47 * time.Hour: "47h", 48 * time.Hour: "2d", 1000 * time.Hour: "41d",
	} {
		if got := fleet.Age(d); got != want {
			t.Errorf("%v: got %s, want %s", d, got, want)
		}
	}
}

func TestADeviceIsOneLineHoweverLittleIsKnown(t *testing.T) {
	now := time.Now()
	p50 := 1.234
	for _, tt := range []struct {
		name   string
		device fleet.Device
		want   string
	}{
		{"nothing", fleet.Device{Name: "cam"}, "cam - - - - - - - -"},
		{"lost", fleet.Device{Name: "cam", State: &wire.State{State: wire.Lost, TS: wire.At(now.Add(-3 * time.Hour))}},
			"cam lost - - - - - - -"},
		{"no runtime", fleet.Device{
			Name:  "cam",
			State: &wire.State{State: wire.Online, TS: wire.At(now), Detail: "no inference: install it"},
			Caps:  &wire.Caps{Versions: wire.Versions{Agent: "v1"}},
		}, "cam online 0s - - - - - v1 no inference: install it"},
		{"all", fleet.Device{
			Name:     "cam",
			State:    &wire.State{State: wire.Online, TS: wire.At(now)},
			Reported: &wire.Reported{Mode: "balanced", Member: "18M"},
			Caps: &wire.Caps{Versions: wire.Versions{Agent: "v1"}, Family: &wire.Family{Name: "cifar10"},
				Members: []wire.Member{{Top1: 0.726, P50MS: &p50}, {Top1: 0.811, P50MS: &p50}}},
		}, "cam online 0s balanced 18M cifar10 72.6-81.1 1.23-1.23 v1"},
	} {
		if got := strings.TrimSpace(strings.Join(append(tt.device.Cells(now), tt.device.Note()), " ")); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}
