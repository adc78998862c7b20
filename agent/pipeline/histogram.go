package pipeline

import (
	"math"
	"time"
)

// The buckets of a Histogram: a first one below shortest, then perOctave for each
// factor of two, and a last one from 2^octaves times shortest on, 134 s. The bounds
// are those of Prometheus' native histograms of schema 3, in microseconds.
const (
	shortest  = time.Microsecond
	perOctave = 8
	octaves   = 27
	buckets   = 1 + perOctave*octaves + 1
)

// Histogram counts durations, from the beginning and for good: what happened in
// between is the difference of two, see Since. It is a value; the zero one is
// empty.
type Histogram struct {
	counts [buckets]uint64
	sum    time.Duration
}

func (h *Histogram) observe(d time.Duration) {
	h.counts[bucket(d)]++
	h.sum += d
}

// bucket is the index of the one that a duration counts in.
func bucket(d time.Duration) int {
	if d < shortest {
		return 0
	}
	return min(buckets-1, 1+int(perOctave*math.Log2(float64(d)/float64(shortest))))
}

// Count is how many durations were counted.
func (h *Histogram) Count() (n uint64) {
	for _, c := range h.counts {
		n += c
	}
	return n
}

// Sum is that of the durations counted.
func (h *Histogram) Sum() time.Duration { return h.sum }

// Cumulative is how many durations stay below each of 33 bounds, in seconds: two an
// octave from 128 µs to 8.4 s, which are bounds of buckets.
func (h *Histogram) Cumulative() map[float64]uint64 {
	const first, last, step = 1 + 7*perOctave, 1 + 23*perOctave, perOctave / 2
	below, n := make(map[float64]uint64, (last-first)/step+1), uint64(0)
	for i, c := range h.counts[:last+1] {
		if i >= first && (i-first)%step == 0 {
			below[shortest.Seconds()*math.Exp2(float64(i-1)/perOctave)] = n
		}
		n += c
	}
	return below
}

// Since is what was counted after earlier, a former state of h.
func (h *Histogram) Since(earlier *Histogram) Histogram {
	since := Histogram{sum: h.sum - earlier.sum}
	for i := range since.counts {
		since.counts[i] = h.counts[i] - earlier.counts[i]
	}
	return since
}

// Quantile is the duration that a share q of those counted, in [0, 1], do not
// exceed; 0 if there are none. It is off by 4.5 % at most between 1 µs and 134 s:
// by half a bucket. Less counts as nothing, more as 134 s.
func (h *Histogram) Quantile(q float64) time.Duration {
	n := h.Count()
	if n == 0 {
		return 0
	}
	rank := min(n-1, uint64(q*float64(n)))
	at := 0
	for below := h.counts[0]; below <= rank; below += h.counts[at] {
		at++
	}
	switch at {
	case 0:
		return 0
	case buckets - 1:
		return shortest << octaves
	}
	return time.Duration(float64(shortest) * math.Exp2((float64(at)-0.5)/perOctave))
}
