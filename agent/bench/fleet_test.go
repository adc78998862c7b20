package bench

import (
	"bytes"
	"slices"
	"testing"

	"github.com/limber-edge/limber/agent/bench/figure"
)

func TestFleetPrintsWhatTheContractSays(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	b := fleetBench{Bench: testBench(t, &out), rounds: 1, sizes: []int{2, 4}, modes: 2, blob: 1 << 20}
	if err := b.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	figures := mustFigures(t, out.String())
	for _, f := range figures[:6] {
		if f.Bench != "fleet" || !(f.Ours > 0) || !(f.Base > 0) {
			t.Errorf("got %+v, want more than nothing", f)
		}
	}
	var said [][3]string
	for _, f := range figures {
		said = append(said, [3]string{f.Name, f.Unit, f.Better})
	}
	want := [][3]string{{"birth 2", "s", figure.Lower}, {"mode p50 2", "ms", figure.Lower}, {"mode p95 2", "ms", figure.Lower},
		{"birth 4", "s", figure.Lower}, {"mode p50 4", "ms", figure.Lower}, {"mode p95 4", "ms", figure.Lower},
		{"memory of the broker", "KiB", figure.Lower}, {"memory of the controller", "KiB", figure.Lower},
		{"memory of a client", "KiB", figure.Lower},
		{"memory of evidence", "KiB", figure.Lower}, {"blob", "MB/s", figure.Higher}}
	if !slices.Equal(said, want) {
		t.Errorf("got figures %q, want %q", said, want)
	}
}
