package pipeline

import (
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestAQuantileIsOffByLessThanFivePercent(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for _, typical := range []time.Duration{10 * time.Microsecond, ms, 40 * ms, time.Second, 30 * time.Second} {
		var h Histogram
		var all []time.Duration
		for range 5000 {
			d := time.Duration(float64(typical) * math.Exp(rng.NormFloat64()/3))
			h.observe(d)
			all = append(all, d)
		}
		slices.Sort(all)
		for _, q := range []float64{0, 0.01, 0.5, 0.95, 0.99, 1} {
			got, want := h.Quantile(q), all[min(len(all)-1, int(q*float64(len(all))))]
			if off := float64(got)/float64(want) - 1; math.Abs(off) > 0.05 {
				t.Errorf("quantile %v around %v: got %v, want %v, which is off by %.1f %%", q, typical, got, want, 100*off)
			}
		}
	}
}

func TestAQuantileOfWhatTheBucketsDoNotReach(t *testing.T) {
	for _, tt := range []struct {
		name    string
		counted []time.Duration
		want    time.Duration
	}{
		{"nothing counted", nil, 0},
		{"no time", []time.Duration{0}, 0},
		{"negative, the fault of a clock", []time.Duration{-time.Hour}, 0},
		{"an hour", []time.Duration{time.Hour}, shortest << octaves},
		{"for ever", []time.Duration{math.MaxInt64}, shortest << octaves},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var h Histogram
			for _, d := range tt.counted {
				h.observe(d)
			}
			if got := h.Quantile(0.5); got != tt.want || h.Count() != uint64(len(tt.counted)) {
				t.Errorf("got %v of %d; want %v of %d", got, h.Count(), tt.want, len(tt.counted))
			}
		})
	}
}

func TestTwoStatesOfAHistogramTellWhatCameBetween(t *testing.T) {
	var h Histogram
	h.observe(ms)
	earlier := h
	h.observe(time.Second)
	between := h.Since(&earlier)
	if between.Count() != 1 || between.Sum() != time.Second || between.Quantile(0) < 950*ms {
		t.Errorf("got %d of %v, the least %v; want the second alone", between.Count(), between.Sum(), between.Quantile(0))
	}
}

func TestCumulativeCountsAreThoseBelowTheirBounds(t *testing.T) {
	var h Histogram
	rng := rand.New(rand.NewPCG(2, 2))
	var all []time.Duration
	for range 5000 {
		d := time.Duration(float64(10*ms) * math.Exp(3*rng.NormFloat64()))
		h.observe(d)
		all = append(all, d)
	}
	got := h.Cumulative()
	bounds := slices.Sorted(maps.Keys(got))
	if n := len(bounds); n != 33 || bounds[0] != 128e-6 || math.Abs(bounds[n-1]-8.388608) > 1e-9 {
		t.Fatalf("got bounds %v, want 33 from 128 µs to 8.4 s", bounds)
	}
	for i, bound := range bounds {
		want := 0
		for _, d := range all {
			if d.Seconds() < bound {
				want++
			}
		}
		if got[bound] != uint64(want) {
			t.Errorf("below %v s: got %d, want %d", bound, got[bound], want)
		}
		if i > 0 && math.Abs(bound/bounds[i-1]-math.Sqrt2) > 1e-9 {
			t.Errorf("got a bound %v after %v, want half an octave", bound, bounds[i-1])
		}
	}
}
