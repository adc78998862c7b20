package main

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/limber-edge/limber/"

// imports is what one package may import beside the standard library.
type imports struct {
	of        string
	ours      []string // packages of ours
	libraries []string // modules of others
}

// The ranks of the program's packages: each may import only packages of lower
// ranks, and of those only the ones named here. A foreign module has one
// importer, golang.org/x/sync excepted.
var ranks = [][]imports{
	{ // pure: the standard library and nothing else, but for the format of ONNX and that of a WebSocket
		{of: "agent/wire"},
		{of: "agent/governor"},
		{of: "agent/systemd"},
		{of: "family"},
		{of: "family/chart"},
		{of: "firmware/packaging"}, // units, scripts and the like, with tests in Go
		{of: "firmware/power"},
		{of: "firmware/slot"},
		{of: "family/train"}, // Python, with a test in Go
		{of: "family/onnx", libraries: []string{"google.golang.org/protobuf"}},
		{of: "agent/mqtt/websocket", libraries: []string{"github.com/gorilla/websocket"}},
	},
	{ // one library each, or one more step on the way of a family
		{of: "agent/frame", ours: []string{"family"}, libraries: []string{"github.com/gen2brain/jpegn", "golang.org/x/image"}},
		{of: "agent/governor/logbook", ours: []string{"agent/governor"}},
		{of: "agent/governor/replay", ours: []string{"agent/governor"}},
		{of: "agent/mqtt", ours: []string{"agent/mqtt/websocket"},
			libraries: []string{"github.com/eclipse/paho.mqtt.golang", "golang.org/x/sys"}},
		{of: "agent/monitor", libraries: []string{"github.com/shirou/gopsutil/v3"}},
		{of: "broker-config", ours: []string{"agent/wire"}},
		{of: "family/ofa", ours: []string{"family", "family/onnx"}},
		{of: "family/ort", libraries: []string{"github.com/yalue/onnxruntime_go"}},
		{of: "family/stock", ours: []string{"family"}},
		{of: "firmware/boot", ours: []string{"firmware/slot"}},
		{of: "firmware/image", libraries: []string{"github.com/godbus/dbus/v5"}},
		{of: "firmware/repo", ours: []string{"family"},
			libraries: []string{"github.com/theupdateframework/go-tuf/v2", "github.com/sigstore/sigstore"}},
		{of: "store", libraries: []string{"go.etcd.io/bbolt", "golang.org/x/sys"}},
	},
	{ // put together from those
		{of: "agent/pipeline", ours: []string{"agent/frame", "agent/governor", "agent/governor/logbook", "agent/wire", "family"}, libraries: []string{"golang.org/x/sync"}},
		{of: "family/library", ours: []string{"family", "family/stock", "store"}},
		{of: "agent/blob", ours: []string{"agent/mqtt", "agent/wire", "family"}},
		{of: "agent/host", ours: []string{"agent/monitor", "agent/wire", "firmware/power"}},
		{of: "agent/uplink", ours: []string{"agent/mqtt", "agent/wire", "store"}, libraries: []string{"golang.org/x/sync"}},
		{of: "family/resident", ours: []string{"family", "family/ofa", "family/onnx", "family/ort"}},
		{of: "family/search", ours: []string{"family", "family/ofa", "family/onnx", "store"}},
		{of: "family/trial", ours: []string{"family", "family/ort"}},
		{of: "broker-config/brokertest"},
		{of: "broker-config/certs", ours: []string{"agent/wire", "broker-config", "store"}},
		{of: "broker-config/devbroker", ours: []string{"agent/mqtt/websocket", "agent/wire", "broker-config"}, libraries: []string{"github.com/mochi-mqtt/server/v2"}},
		{of: "family/ort/orttest", ours: []string{"family/ort"}},
	},
	{ // what the device runs, and what it pursues: neither knows the other
		{of: "agent/engine", ours: []string{"agent/governor", "agent/monitor", "agent/pipeline", "agent/wire", "family", "store"}},
		{of: "agent/control", ours: []string{"agent/governor", "agent/uplink", "agent/wire", "firmware/power", "store"}},
	},
	{ // when its owner lets it be exchanged
		{of: "agent/control/controltest", ours: []string{"agent/control", "agent/governor", "agent/mqtt", "agent/uplink", "agent/wire", "store"}},
		{of: "agent/lock", ours: []string{"agent/control", "agent/wire"}},
	},
	{ // how what it runs is exchanged, and what a device is told: the keys of all the parts above
		{of: "agent/update", ours: []string{"agent/blob", "agent/control", "agent/engine", "agent/lock", "agent/wire", "family", "family/library", "firmware/repo", "store"}},
		{of: "agent/release", ours: []string{"agent/blob", "agent/control", "agent/engine", "agent/lock", "agent/pipeline", "agent/uplink", "agent/wire", "family", "firmware/repo", "firmware/slot", "store"}},
		{of: "agent/config", ours: []string{"agent/blob", "agent/control", "agent/governor", "agent/mqtt", "agent/uplink", "agent/wire", "family/ort", "firmware/power", "firmware/repo", "store"},
			libraries: []string{"github.com/pelletier/go-toml/v2"}},
	},
	{ // the device, the operator, and who makes families
		{of: "agent/check", ours: []string{"agent/config", "agent/mqtt", "agent/uplink", "agent/wire", "family/ort", "firmware/power",
			"firmware/slot", "store"}, libraries: []string{"golang.org/x/sys"}},
		{of: "agent", ours: []string{"agent/blob", "agent/config", "agent/control", "agent/engine", "agent/frame", "agent/governor", "agent/host", "agent/lock", "agent/monitor",
			"agent/mqtt", "agent/pipeline", "agent/release", "agent/update", "agent/uplink", "agent/wire",
			"family", "family/library", "family/ort", "family/resident", "firmware/power", "firmware/repo", "firmware/slot", "store"},
			libraries: []string{"golang.org/x/sync"}},
		{of: "agent/fleet", ours: []string{"agent/mqtt", "agent/wire"}},
		{of: "broker-config/brokercheck", ours: []string{"agent/mqtt", "agent/wire"}},
		{of: "broker-config/natstest", ours: []string{"agent/mqtt", "agent/wire", "broker-config", "broker-config/brokertest", "broker-config/certs"},
			libraries: []string{"github.com/nats-io/nats-server/v2"}},
		{of: "family/familytest", ours: []string{"agent/frame", "family", "family/ofa", "family/onnx", "family/ort", "family/ort/orttest", "family/stock", "family/trial"}},
		{of: "family/workshop", ours: []string{"agent/frame", "family", "family/ofa", "family/onnx", "family/ort", "family/resident", "family/search", "family/stock", "store"}},
	},
	{ // the rules of the fleet, and who else looks at it
		{of: "agent/fleet/rollout", ours: []string{"agent/fleet", "agent/wire"}},
		{of: "agent/fleet/hass", ours: []string{"agent/fleet", "agent/mqtt", "agent/wire"}, libraries: []string{"golang.org/x/sync"}},
	},
	{ // who carries them out
		{of: "agent/fleet/controller", ours: []string{"agent/blob", "agent/fleet", "agent/fleet/hass", "agent/fleet/rollout",
			"agent/mqtt", "agent/wire", "family", "store"}, libraries: []string{"golang.org/x/sync"}},
	},
	{ // who shows it
		{of: "agent/dash", ours: []string{"agent/blob", "agent/fleet", "agent/fleet/controller", "agent/mqtt", "agent/wire"},
			libraries: []string{"golang.org/x/sync"}},
	},
	{ // who reads the device
		{of: "agent/metrics", ours: []string{"agent", "agent/config", "agent/governor", "agent/pipeline", "agent/wire", "store"},
			libraries: []string{"github.com/prometheus/client_golang"}},
	},
	{ // what a benchmark needs
		{of: "agent/bench/figure"},
		{of: "agent/bench/load"},
		{of: "agent/bench/camera", ours: []string{"agent/frame", "agent/wire", "family/stock"}},
		{of: "agent/bench/desk", ours: []string{"agent", "agent/config", "agent/fleet", "agent/frame", "agent/mqtt", "agent/wire", "family", "family/resident", "store"}},
	},
	{ // benchmarks
		{of: "agent/sim", ours: []string{"agent", "agent/config", "agent/engine", "agent/fleet", "agent/governor", "agent/monitor",
			"agent/mqtt", "agent/release", "agent/wire", "family", "firmware/power", "firmware/slot", "store"},
			libraries: []string{"golang.org/x/sync"}},
		{of: "agent/bench", ours: []string{"agent/bench/camera", "agent/bench/desk", "agent/bench/figure", "agent/bench/load",
			"agent/blob", "agent/fleet", "agent/fleet/rollout", "agent/frame", "agent/governor", "agent/governor/replay", "agent/monitor", "agent/mqtt", "agent/pipeline", "agent/wire",
			"family", "family/chart", "family/ofa", "family/onnx", "family/ort", "family/resident", "family/stock",
			"family/workshop", "store"},
			libraries: []string{"golang.org/x/sync"}},
	},
	{ // the demo, which shows progress as they do
		{of: "agent/bench/demo", ours: []string{"agent/bench", "agent/bench/camera", "agent/bench/desk", "agent/bench/figure", "agent/bench/load",
			"agent/fleet", "agent/frame", "agent/mqtt", "agent/wire", "broker-config/devbroker", "family", "family/resident"},
			libraries: []string{"golang.org/x/sync"}},
	},
	{ // programs
		{of: "agent/cmd/limber-boot", ours: []string{"firmware/boot"}},
		{of: "agent/cmd/limber", ours: []string{"agent", "agent/blob", "agent/check", "agent/config", "agent/control", "agent/dash", "agent/bench", "agent/bench/camera", "agent/bench/demo",
			"agent/bench/figure", "agent/bench/load", "agent/fleet", "agent/fleet/controller", "agent/fleet/rollout", "agent/frame",
			"agent/governor", "agent/governor/logbook", "agent/governor/replay", "agent/lock", "agent/metrics", "agent/mqtt", "agent/pipeline",
			"agent/release", "agent/sim", "agent/systemd", "agent/uplink", "agent/wire",
			"broker-config", "broker-config/brokercheck", "broker-config/certs", "broker-config/devbroker", "family", "family/chart",
			"family/library", "family/ofa", "family/onnx", "family/ort", "family/resident", "family/search", "family/stock",
			"family/trial", "family/workshop", "firmware/power", "firmware/repo", "firmware/slot", "store"},
			libraries: []string{"github.com/spf13/cobra", "github.com/spf13/pflag", "golang.org/x/sync", "golang.org/x/term"}},
	},
}

func TestPackagesImportOnlyWhatTheirRankAllows(t *testing.T) {
	table := map[string]imports{}
	for _, rank := range ranks {
		for _, row := range rank {
			table[row.of] = row
		}
	}
	for _, p := range mustList(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		row, ok := table[name]
		if !ok {
			t.Errorf("package %s has no row: give it one in the rank it belongs to", name)
			continue
		}
		for _, path := range p.Imports {
			switch ours, isOurs := strings.CutPrefix(path, module); {
			case isOurs && !slices.Contains(row.ours, ours):
				t.Errorf("%s imports %s, its row allows %v of ours", name, ours, row.ours)
			case !isOurs && foreign(path) && !slices.ContainsFunc(row.libraries, func(l string) bool { return within(path, l) }):
				t.Errorf("%s imports %s, its row allows %v of others", name, path, row.libraries)
			}
		}
	}
}

func TestRanksPointDownwards(t *testing.T) {
	var lower []string
	for _, rank := range ranks {
		for _, row := range rank {
			for _, path := range row.ours {
				if !slices.Contains(lower, path) {
					t.Errorf("%s may import %s, which is not of a lower rank", row.of, path)
				}
			}
		}
		for _, row := range rank {
			lower = append(lower, row.of)
		}
	}
}

func TestEachLibraryHasOneImporter(t *testing.T) {
	importer := map[string]string{}
	shared := map[string]bool{"golang.org/x/sync": true, "golang.org/x/sys": true} // as good as Go's own
	for _, rank := range ranks {
		for _, row := range rank {
			for _, library := range row.libraries {
				if first, ok := importer[library]; ok && !shared[library] {
					t.Errorf("%s and %s may both import %s, one must", first, row.of, library)
				}
				importer[library] = row.of
			}
		}
	}
}

// listed is what `go list` says of a package.
type listed struct {
	ImportPath string
	Imports    []string // without those of its tests
}

func mustList(t *testing.T) []listed {
	t.Helper()
	var stderr strings.Builder
	c := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", module+"...")
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var packages []listed
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

// foreign tells whether a path is not of the standard library, whose paths have
// no dot in their first part.
func foreign(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return strings.Contains(first, ".")
}

// within tells whether a package belongs to a module.
func within(path, library string) bool {
	return path == library || strings.HasPrefix(path, library+"/")
}

// TestNothingOfATestIsInTheProgram keeps the servers out that tests run.
func TestNothingOfATestIsInTheProgram(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for path := range strings.Lines(string(out)) {
		path = strings.TrimSpace(path)
		if path == "testing" || within(path, "github.com/nats-io/nats-server/v2") {
			t.Errorf("the program has %s", path)
		}
	}
}
