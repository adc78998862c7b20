package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/wire"
)

// measured is a device that knows what its members take, and works with the middle one.
func measured() fleet.Whole {
	member := func(name string, top1, p50, p95 float64) wire.Member {
		return wire.Member{Name: name, Top1: top1, P50MS: &p50, P95MS: &p95}
	}
	return fleet.Whole{Device: fleet.Device{Name: "cam-17",
		Caps: &wire.Caps{Family: &wire.Family{Name: "cifar10"}, Members: []wire.Member{member("5.8M", 0.804, 0.61, 0.74),
			member("9.7M", 0.848, 0.83, 1.01), member("14.8M", 0.872, 1.12, 1.35), member("23.1M", 0.892, 1.64, 1.98),
			{Name: "44.0M", Top1: 0.9}}},
		Reported: &wire.Reported{Member: "14.8M"}},
		Telemetry: &wire.Telemetry{Member: "14.8M", P95MS: new(1.8)}}
}

func TestThePictureOfADeviceShowsItsFrontAndItsOperatingPoint(t *testing.T) {
	name := filepath.Join(t.TempDir(), "front.svg")
	if err := plotDevice(name, measured()); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for _, want := range []string{"Family cifar10 on cam-17, which works with 14.8M",
		"latency of one inference, ms", ">5.8M<", ">14.8M<", ">p95 now<", "prefers-color-scheme: dark"} {
		if !strings.Contains(text, want) {
			t.Errorf("the picture lacks %q", want)
		}
	}
	if rings := strings.Count(text, `r="7"`); rings != 3 || strings.Contains(text, "44.0M") {
		t.Errorf("got %d rings, want those of the member in force, and none that is not measured:\n%s", rings, text)
	}
}

func TestADeviceThatMeasuredNothingHasNoPicture(t *testing.T) {
	unmeasured := &wire.Caps{Family: &wire.Family{Name: "cifar10"}, Members: []wire.Member{{Name: "a"}}}
	for _, caps := range []*wire.Caps{nil, {}, unmeasured} {
		name := filepath.Join(t.TempDir(), "front.svg")
		err := plotDevice(name, fleet.Whole{Device: fleet.Device{Name: "cam-17", Caps: caps}})
		if err == nil || !strings.Contains(err.Error(), "cam-17 has not measured its members yet") {
			t.Errorf("got %v, want that nothing is measured", err)
		}
	}
}
