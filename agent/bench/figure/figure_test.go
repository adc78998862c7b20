package figure

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

func TestAFigureIsJudgedByWhichWayIsBetter(t *testing.T) {
	for _, tt := range []struct {
		name                string
		ours, goal, stretch float64
		more, less          string // verdicts, where more is better and where less is
	}{
		{"far below", 0.5, 0.9, 1.1, "misses the goal", "reaches the stretch goal"},
		{"at the lower limit", 0.9, 0.9, 1.1, "reaches the goal", "reaches the stretch goal"},
		{"between", 1, 0.9, 1.1, "reaches the goal", "reaches the goal"},
		{"at the upper limit", 1.1, 0.9, 1.1, "reaches the stretch goal", "reaches the goal"},
		{"far above", 2, 0.9, 1.1, "reaches the stretch goal", "misses the goal"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			more := New("b", "n", "1/s", []float64{tt.ours}, []float64{1}, tt.goal, tt.stretch).Rising()
			less := New("b", "n", "ms", []float64{tt.ours}, []float64{1}, tt.stretch, tt.goal)
			for _, f := range []Figure{more, less} {
				want := map[string]string{Higher: tt.more, Lower: tt.less}[f.Better]
				var out bytes.Buffer
				p := Printer{W: &out}
				if err := p.Print(f); err != nil || f.Verdict() != want || !strings.HasSuffix(out.String(),
					"  "+want+"\n") {
					t.Errorf("%s is better: got %q in %q, %v; want %q", f.Better, f.Verdict(), out.String(), err, want)
				}
			}
		})
	}
}

func TestARatioIsTheMedianOfTheRounds(t *testing.T) {
	f := New("b", "n", "ms", []float64{10, 1, 3}, []float64{10, 2, 2}, 1, 0.5)
	if f.Ours != 3 || f.Base != 2 || f.Ratio != 1 || f.Rounds != 3 || f.Better != Lower {
		t.Errorf("got %+v; want 3 over 2, and the median of the ratios 1, 0.5 and 1.5", f)
	}
}

func TestARatioIsNoRatioOfMedians(t *testing.T) {
	f := New("core", "x", "ms", []float64{2, 30, 4}, []float64{1, 10, 1}, 2.5, 1.1)
	if f.Ratio != 3 || f.Ours != 4 || f.Base != 1 || f.Rounds != 3 {
		t.Errorf("got %+v, want ratio 3, ours 4, base 1, 3 rounds", f)
	}
}

func TestASampleIsSummedUpWithoutBeingSorted(t *testing.T) {
	for _, tt := range []struct {
		sample        Sample
		median        float64
		p50, p95, max float64
	}{
		{Sample{3, 1, 2}, 2, 2, 3, 3},
		{Sample{4, 1, 3, 2}, 2.5, 3, 4, 4},
		{Sample{7}, 7, 7, 7, 7},
	} {
		before := slices.Clone(tt.sample)
		got := [4]float64{tt.sample.Median(), tt.sample.Percentile(50), tt.sample.Percentile(95),
			tt.sample.Percentile(100)}
		if got != [4]float64{tt.median, tt.p50, tt.p95, tt.max} || !slices.Equal(before, tt.sample) {
			t.Errorf("%v: got median, p50, p95 and p100 %v, sample after %v; want %+v", before, got, tt.sample, tt)
		}
	}
	if got := (Sample{}).Percentile(95); got != 0 {
		t.Errorf("nothing measured: got %v, want 0", got)
	}
}

func TestAPartOfNothingIsNothing(t *testing.T) {
	if got := [3]float64{Part(1, 3), Part(0, 0), Round(2.00004)}; got != [3]float64{0.3333, 0, 2} {
		t.Errorf("got %v", got)
	}
}
