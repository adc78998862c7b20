//go:build torture

package bench

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/bench/camera"
	"github.com/limber-edge/limber/agent/bench/load"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/ort/orttest"
	"github.com/limber-edge/limber/family/stock"
)

// What takes real members, processes of their own and seconds: `make torture`. In
// `make test` the same code runs against fakes.

func mustORT(t *testing.T) *ort.Runtime {
	t.Helper()
	t.Setenv("ONNXRUNTIME_LIB", orttest.Path(t)) // for the processes
	return orttest.Open(t)
}

func TestE2EMeasuresARealAgent(t *testing.T) {
	rt := mustORT(t)
	var out bytes.Buffer
	b := e2eBench{Bench: testBench(t, &out), rounds: 1, slot: 100 * time.Millisecond, spell: time.Millisecond,
		least: 2 * turns,
		sizes: [2]camera.Size{{Name: "vga", Width: 64, Side: 48}, {Name: "hd", Width: 128, Side: 96}}}
	if err := b.run(t.Context(), rt); err != nil {
		t.Fatal(err)
	}
	mustAgree(t, mustFigures(t, out.String()), "e2e", e2eFigures())
}

func TestOverloadMeasuresARealAgent(t *testing.T) {
	t.Setenv("ONNXRUNTIME_LIB", orttest.Path(t))
	var out bytes.Buffer
	if err := smallOverload(t, &out, 300*time.Millisecond).run(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustAccount(t, out.String())
}

func TestShadowMeasuresARealAgent(t *testing.T) {
	t.Setenv("ONNXRUNTIME_LIB", orttest.Path(t))
	var out bytes.Buffer
	if err := smallShadow(t, &out, 300*time.Millisecond).run(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustAgree(t, mustFigures(t, out.String()), "shadow", shadowFigures())
}

func TestMemoryIsLessThanPlainSessionsTake(t *testing.T) {
	rt := mustORT(t)
	var out bytes.Buffer
	b := memoryBench{Bench: testBench(t, &out), rounds: 1, probe: probeProcess}
	if err := b.run(t.Context(), rt, ""); err != nil {
		t.Fatal(err)
	}
	fam, err := stock.Family()
	if err != nil {
		t.Fatal(err)
	}
	got := mustFigures(t, out.String())
	mustAgree(t, got, "memory", memoryFigures(len(fam.Members)))
	// Memory does not depend on who else uses the machine, times do.
	if f := got[0]; !(f.Ours > 0 && f.Ours < f.Base && f.Ratio < 1) {
		t.Errorf("got %+v, want less memory than plain sessions take", f)
	}
}

func TestARecordedTraceHasAllMembers(t *testing.T) {
	rt := mustORT(t)
	path := filepath.Join(t.TempDir(), "trace.txt")
	stages, err := load.Parse("500ms idle, 200ms cpu:1+low:1, 200ms memory:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := Record(t.Context(), testBench(t, nil), rt, Recording{Stages: stages, Seed: 1, Out: path}); err != nil {
		t.Fatal(err)
	}
	fam, err := stock.Family()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	mustFollow(t, f, len(fam.Members), map[int]int{0: 0, 1: 2, 2: 1})
}

func TestLiveServesWithRealMembers(t *testing.T) {
	lines, err := Live(t.Context(), testBench(t, nil), mustORT(t), LiveOptions{Deadlines: []float64{20},
		Slot: 60 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	for i := range lines { // the largest that is worth using on this machine
		if strings.HasPrefix(lines[i].Policy, "static:") {
			lines[i].Policy = "static"
		}
	}
	mustLine(t, lines, map[string]int{"dynamic-ofa": 2, "alert": 2, "static": 2, "limber": 2})
}

func TestAStartIsMeasuredAgainstTheBareRuntime(t *testing.T) {
	rt := mustORT(t)
	b := testBench(t, nil)
	f, err := b.start(t.Context(), rt)
	if err != nil || f.Name != "start to first answer" || !(f.Ours > 0 && f.Base > 0) {
		t.Errorf("got %+v, %v; want a measurement", f, err)
	}
}
