// Package figure is what a benchmark says: a figure, ours against a named
// baseline, with the goal that it is held against.
//
//	measurements of a round ──Sample──▶ Figure ──Printer──▶ a table, or JSON lines
//
// The one rule: ours and base are measured in turns in one run, and a ratio is the
// median of the rounds' ratios, so that a machine whose speed drifts does not
// decide it.
package figure

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
)

// Figure is one line of a benchmark: ours against a named baseline, measured in
// turns in one run.
type Figure struct {
	Bench   string  `json:"bench"`
	Name    string  `json:"name"`
	Ours    float64 `json:"ours"` // median over the rounds
	Base    float64 `json:"base"` // median over the rounds
	Unit    string  `json:"unit"`
	Ratio   float64 `json:"ratio"` // median of the rounds' ratios
	Goal    float64 `json:"goal"`
	Stretch float64 `json:"stretch"`
	Better  string  `json:"better"` // Lower or Higher
	Rounds  int     `json:"rounds"`
	// ExpectedTop1 is the mean of the answers that ours counts, in [0, 1]; absent
	// where the member is the same on both sides.
	ExpectedTop1 *float64 `json:"expected_top1,omitempty"`
}

// Which way a figure is to go.
const (
	Lower  = "lower"
	Higher = "higher"
)

// New sums up rounds of ours and base, of which less is better.
func New(bench, name, unit string, ours, base Sample, goal, stretch float64) Figure {
	ratios := make(Sample, len(ours))
	for i := range ours {
		ratios[i] = ours[i] / base[i]
	}
	return Figure{Bench: bench, Name: name, Ours: ours.Median(), Base: base.Median(), Unit: unit,
		Ratio: ratios.Median(), Goal: goal, Stretch: stretch, Better: Lower, Rounds: len(ours)}
}

// Rising is the figure where more is better.
func (f Figure) Rising() Figure {
	f.Better = Higher
	return f
}

// reaches tells whether the ratio is as good as a limit, or better.
func (f Figure) reaches(limit float64) bool {
	if f.Better == Higher {
		return f.Ratio >= limit
	}
	return f.Ratio <= limit
}

// Verdict says in words how good the figure is.
func (f Figure) Verdict() string {
	switch {
	case f.reaches(f.Stretch):
		return "reaches the stretch goal"
	case f.reaches(f.Goal):
		return "reaches the goal"
	}
	return "misses the goal"
}

// Printer prints figures as they come.
type Printer struct {
	W     io.Writer
	JSON  bool // one object a line, and no notes
	begun bool
}

// Note tells people how the figures that follow are measured.
func (p *Printer) Note(format string, args ...any) {
	if !p.JSON {
		fmt.Fprintf(p.W, format+"\n", args...)
	}
}

// Print prints one figure.
func (p *Printer) Print(f Figure) error {
	if p.JSON {
		return json.NewEncoder(p.W).Encode(f)
	}
	if !p.begun {
		p.begun = true
		fmt.Fprintf(p.W, "\n%-34s %10s %10s %-4s %8s %8s %8s  %s\n", "figure", "ours", "base", "unit", "ratio",
			"goal", "stretch", "")
	}
	_, err := fmt.Fprintf(p.W, "%-34s %10.4g %10.4g %-4s %8.3f %8.3f %8.3f  %s\n",
		f.Name, f.Ours, f.Base, f.Unit, f.Ratio, f.Goal, f.Stretch, f.Verdict())
	return err
}

// Sample is measurements of one thing, in the order in which they were taken.
type Sample []float64

// Median is the middle one, or the mean of the middle two. There must be one.
func (s Sample) Median() float64 {
	sorted := slices.Sorted(slices.Values(s))
	n := len(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}

// Percentile is the one that p percent of them are under; 0 for none.
func (s Sample) Percentile(p int) float64 {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	return sorted[min(len(sorted)*p/100, len(sorted)-1)]
}

// Round cuts a number to the four digits after the point that are printed.
func Round(v float64) float64 { return math.Round(v*1e4) / 1e4 }

// Part is n of a whole, rounded; 0 of nothing.
func Part(n, of int) float64 {
	if of == 0 {
		return 0
	}
	return Round(float64(n) / float64(of))
}
