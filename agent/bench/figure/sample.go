package figure

import (
	"math"
	"slices"
)

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
