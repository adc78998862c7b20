package main

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
)

// mustFigures reads the lines of a benchmark, which must be those of the contract.
// extra are keys beyond what every figure has.
func mustFigures(t *testing.T, out string, extra ...string) (figures []figure) {
	t.Helper()
	keys := slices.Sorted(slices.Values(append(extra, "base", "bench", "better", "goal", "name", "ours", "ratio", "rounds", "stretch", "unit")))
	for line := range strings.Lines(out) {
		var found map[string]json.RawMessage
		if err := json.Unmarshal([]byte(line), &found); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if got := slices.Sorted(maps.Keys(found)); !slices.Equal(got, keys) {
			t.Errorf("got keys %v, want %v", got, keys)
		}
		var f figure
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		figures = append(figures, f)
	}
	return figures
}

// mustAgree compares what figures say of themselves with what is wanted of them:
// name, unit and whether more is better.
func mustAgree(t *testing.T, got []figure, bench string, want [][3]string) {
	t.Helper()
	var said [][3]string
	for _, f := range got {
		said = append(said, [3]string{f.Name, f.Unit, f.Better})
		better := f.Stretch < f.Goal
		if f.Better == higher {
			better = f.Stretch > f.Goal
		}
		if f.Bench != bench || f.Rounds != 1 || !(f.Base > 0) || !better {
			t.Errorf("got %+v, want a line of bench %s of one round, over a base, whose stretch goal is harder than its goal", f, bench)
		}
	}
	if !slices.Equal(said, want) {
		t.Errorf("got figures %q, want %q", said, want)
	}
}

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
			more := newFigure("b", "n", "1/s", []float64{tt.ours}, []float64{1}, tt.goal, tt.stretch).rising()
			less := newFigure("b", "n", "ms", []float64{tt.ours}, []float64{1}, tt.stretch, tt.goal)
			for _, f := range []figure{more, less} {
				want := map[string]string{higher: tt.more, lower: tt.less}[f.Better]
				var out bytes.Buffer
				p := printer{w: &out}
				if err := p.print(f); err != nil || f.verdict() != want || !strings.HasSuffix(out.String(), "  "+want+"\n") {
					t.Errorf("%s is better: got %q in %q, %v; want %q", f.Better, f.verdict(), out.String(), err, want)
				}
			}
		})
	}
}

func TestARatioIsTheMedianOfTheRounds(t *testing.T) {
	f := newFigure("b", "n", "ms", []float64{10, 1, 3}, []float64{10, 2, 2}, 1, 0.5)
	if f.Ours != 3 || f.Base != 2 || f.Ratio != 1 || f.Rounds != 3 || f.Better != lower {
		t.Errorf("got %+v; want 3 over 2, and the median of the ratios 1, 0.5 and 1.5", f)
	}
}
