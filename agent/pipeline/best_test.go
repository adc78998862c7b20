package pipeline

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestBestAreTheLargestLogitsWithTheirSoftmax(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	for _, tt := range []struct {
		name   string
		logits []float32
		want   []int // classes; nil is an error
	}{
		{"more than five", []float32{1, 7, 3, 5, 2, 6, 4}, []int{1, 5, 3, 6, 2}},
		{"five", []float32{1, 2, 3, 4, 5}, []int{4, 3, 2, 1, 0}},
		{"fewer", []float32{-1, -2}, []int{0, 1}},
		{"of equals the first", []float32{0, 2, 2, 0, 2, 0, 0}, []int{1, 2, 4, 0, 3}},
		{"all equal", []float32{1, 1, 1}, []int{0, 1, 2}},
		{"too large for exp", []float32{1000, 999, -1000}, []int{0, 1, 2}},
		{"one impossible class", []float32{0, -inf, 1}, []int{2, 0, 1}},
		{"NaN first", []float32{nan, 1, 2}, nil},
		{"NaN last", []float32{1, 2, 3, 4, 5, 6, nan}, nil},
		{"all NaN", []float32{nan, nan}, nil},
		{"infinite", []float32{1, inf}, nil},
		{"all impossible", []float32{-inf, -inf}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var room [5]Class
			got, err := new(Member).best(room[:0], tt.logits)
			if (err != nil) != (tt.want == nil) {
				t.Fatalf("got %v, %v; want classes %v", got, err, tt.want)
			}
			checkTop(t, got, tt.want, tt.logits)
		})
	}
}

func TestBestTakesProbabilitiesAsTheyAre(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	for _, tt := range []struct {
		name  string
		given []float32
		want  []Class // nil is an error
	}{
		{"in any order", []float32{0.125, 0.5, 0.375}, []Class{{1, 0.5}, {2, 0.375}, {0, 0.125}}},
		{"more than five", []float32{0.25, 0.5, 0, 0.125, 0, 0.0625, 0.0625}, []Class{{1, 0.5}, {0, 0.25}, {3, 0.125},
			{5, 0.0625}, {6, 0.0625}}},
		{"certain", []float32{0, 1, 0}, []Class{{1, 1}, {0, 0}, {2, 0}}},
		{"rounded beyond", []float32{1.0000001, -1e-9}, []Class{{0, 1}, {1, 0}}},
		{"NaN first", []float32{nan, 1}, nil},
		{"NaN last", []float32{0, 0, 0, 0, 0, 1, nan}, nil},
		{"infinite", []float32{0, inf}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var room [5]Class
			got, err := (&Member{Probabilities: true}).best(room[:0], tt.given)
			if (err != nil) != (tt.want == nil) || err == nil && !slices.Equal(got, tt.want) {
				t.Errorf("got %v, %v; want %v", got, err, tt.want)
			}
		})
	}
}

func TestBestAgreesWithSorting(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		logits := make([]float32, 1+rng.IntN(12))
		for i := range logits {
			logits[i] = float32(rng.IntN(8)) // many ties
		}
		want := make([]int, len(logits))
		for i := range want {
			want[i] = i
		}
		slices.SortStableFunc(want, func(a, b int) int { return int(logits[b] - logits[a]) })
		var room [5]Class
		got, err := new(Member).best(room[:0], logits)
		if err != nil {
			t.Fatal(err)
		}
		checkTop(t, got, want[:min(5, len(want))], logits)
	}
}

func checkTop(t *testing.T, got []Class, want []int, logits []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("got %v, want classes %v", got, want)
	}
	for i, c := range got {
		sum := 0.0
		for _, v := range logits {
			sum += math.Exp(float64(v) - float64(logits[c.Index]))
		}
		if c.Index != want[i] || math.Abs(c.P-1/sum) > 1e-12 {
			t.Errorf("logits %v: place %d is %+v, want class %d with %v", logits, i, c, want[i], 1/sum)
		}
	}
}
