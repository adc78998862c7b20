package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"
)

// figure is one line of a benchmark: ours against a named baseline, measured in
// turns in one run.
type figure struct {
	Bench   string  `json:"bench"`
	Name    string  `json:"name"`
	Ours    float64 `json:"ours"` // median over the rounds
	Base    float64 `json:"base"` // median over the rounds
	Unit    string  `json:"unit"`
	Ratio   float64 `json:"ratio"` // median of the rounds' ratios
	Goal    float64 `json:"goal"`
	Stretch float64 `json:"stretch"`
	Better  string  `json:"better"` // lower or higher
	Rounds  int     `json:"rounds"`
	// ExpectedTop1 is the mean of the answers that ours counts, in [0, 1]; absent
	// where the member is the same on both sides.
	ExpectedTop1 *float64 `json:"expected_top1,omitempty"`
}

// Which way a figure is to go.
const (
	lower  = "lower"
	higher = "higher"
)

// rounds is how often every figure is measured; a noisy machine needs at least
// five.
const rounds = 7

// newFigure sums up rounds of ours and base.
func newFigure(bench, name, unit string, ours, base []float64, goal, stretch float64) figure {
	ratios := make([]float64, len(ours))
	for i := range ours {
		ratios[i] = ours[i] / base[i]
	}
	return figure{Bench: bench, Name: name, Ours: median(ours), Base: median(base), Unit: unit, Ratio: median(ratios),
		Goal: goal, Stretch: stretch, Better: lower, Rounds: len(ours)}
}

// rising is the figure where more is better.
func (f figure) rising() figure {
	f.Better = higher
	return f
}

// reaches tells whether the ratio is as good as a limit, or better.
func (f figure) reaches(limit float64) bool {
	if f.Better == higher {
		return f.Ratio >= limit
	}
	return f.Ratio <= limit
}

// verdict says in words how good the figure is.
func (f figure) verdict() string {
	switch {
	case f.reaches(f.Stretch):
		return "reaches the stretch goal"
	case f.reaches(f.Goal):
		return "reaches the goal"
	}
	return "misses the goal"
}

func median(v []float64) float64 {
	sorted := slices.Sorted(slices.Values(v))
	n := len(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}

func newBench() *cobra.Command {
	c := group("bench", "Measure ratios against named baselines", `  limber bench core
  limber bench e2e
  limber bench memory --json`)
	c.AddCommand(newBenchCore(), newBenchMemory(), newBenchE2E(), newBenchOverload(), newBenchGovernor(), newBenchRecord(), newBenchLive())
	return c
}

// printer prints figures as they come.
type printer struct {
	w      io.Writer
	asJSON bool
	begun  bool
}

// note tells people how the figures that follow are measured.
func (p *printer) note(format string, args ...any) {
	if !p.asJSON {
		fmt.Fprintf(p.w, format+"\n", args...)
	}
}

func (p *printer) print(f figure) error {
	if p.asJSON {
		return json.NewEncoder(p.w).Encode(f)
	}
	if !p.begun {
		p.begun = true
		fmt.Fprintf(p.w, "\n%-34s %10s %10s %-4s %8s %8s %8s  %s\n", "figure", "ours", "base", "unit", "ratio", "goal", "stretch", "")
	}
	_, err := fmt.Fprintf(p.w, "%-34s %10.4g %10.4g %-4s %8.3f %8.3f %8.3f  %s\n", f.Name, f.Ours, f.Base, f.Unit, f.Ratio, f.Goal, f.Stretch, f.verdict())
	return err
}
