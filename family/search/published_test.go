//go:build !race

package search_test

// The race detector makes predictions fifty times slower; the searches with
// small estimators run with it.

import (
	"path/filepath"
	"testing"

	"github.com/limber-edge/limber/family/search"
)

// What the authors' evolutionary search (100 architectures, 500 generations,
// mutation 0.4) reached at these limits.
func TestFindBeatsTheAuthorsSearch(t *testing.T) {
	skipWithoutPublished(t)
	checkPublished(t, 20, []publishedCase{{"jetson-gpu", []float64{21, 26}, []float64{0.8274, 0.8402}}})
}

type publishedCase struct {
	table        string
	limits, want []float64
}

func checkPublished(tb testing.TB, climbs int, cases []publishedCase) {
	tb.Helper()
	l := w12(160, 176, 192, 208, 224)
	p := mustPredictor(tb, published, "acc_predictor.pth")
	for _, c := range cases {
		q := search.Query{Space: mustSpace(tb, l), Accuracy: p, Latency: mustTable(tb, filepath.Join(published, c.table), l),
			Limits: c.limits, Seed: 1, Climbs: climbs}
		front, err := search.Find(tb.Context(), q, quiet)
		if err != nil {
			tb.Fatal(err)
		}
		for i, limit := range c.limits {
			if got, ok := front.Within(limit); !ok || got.Accuracy < c.want[i] || got.Latency > limit {
				tb.Errorf("%s within %v ms: got %.5f in %.2f ms, want %v", c.table, limit, got.Accuracy, got.Latency, c.want[i])
			}
		}
	}
}

// A whole front, against what a search by archive alone (184,000 predictions)
// reaches.
func BenchmarkFind(b *testing.B) {
	skipWithoutPublished(b)
	for b.Loop() {
		checkPublished(b, search.DefaultClimbs, []publishedCase{
			{"jetson-cpu", []float64{1000, 1100, 1200, 1300, 1500, 1700, 1900, 2100, 2300, 2700},
				[]float64{0.8, 0.807, 0.8113, 0.816, 0.8264, 0.83, 0.8343, 0.8402, 0.8479, 0.8508}},
			{"jetson-gpu", []float64{18, 19, 20, 21, 22, 23, 24, 25, 26, 28},
				[]float64{0.8114, 0.82, 0.8221, 0.8283, 0.8292, 0.8338, 0.833, 0.8396, 0.8432, 0.8417}},
		})
	}
}
