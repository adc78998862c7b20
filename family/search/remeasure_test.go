package search_test

import (
	"context"
	"errors"
	"testing"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/search"
)

// clock says what a test wants it to.
type clock func(a family.Arch) (float64, error)

func (c clock) Latency(a family.Arch) (float64, error) { return c(a) }

func TestRemeasureKeepsWhatNothingFasterBeats(t *testing.T) {
	net, load := mustNarrowed(t), loader(t)
	set := noise{n: 40, label: modulo(net.Classes())}
	sets := search.Sets{Calibration: search.Part(set, 0, 20), Validation: search.Part(set, 20, 20)}
	d := net.Description()
	depth, r := d.D[0], d.Resolutions[0]
	archs := []family.Arch{d.Uniform(3, 3, depth, r), d.Uniform(5, 4, depth, r), d.Uniform(7, 6, depth, r)}
	// The larger one is, the faster: only the most accurate and those faster stay.
	backwards := clock(func(a family.Arch) (float64, error) { return 100 - float64(a.KS[0]), nil })
	found, err := search.Remeasure(t.Context(), net, load, sets, backwards, archs, 3, quiet)
	if err != nil || len(found) == 0 || found[0].Latency != 93 || !found[0].Net.Arch().Equal(archs[2]) {
		t.Fatalf("got %v, %v; want the fastest of 93 ms first", found, err)
	}
	for i := 1; i < len(found); i++ {
		if found[i].Latency <= found[i-1].Latency || found[i].Top1 <= found[i-1].Top1 {
			t.Errorf("got %v of %v ms after %v of %v ms", found[i], found[i].Latency, found[i-1], found[i-1].Latency)
		}
	}
	gone := errors.New("the clock is gone")
	if _, err := search.Remeasure(t.Context(), net, load, sets, clock(func(family.Arch) (float64, error) { return 0, gone }), archs, 3, quiet); !errors.Is(err, gone) {
		t.Errorf("got %v, want %v", err, gone)
	}
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := search.Remeasure(stopped, net, load, sets, backwards, archs, 3, quiet); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: got %v, want %v", err, context.Canceled)
	}
}

func TestTimerMeasuresASubNetwork(t *testing.T) {
	net, load := mustSupernet(t), loader(t)
	d := net.Description()
	timer := search.Timer{Net: net, Load: load, Runs: 5}
	ms, err := timer.Latency(d.Uniform(3, 3, 2, 24))
	if err != nil || !(ms > 0 && ms < 10_000) {
		t.Errorf("got %v ms, %v; want a latency", ms, err)
	}
	if ms, err := timer.Latency(d.Uniform(9, 3, 2, 24)); err == nil {
		t.Errorf("kernel size 9: got %v ms, want an error", ms)
	}
}
