package bench

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/limber-edge/limber/agent/bench/figure"
)

// mustFigures reads the lines of a benchmark, which must be those of the contract.
// extra are keys beyond what every figure has.
func mustFigures(t *testing.T, out string, extra ...string) (figures []figure.Figure) {
	t.Helper()
	keys := slices.Sorted(slices.Values(append(extra, "base", "bench", "better", "goal", "name", "ours", "ratio",
		"rounds", "stretch", "unit")))
	for line := range strings.Lines(out) {
		var found map[string]json.RawMessage
		if err := json.Unmarshal([]byte(line), &found); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if got := slices.Sorted(maps.Keys(found)); !slices.Equal(got, keys) {
			t.Errorf("got keys %v, want %v", got, keys)
		}
		var f figure.Figure
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		figures = append(figures, f)
	}
	return figures
}

// mustAgree compares what figures say of themselves with what is wanted of them:
// name, unit and whether more is better.
func mustAgree(t *testing.T, got []figure.Figure, bench string, want [][3]string) {
	t.Helper()
	var said [][3]string
	for _, f := range got {
		said = append(said, [3]string{f.Name, f.Unit, f.Better})
		better := f.Stretch < f.Goal
		if f.Better == figure.Higher {
			better = f.Stretch > f.Goal
		}
		if f.Bench != bench || f.Rounds != 1 || !(f.Base > 0) || !better {
			t.Errorf("got %+v, want a line of bench %s of one round, over a base, whose stretch goal is harder "+
				"than its goal", f, bench)
		}
	}
	if !slices.Equal(said, want) {
		t.Errorf("got figures %q, want %q", said, want)
	}
}
