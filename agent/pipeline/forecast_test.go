package pipeline

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/frame"
)

// jpegs are headers as a camera sends them: one size, and bytes that differ.
func jpegs(rng *rand.Rand) frame.Header {
	return frame.Header{Codec: frame.JPEG, Width: 640, Height: 480, Bytes: 60_000 + rng.IntN(40_000)}
}

// cost is what such a frame takes on a device that does nothing else.
func cost(h frame.Header) time.Duration {
	return time.Duration(h.Pixels())*2 + time.Duration(h.Bytes)*10 // ns
}

// off is by how much a forecast is off, as a fraction.
func off(f *forecast, h frame.Header, want time.Duration) float64 {
	return math.Abs(float64(f.predict(f.of(h, 4), h))/float64(want) - 1)
}

func TestAForecastIsWithinATenthAfterTenFrames(t *testing.T) {
	f, rng := newForecast(), rand.New(rand.NewPCG(1, 1))
	for range 10 {
		h := jpegs(rng)
		f.learn(f.of(h, 4), h, cost(h))
	}
	for range 100 {
		if h := jpegs(rng); off(f, h, cost(h)) > 0.1 {
			t.Fatalf("%d bytes: got %v, want about %v", h.Bytes, f.predict(f.of(h, 4), h), cost(h))
		}
	}
}

func TestAForecastFollowsTheLoad(t *testing.T) {
	f, rng := newForecast(), rand.New(rand.NewPCG(2, 2))
	for _, load := range []time.Duration{1, 3, 1} {
		for range 20 {
			h := jpegs(rng)
			f.learn(f.of(h, 4), h, load*cost(h))
		}
		if h := jpegs(rng); off(f, h, load*cost(h)) > 0.2 {
			t.Errorf("load %d: got %v, want about %v", load, f.predict(f.of(h, 4), h), load*cost(h))
		}
	}
}

func TestFramesAllAlikeDoNotMakeAForecastWild(t *testing.T) {
	f := newForecast()
	same := frame.Header{Codec: frame.JPEG, Width: 640, Height: 480, Bytes: 80_000}
	for range 100_000 {
		f.learn(f.of(same, 4), same, 2*ms)
	}
	twice := same
	twice.Height, twice.Bytes = 960, 160_000
	if off(f, same, 2*ms) > 0.01 || off(f, twice, 4*ms) > 0.2 {
		t.Errorf("got %v, and %v for one of twice the size", f.predict(f.of(same, 4), same), f.predict(f.of(twice, 4), twice))
	}
}

func TestAStallIsNoPace(t *testing.T) {
	f, rng := newForecast(), rand.New(rand.NewPCG(3, 3))
	for i := range 60 {
		h, took := jpegs(rng), time.Second
		if i != 50 {
			took = cost(h)
		}
		f.learn(f.of(h, 4), h, took)
	}
	if h := jpegs(rng); off(f, h, cost(h)) > 0.3 {
		t.Errorf("ten frames after a stall of a second: got %v, want about %v", f.predict(f.of(h, 4), h), cost(h))
	}
}

func TestGoalsCountOnDecodingOnlyOnceItIsKnown(t *testing.T) {
	f := newForecast()
	h := frame.Header{Codec: frame.PNG, Width: 32, Height: 32, Bytes: 2000}
	for i := range trusted {
		if got := f.typical(); got != 0 {
			t.Errorf("after %d frames: got %v, want 0", i, got)
		}
		f.learn(f.of(h, 1), h, 3*ms)
	}
	for range 5 {
		f.learn(f.of(h, 1), h, 30*ms) // under load, which is not what a goal asks about
	}
	if got := f.typical(); got < 3*ms || got > 31*ms/10 {
		t.Errorf("got %v, want what an unloaded device takes, 3 ms", got)
	}
	if got := f.predict(f.of(h, 2), h); got != 0 {
		t.Errorf("a kind that was never seen: got %v", got)
	}
}
