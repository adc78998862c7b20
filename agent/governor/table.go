package governor

import (
	"math"
	"sync"
	"weak"
)

// The bins of a latency histogram, in units of the member's profile.
const (
	bins      = 42
	binLow    = 0.75 // lower edge of the first bin
	binRatio  = 1.08 // width of a bin
	binHigh   = 19.0 // upper edge of the last bin, which holds everything beyond
	beyond    = 19.1 // past that edge by more than rounding
	meanLimit = 8    // times the profile: the tail of outliers must not rule a mean
)

// belief is a probability for each load.
type belief [levels]float64

// dot is the mean of what depends on the load. Four sums at once do not wait for
// each other.
func (b *belief) dot(v *belief) float64 {
	var s0, s1, s2, s3 float64
	k := 0
	for ; k+4 <= levels; k += 4 {
		s0 += b[k] * v[k]
		s1 += b[k+1] * v[k+1]
		s2 += b[k+2] * v[k+2]
		s3 += b[k+3] * v[k+3]
	}
	for ; k < levels; k++ {
		s0 += b[k] * v[k]
	}
	return s0 + s1 + (s2 + s3)
}

// table is how long one member takes, under each load.
type table struct {
	below [bins + 1]belief // chance to take less than each bin's lower edge; 1 at the end
	mean  belief           // in units of the profile, bins counted at most meanLimit
	rate  belief           // 1 / mean
}

// newTable works out the table of a member that takes profile ms unloaded.
func newTable(profile float64) *table {
	t := new(table)
	var edges [bins + 1]float64 // ms
	for b := range edges {
		edges[b] = profile * binLow * math.Pow(binRatio, float64(b))
	}
	for k, l := range loads() {
		t.fill(k, histogram(l.run(profile), &edges))
	}
	return t
}

// histogram is the chance of each bin. A latency near an edge counts on both
// sides: the edges mean nothing.
func histogram(r run, edges *[bins + 1]float64) (h [bins]float64) {
	var mass [bins]float64
	sum := 0.0
	below := 0.0
	for b := range mass {
		upper := r.within(edges[b+1])
		mass[b] = max(0, upper-below)
		below = upper
	}
	mass[bins-1] += 1 - below
	for _, m := range mass {
		sum += m
	}
	for b, m := range mass {
		m = (1-outlierMass)*m/sum + outlierMass/bins
		h[b] += m / 2
		h[max(b-1, 0)] += m / 4
		h[min(b+1, bins-1)] += m / 4
	}
	return h
}

func (t *table) fill(k int, h [bins]float64) {
	sum := 0.0
	center := binLow * math.Sqrt(binRatio)
	for b, share := range h {
		sum += share
		t.below[b+1][k] = sum
		t.mean[k] += share * min(center, meanLimit)
		center *= binRatio
	}
	t.rate[k] = 1 / t.mean[k]
}

// bin is the chance of bin b under each load.
func (t *table) bin(b int) (chance belief) {
	low, high := &t.below[b], &t.below[b+1]
	for k := range chance {
		chance[k] = high[k] - low[k]
	}
	return chance
}

// likely is the chance to take at most x bins above the first edge under a belief;
// see Grid.position.
func (t *table) likely(x float64, b *belief) float64 {
	n := max(0, min(int(x), bins-1))
	part := max(0, min(x-float64(n), 1))
	return (1-part)*b.dot(&t.below[n]) + part*b.dot(&t.below[n+1])
}

// upTo fills in the chance to take at most x bins above the first edge, under
// each load, and returns that under a belief; see Grid.position.
func (t *table) upTo(x float64, b *belief, chance *belief) (likely float64) {
	n := max(0, min(int(x), bins-1))
	part := max(0, min(x-float64(n), 1))
	low, high := &t.below[n], &t.below[n+1]
	for k := range chance {
		c := low[k] + part*(high[k]-low[k])
		chance[k] = c
		likely += b[k] * c
	}
	return likely
}

// Tables is what governors of one process have in common: the tables of members
// with the same latency, 28 kB and half a millisecond each, which nobody changes
// once they are made. One that no governor uses any more is forgotten. The zero
// value is ready; its methods are safe for concurrent use.
type Tables struct {
	mu   sync.Mutex
	made map[float64]weak.Pointer[table] // by latency, ms
}

// of is the table of a member that takes profile ms unloaded. Without Tables it
// is a new one.
func (t *Tables) of(profile float64) *table {
	if t == nil {
		return newTable(profile)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if known := t.made[profile].Value(); known != nil {
		return known
	}
	for latency, one := range t.made {
		if one.Value() == nil {
			delete(t.made, latency)
		}
	}
	if t.made == nil {
		t.made = make(map[float64]weak.Pointer[table])
	}
	made := newTable(profile)
	t.made[profile] = weak.Make(made)
	return made
}
