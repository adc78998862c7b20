package search_test

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ofa"
	"github.com/limber-edge/limber/family/search"
)

func quiet(string, int, int) {}

// mustQuery searches with the small predictor and the made-up table.
func mustQuery(tb testing.TB, s search.Space, limits ...float64) search.Query {
	tb.Helper()
	table, err := search.ReadTable(os.DirFS(filepath.Join("testdata", "table")), w12(160, 176), s)
	if err != nil {
		tb.Fatal(err)
	}
	return search.Query{Space: s, Accuracy: mustPredictor(tb, "testdata", "predictor.pth"), Latency: table, Limits: limits,
		Seed: 1, Climbs: 10}
}

// few is a space of 2 × 2^10 architectures: kernel 3 or 7 in each of ten blocks.
func few(t *testing.T) search.Space {
	s := mustSpace(t, w12(160, 176))
	s.KS, s.E = []int{3, 7}, []float64{6}
	for i := range s.Stages {
		s.Stages[i].Depths = []int{2}
	}
	return s
}

// everything estimates each architecture of few.
func everything(t *testing.T, q search.Query) []search.Candidate {
	t.Helper()
	d := ofa.Published()
	var all []search.Candidate
	for _, r := range q.Space.Resolutions {
		for bits := range 1 << 10 {
			a := d.Uniform(3, 6, 2, r)
			for i := range 10 {
				if bits>>i&1 == 1 {
					a.KS[i/2*4+i%2] = 7
				}
			}
			accuracy, err := q.Accuracy.Accuracy([]family.Arch{a})
			ms, err2 := q.Latency.Latency(a)
			if err := errors.Join(err, err2); err != nil {
				t.Fatal(err)
			}
			all = append(all, search.Candidate{Arch: a, Accuracy: accuracy[0], Latency: ms})
		}
	}
	return all
}

func TestFindFindsTheBestOfAllThereAre(t *testing.T) {
	q := mustQuery(t, few(t))
	all := everything(t, q)
	fastest, slowest := math.Inf(1), 0.0
	for _, c := range all {
		fastest, slowest = min(fastest, c.Latency), max(slowest, c.Latency)
	}
	q.Limits = search.Steps(fastest, slowest, 7)
	front, err := search.Find(t.Context(), q, quiet)
	if err != nil {
		t.Fatal(err)
	}
	for _, limit := range q.Limits {
		want := math.Inf(-1)
		for _, c := range all {
			if c.Latency <= limit {
				want = max(want, c.Accuracy)
			}
		}
		if got, ok := front.Within(limit); !ok || got.Accuracy != want || got.Latency > limit {
			t.Errorf("within %v ms: got %+v, %v; want accuracy %v", limit, got, ok, want)
		}
	}
	got, ok := front.Within(fastest - 1e-6)
	if ok || got.Latency != fastest {
		t.Errorf("faster than all: got %v ms, %v; want the fastest, %v ms, and false", got.Latency, ok, fastest)
	}
}

func TestFindGivesAFrontThatAddsUp(t *testing.T) {
	s := mustSpace(t, w12(160, 176))
	q := mustQuery(t, s, 70)
	front, err := search.Find(t.Context(), q, quiet)
	if err != nil || len(front) < 10 {
		t.Fatalf("got %d candidates, %v; want a front", len(front), err)
	}
	d := w12(160, 176).Description
	for i, c := range front {
		accuracy, err := q.Accuracy.Accuracy([]family.Arch{c.Arch})
		ms, err2 := q.Latency.Latency(c.Arch)
		if err := errors.Join(err, err2, d.Check(c.Arch)); err != nil || accuracy[0] != c.Accuracy || ms != c.Latency ||
			ms > 70 {
			t.Errorf("candidate %d: got %+v, %v; want accuracy %v and %v ms, at most 70", i, c, err, accuracy, ms)
		}
		if i > 0 && (c.Latency <= front[i-1].Latency || c.Accuracy <= front[i-1].Accuracy) {
			t.Errorf("candidate %d, %+v, does not beat the faster %+v", i, c, front[i-1])
		}
	}
}

func TestFindHasOneAnswerForASeed(t *testing.T) {
	q := mustQuery(t, few(t), 60)
	find := func() search.Front {
		front, err := search.Find(t.Context(), q, quiet)
		if err != nil {
			t.Fatal(err)
		}
		return front
	}
	first := find()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	second := find()
	if !slices.EqualFunc(first, second, func(a, b search.Candidate) bool {
		return a.Arch.Equal(b.Arch) && a.Accuracy == b.Accuracy && a.Latency == b.Latency
	}) {
		t.Errorf("got %v on one core, want %v", second, first)
	}
}

func TestFindAnswersAnInfeasibleLimitWithTheFastest(t *testing.T) {
	q := mustQuery(t, few(t), 1)
	front, err := search.Find(t.Context(), q, quiet)
	if err != nil {
		t.Fatal(err)
	}
	fastest := slices.MinFunc(everything(t, q), func(a, b search.Candidate) int {
		return int(math.Copysign(1, a.Latency-b.Latency))
	})
	if got, ok := front.Within(1); ok || got.Latency != fastest.Latency || got.Accuracy != fastest.Accuracy {
		t.Errorf("got %+v, %v; want %+v and false", got, ok, fastest)
	}
}

func TestFindEndsEarly(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*search.Query)
		says   string
	}{
		{"negative limit", func(q *search.Query) { q.Limits = []float64{50, -1} }, "limit -1"},
		{"limit that is no number", func(q *search.Query) { q.Limits = []float64{math.NaN()} }, "limit NaN"},
		{"latency unknown", func(q *search.Query) { q.Space.Resolutions = []int{160, 192} }, "not read for 192 pixels"},
		{"accuracy unknown", func(q *search.Query) { q.Accuracy = broken{} }, "no idea"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			q := mustQuery(t, few(t), 50)
			tt.change(&q)
			if front, err := search.Find(t.Context(), q, quiet); err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, %v; want an error that says %q", front, err, tt.says)
			}
		})
	}
	ctx, stop := context.WithCancel(t.Context())
	last := 0
	_, err := search.Find(ctx, mustQuery(t, few(t), 50), func(_ string, done, of int) {
		if last = done; done == 5 {
			stop()
		}
	})
	if !errors.Is(err, context.Canceled) || last > 50 {
		t.Errorf("stopped after 5 climbs: got %v after %d, want %v", err, last, context.Canceled)
	}
}

// broken is an accuracy that fails.
type broken struct{}

func (broken) Accuracy([]family.Arch) ([]float64, error) { return nil, errors.New("no idea") }
func (broken) Guess(family.Arch, []family.Arch) ([]float64, error) {
	return nil, errors.New("no idea")
}

func TestStepsGrowByEqualFactors(t *testing.T) {
	got := search.Steps(1, 16, 5)
	if want := []float64{1, 2, 4, 8, 16}; !slices.EqualFunc(got, want, func(a,
		b float64) bool {
		return math.Abs(a-b) < 1e-12
	}) {
		t.Errorf("got %v, want %v", got, want)
	}
}
