package power_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/limber-edge/limber/firmware/power"
)

func TestDrawTellsTheBoardFromItsInferences(t *testing.T) {
	for _, tt := range []struct {
		name         string
		share        func(i int, r *rand.Rand) float64
		idle, active float64 // W, of the board
		n            int
		known        bool
	}{
		{"load comes and goes", func(i int, r *rand.Rand) float64 { return float64(i/30%2) * 0.8 }, 4, 6, 300, true},
		{"load of any share", func(_ int, r *rand.Rand) float64 { return r.Float64() }, 4, 6, 100, true},
		{"a steady load does not tell", func(int, *rand.Rand) float64 { return 0.5 }, 4, 6, 1000, false},
		{"no inference", func(int, *rand.Rand) float64 { return 0 }, 4, 6, 1000, false},
		{"too little to know", func(_ int, r *rand.Rand) float64 { return r.Float64() }, 4, 6, 19, false},
		{"inferences that save power are noise", func(_ int, r *rand.Rand) float64 { return r.Float64() }, 4, -3, 100, false},
	} {
		var d power.Draw
		r := rand.New(rand.NewPCG(1, 2))
		for i := range tt.n {
			share := tt.share(i, r)
			d.Add(share, max(0, tt.idle+tt.active*share+0.3*r.NormFloat64()))
		}
		idle, active, known := d.Split()
		if known != tt.known || known && (math.Abs(idle-tt.idle) > 0.3 || math.Abs(active-tt.active) > 0.4) {
			t.Errorf("%s: got %.2f and %.2f W, %t; want %v and %v, %t", tt.name, idle, active, known, tt.idle, tt.active,
				tt.known)
		}
	}
}

func TestDrawFollowsABoardThatChanges(t *testing.T) {
	var d power.Draw
	r := rand.New(rand.NewPCG(3, 4))
	for i := range 6000 {
		idle := 4.0
		if i >= 3000 {
			idle = 9 // a camera was plugged in
		}
		share := r.Float64()
		d.Add(share, idle+5*share)
	}
	for _, nonsense := range []float64{math.NaN(), math.Inf(1), -1} {
		d.Add(0.5, nonsense)
		d.Add(nonsense, 5)
	}
	if idle, active, ok := d.Split(); !ok || math.Abs(idle-9) > 0.1 || math.Abs(active-5) > 0.1 {
		t.Errorf("got %.2f and %.2f W, %t; want 9 and 5", idle, active, ok)
	}
}
