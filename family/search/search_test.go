package search_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ofa"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/ort/orttest"
	"github.com/limber-edge/limber/family/search"
)

// noise is a set of random pictures, the same for the same index.
type noise struct {
	n     int
	label func(i int) int
	err   error
}

func (s noise) Len() int        { return s.n }
func (s noise) Label(i int) int { return s.label(i) }

func (s noise) Tensor(dst []float32, i, r int) error {
	rng := rand.New(rand.NewPCG(uint64(i), uint64(r)))
	for j := range dst {
		dst[j] = float32(rng.NormFloat64())
	}
	return s.err
}

func modulo(n int) func(int) int { return func(i int) int { return i % n } }

func mustSupernet(t *testing.T) *ofa.Supernet {
	t.Helper()
	net, err := ofa.Load(filepath.Join("..", "ofa", "testdata", "cifar", "supernet.pth"))
	if err != nil {
		t.Fatal(err)
	}
	return net
}

// mustNarrowed has one resolution and one depth only, so that a search is short.
func mustNarrowed(t *testing.T) *ofa.Supernet {
	t.Helper()
	d := mustSupernet(t).Description()
	d.Resolutions, d.D = d.Resolutions[:1], d.D[len(d.D)-1:]
	b, err := os.ReadFile(filepath.Join("..", "ofa", "testdata", "cifar", "supernet.pth"))
	if err != nil {
		t.Fatal(err)
	}
	net, err := ofa.Parse(b, d)
	if err != nil {
		t.Fatal(err)
	}
	return net
}

// loader takes graphs as they are: to optimise one takes longer than to run it on the
// few images of a test.
func loader(t *testing.T) ofa.Loader {
	rt := orttest.Open(t)
	return func(model []byte, input string, outputs []string) (ofa.BatchRunner, error) {
		return rt.NewBatch(model, input, outputs, ort.Options{Provider: ort.CPU, Threads: 1, Optimized: true})
	}
}

func prober(t *testing.T) search.Prober {
	rt := orttest.Open(t)
	return func(model []byte, input string, in []int, output string, out []int) (search.Probe, error) {
		return rt.NewProbe(model, ort.Port{Name: input, Dims: in}, ort.Port{Name: output, Dims: out}, ort.DefaultOptions())
	}
}

func TestRankIsTheNumberOfClassesBeforeTheLabel(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, tt := range []struct {
		logits []float32
		label  int
		want   int
	}{
		{[]float32{3, 1, 2}, 0, 0}, {[]float32{3, 1, 2}, 2, 1}, {[]float32{3, 1, 2}, 1, 2},
		{[]float32{1, 1, 1}, 2, 0}, {[]float32{inf, 1}, 1, 1},
		{[]float32{nan, 1, 2}, 2, 1}, {[]float32{nan, 1, 2}, 0, 2}, {[]float32{nan, nan}, 0, 1},
	} {
		if got := search.Rank(tt.logits, tt.label); got != tt.want {
			t.Errorf("%v, label %d: got %d, want %d", tt.logits, tt.label, got, tt.want)
		}
	}
}

func TestCandidatesFollowFromTheSeed(t *testing.T) {
	plan := search.Plan{Samples: 60, Seed: 7}
	for _, d := range []ofa.Description{ofa.Published(), ofa.PublishedProxylessNAS(), ofa.PublishedResNet50()} {
		first := search.Candidates(d, plan)
		if len(first) != plan.Samples {
			t.Errorf("%s: got %d candidates, want %d", d.Kind, len(first), plan.Samples)
		}
		for i, a := range first {
			if err := d.Check(a); err != nil {
				t.Fatalf("%s: candidate %d: %v", d.Kind, i, err)
			}
		}
		for _, want := range []family.Arch{d.Uniform(3, slices.Min(d.E), slices.Min(d.D), 128),
			d.Uniform(slices.Max(d.KS), slices.Max(d.E), slices.Max(d.D), 224)} {
			if want.R == 128 {
				clear(want.W) // the narrowest
			}
			if !slices.ContainsFunc(first, want.Equal) {
				t.Errorf("%s: %v is not among them", d.Kind, want)
			}
		}
		if !slices.EqualFunc(first, search.Candidates(d, plan), family.Arch.Equal) {
			t.Errorf("%s: the same seed gave other candidates", d.Kind)
		}
		other := plan
		other.Seed = 8
		if slices.EqualFunc(first, search.Candidates(d, other), family.Arch.Equal) {
			t.Errorf("%s: another seed gave the same candidates", d.Kind)
		}
	}
}

func TestSpreadKeepsTheEndsAndEqualFactors(t *testing.T) {
	front := func(costs ...float64) []search.Entry {
		var f []search.Entry
		for _, c := range costs {
			f = append(f, search.Entry{MMACs: c})
		}
		return f
	}
	for _, tt := range []struct {
		name string
		from []search.Entry
		n    int
		want []search.Entry
	}{
		{"fewer than wanted", front(1, 2), 3, front(1, 2)},
		{"as many", front(1, 2, 3), 3, front(1, 2, 3)},
		{"the ends", front(1, 2, 3, 4), 2, front(1, 4)},
		{"powers", front(1, 2, 3, 4, 5, 6, 8), 4, front(1, 2, 4, 8)},
		{"crowded below", front(1, 1.1, 1.2, 1.3, 100), 4, front(1, 1.2, 1.3, 100)},
		{"crowded above", front(1, 90, 95, 99, 100), 4, front(1, 90, 95, 100)},
		{"none", nil, 3, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := search.Spread(tt.from, tt.n)
			if !slices.EqualFunc(got, tt.want, func(a, b search.Entry) bool { return a.MMACs == b.MMACs }) {
				t.Errorf("got %v, want %v", costs(got), costs(tt.want))
			}
		})
	}
}

func costs(found []search.Entry) []float64 {
	var c []float64
	for _, f := range found {
		c = append(c, f.MMACs)
	}
	return c
}

func TestEvaluateCountsRightAnswers(t *testing.T) {
	net, load := mustSupernet(t), loader(t)
	d := net.Description()
	sub, err := net.Cut(d.Uniform(3, 3, 2, 24))
	if err != nil {
		t.Fatal(err)
	}
	all := noise{n: 230, label: modulo(net.Classes())}
	// Which classes the network sees, from one class as every label.
	counted := 0.0
	for class := range net.Classes() {
		all.label = func(int) int { return class }
		score, err := search.Evaluate(t.Context(), sub, load, all)
		if err != nil || score.Images != all.n || score.Top5 < score.Top1 {
			t.Fatalf("class %d: got %+v, %v", class, score, err)
		}
		counted += score.Top1
	}
	if math.Abs(counted-1) > 1e-9 {
		t.Errorf("the fractions of all classes add up to %v, want 1: every image has one first class", counted)
	}
	for _, tt := range []struct {
		name string
		set  noise
		says string
	}{
		{"no images", noise{label: modulo(10)}, "no images"},
		{"label of no class", noise{n: 12, label: func(i int) int { return i }}, "image 10 has label 10, the network " +
			"knows 10 classes"},
		{"unreadable", noise{n: 3, label: modulo(10), err: errors.New("image is gone")}, "image is gone"},
	} {
		if _, err := search.Evaluate(t.Context(), sub, load, tt.set); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.says)
		}
	}
}

func TestPickIsSomeOfASet(t *testing.T) {
	p := search.Pick(noise{n: 10, label: modulo(10)}, []int{4, 9})
	if p.Len() != 2 || p.Label(0) != 4 || p.Label(1) != 9 {
		t.Errorf("got %d images of label %d first, want 2 and 4", p.Len(), p.Label(0))
	}
	got, want := make([]float32, 3), make([]float32, 3)
	if err := errors.Join(p.Tensor(got, 1, 1), noise{}.Tensor(want, 9, 1)); err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v; want image 9, %v", got, err, want)
	}
}

func TestFingerprintIsTheDigestOfAllTensors(t *testing.T) {
	set := noise{n: 3, label: modulo(3)}
	all := make([]float32, 3*3*4*4)
	for i := range 3 {
		if err := set.Tensor(all[i*48:][:48], i, 4); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := search.Fingerprint(set, 4); err != nil || got != family.DigestOf(family.FloatBytes(all)) {
		t.Errorf("got %v, %v; want that of the tensors", got, err)
	}
	gone := noise{n: 3, label: modulo(3), err: errors.New("image is gone")}
	if _, err := search.Fingerprint(gone, 4); !errors.Is(err, gone.err) {
		t.Errorf("got %v, want %v", err, gone.err)
	}
}
