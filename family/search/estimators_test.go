package search_test

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ofa"
	"github.com/limber-edge/limber/family/search"
)

// published is where the published predictor and tables may lie, beside the
// project.
var published = filepath.Join("..", "..", "..", "shared", "data", "dynamic-ofa")

func skipWithoutPublished(tb testing.TB) {
	tb.Helper()
	if _, err := os.Stat(published); err != nil {
		tb.Skipf("%s is missing: the published predictor and tables lie beside the project", published)
	}
}

func mustPredictor(tb testing.TB, dir, name string) *search.Predictor {
	tb.Helper()
	p, err := search.LoadPredictor(filepath.Join(dir, name))
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// w12 is the published supernet at some resolutions.
func w12(resolutions ...int) search.Layout {
	l := search.PublishedLayout(1.2)
	l.Resolutions = resolutions
	return l
}

func mustSpace(tb testing.TB, l search.Layout) search.Space {
	tb.Helper()
	s, err := search.SpaceOf(l.Description)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func mustTable(tb testing.TB, dir string, l search.Layout) *search.Table {
	tb.Helper()
	t, err := search.ReadTable(os.DirFS(dir), l, mustSpace(tb, l))
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

// original is what the original code says of an architecture.
type original struct {
	Arch     family.Arch `json:"arch"`
	Accuracy float64     `json:"accuracy"`
	MS       float64     `json:"ms"`
	CPU      float64     `json:"cpu_ms"`
	GPU      float64     `json:"gpu_ms"`
}

func mustOriginals(tb testing.TB, name string) []original {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		tb.Fatal(err)
	}
	var all []original
	if err := json.Unmarshal(b, &all); err != nil || len(all) == 0 {
		tb.Fatalf("%s: %d cases, %v", name, len(all), err)
	}
	return all
}

func TestPredictorAgreesWithTheOriginalCode(t *testing.T) {
	check := func(p *search.Predictor, cases []original) {
		for i, c := range cases {
			got, err := p.Accuracy([]family.Arch{c.Arch})
			if err != nil || math.Abs(got[0]-c.Accuracy) > 2e-6 {
				t.Errorf("architecture %d: got %v, %v; want %v", i, got, err, c.Accuracy)
			}
		}
	}
	check(mustPredictor(t, "testdata", "predictor.pth"), mustOriginals(t, "small.json"))
	t.Run("published", func(t *testing.T) {
		skipWithoutPublished(t)
		check(mustPredictor(t, published, "acc_predictor.pth"), mustOriginals(t, "published.json"))
	})
}

func TestTableAgreesWithTheOriginalCode(t *testing.T) {
	check := func(table *search.Table, a family.Arch, want float64) {
		got, err := table.Latency(a)
		if err != nil || math.Abs(got-want) > 1e-5 {
			t.Errorf("%v: got %v ms, %v; want %v ms", a, got, err, want)
		}
	}
	table := mustTable(t, filepath.Join("testdata", "table"), w12(160, 176))
	for _, c := range mustOriginals(t, "small.json") {
		check(table, c.Arch, c.MS)
	}
	t.Run("published", func(t *testing.T) {
		skipWithoutPublished(t)
		l := w12(160, 176, 192, 208, 224)
		cpu, gpu := mustTable(t, filepath.Join(published, "jetson-cpu"), l), mustTable(t, filepath.Join(published,
			"jetson-gpu"), l)
		for _, c := range mustOriginals(t, "published.json") {
			check(cpu, c.Arch, c.CPU)
			check(gpu, c.Arch, c.GPU)
		}
	})
}

func TestPredictorRefusesWhatItDoesNotKnow(t *testing.T) {
	p := mustPredictor(t, "testdata", "predictor.pth")
	d := ofa.Published()
	for _, tt := range []struct {
		name string
		arch family.Arch
		says string
	}{
		{"kernel size", d.Uniform(9, 3, 2, 160), "not 9 and 3"},
		{"expand ratio", d.Uniform(3, 5, 2, 160), "not 3 and 5"},
		{"too small", d.Uniform(3, 3, 2, 96), "not 96"},
		{"too large", d.Uniform(3, 3, 2, 240), "not 240"},
		{"too few blocks", family.Arch{KS: []int{3}, E: []float64{3}, D: []int{2}, R: 160}, "has 1, 1 and 1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := p.Accuracy([]family.Arch{tt.arch}); err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, %v; want an error that says %q", got, err, tt.says)
			}
		})
	}
	for _, name := range []string{"zip.pth", "legacy.pth", "module.pth", "none.pth"} {
		if _, err := search.LoadPredictor(filepath.Join("..", "ofa", "testdata", "containers", name)); err == nil ||
			!strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v, want an error that names the file", name, err)
		}
	}
}

func TestPredictorGuessesTheOrderOfNeighbours(t *testing.T) {
	p := mustPredictor(t, "testdata", "predictor.pth")
	cases := mustOriginals(t, "small.json")
	at := cases[0].Arch
	var neighbours []family.Arch
	for slot := range at.KS {
		for _, k := range []int{3, 5, 7} {
			b := at
			b.KS = slices.Clone(at.KS)
			b.KS[slot] = k
			neighbours = append(neighbours, b)
		}
	}
	guessed, err := p.Guess(at, neighbours)
	if err != nil {
		t.Fatal(err)
	}
	predicted, err := p.Accuracy(neighbours)
	if err != nil {
		t.Fatal(err)
	}
	// The perceptron is linear but for the ReLUs that switch on the way.
	if tau := search.Kendall(guessed, predicted); tau < 0.8 {
		t.Errorf("got a rank correlation of %v between guesses and predictions, want 0.8", tau)
	}
}

func TestTableNamesTheKeyThatIsMissing(t *testing.T) {
	const key = "expanded_conv-input:80x80x24-output:40x40x32-expand:144-kernel:7-stride:2-idskip:0-se:0-hs:0"
	whole := mustRead(t, filepath.Join("testdata", "table", "160_lookup_table.json"))
	dir := fstest.MapFS{"160_lookup_table.json": {Data: []byte(strings.Replace(string(whole), key, "gone", 1))}}
	_, err := search.ReadTable(dir, w12(160), mustSpace(t, w12(160)))
	if err == nil || !strings.Contains(err.Error(), key) || !strings.Contains(err.Error(), "160_lookup_table.json") {
		t.Errorf("got %v, want an error that names the file and %s", err, key)
	}
	narrow := search.PublishedLayout(1.0)
	narrow.Resolutions = []int{160}
	_, err = search.ReadTable(os.DirFS(filepath.Join("testdata", "table")), narrow, mustSpace(t, narrow))
	if want := "Conv-input:160x160x3-output:80x80x16"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("width 1.0: got %v, want it to name %s", err, want)
	}
}

func TestTableRefusesWhatIsNoTable(t *testing.T) {
	for _, tt := range []struct{ name, file, says string }{
		{"text", "ms", "read the rows"},
		{"list", "[]", "read the rows"},
		{"something behind", "{} {}", "something follows"},
		{"row without a mean", `{"a": {"count": 3}}`, `row "a" has no mean`},
		{"no object", `{"a": 3}`, "read the rows"},
		{"negative", `{"a": {"mean": -1}}`, `row "a" has no mean`},
		{"huge", `{"a": {"mean": 1e300}}`, `row "a" has no mean`},
		{"too long", strings.Repeat(" ", 5<<20), "more than 4194304 bytes"},
		{"empty", "{}", "there is no row Conv-input:160x160x3-output:80x80x24"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := fstest.MapFS{"160_lookup_table.json": {Data: []byte(tt.file)}}
			if _, err := search.ReadTable(dir, w12(160), mustSpace(t, w12(160))); err == nil ||
				!strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, want an error that says %q", err, tt.says)
			}
		})
	}
	if _, err := search.ReadTable(fstest.MapFS{}, w12(160), mustSpace(t, w12(160))); err == nil ||
		!strings.Contains(err.Error(), "160_lookup_table.json") {
		t.Errorf("missing file: got %v, want an error that names it", err)
	}
	other := w12(160)
	other.Description = ofa.PublishedProxylessNAS()
	other.Resolutions = []int{160}
	if _, err := search.ReadTable(os.DirFS("testdata"), other, mustSpace(t, other)); err == nil ||
		!strings.Contains(err.Error(), ofa.ProxylessNAS) {
		t.Errorf("other kind: got %v, want an error that names it", err)
	}
}

func TestTableRefusesAnArchitectureItWasNotReadFor(t *testing.T) {
	table := mustTable(t, filepath.Join("testdata", "table"), w12(160))
	d := ofa.Published()
	for _, tt := range []struct {
		name string
		arch family.Arch
		says string
	}{
		{"resolution", d.Uniform(3, 3, 2, 176), "176 pixels"},
		{"kernel size", d.Uniform(9, 3, 2, 160), "kernel size 9"},
		{"expand ratio", d.Uniform(3, 5, 2, 160), "expand ratio 5"},
		{"too few blocks", family.Arch{KS: []int{3}, E: []float64{3}, D: []int{2}, R: 160}, "wants 5 d, 20 ks"},
	} {
		if got, err := table.Latency(tt.arch); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: got %v, %v; want an error that says %q", tt.name, got, err, tt.says)
		}
	}
}

// Whatever the file holds, a table that is read gives a latency that can be one.
func FuzzReadTable(f *testing.F) {
	f.Add(mustRead(f, filepath.Join("testdata", "table", "160_lookup_table.json")))
	f.Add([]byte(`{"Conv-input:160x160x3-output:80x80x24": {"count": 1, "mean": 1e8, "std": null}}`))
	l := w12(160)
	space := mustSpace(f, l)
	f.Fuzz(func(t *testing.T, b []byte) {
		table, err := search.ReadTable(fstest.MapFS{"160_lookup_table.json": {Data: b}}, l, space)
		if err != nil {
			return
		}
		d := ofa.Published()
		if ms, err := table.Latency(d.Uniform(7, 6, 4, 160)); err != nil || !(ms >= 0 && ms < 1e12) {
			t.Errorf("got %v ms, %v; want a latency", ms, err)
		}
	})
}

func TestSpaceFollowsTheSupernet(t *testing.T) {
	for _, tt := range []struct {
		name        string
		of          ofa.Description
		stages      int
		first, last search.Stage
	}{
		{"MobileNetV3", ofa.Published(), 5, search.Stage{First: 0, Slots: 4, Depths: []int{2, 3, 4}},
			search.Stage{First: 16, Slots: 4, Depths: []int{2, 3, 4}}},
		{"ProxylessNAS", ofa.PublishedProxylessNAS(), 6, search.Stage{First: 0, Slots: 4, Depths: []int{2, 3, 4}},
			search.Stage{First: 20, Slots: 1, Depths: []int{1}}},
	} {
		s, err := search.SpaceOf(tt.of)
		if err != nil || len(s.Stages) != tt.stages || !reflect.DeepEqual(s.Stages[0], tt.first) ||
			!reflect.DeepEqual(s.Stages[tt.stages-1], tt.last) {
			t.Errorf("%s: got %+v, %v; want %d stages from %+v to %+v", tt.name, s.Stages, err, tt.stages, tt.first, tt.last)
		}
	}
	if s, err := search.SpaceOf(ofa.PublishedResNet50()); err == nil || !strings.Contains(err.Error(), ofa.ResNet50) {
		t.Errorf("ResNet50: got %+v, %v; want an error that names it", s, err)
	}
}

// sum is an accuracy that is truly a sum, with a little noise.
func sum(a family.Arch, rng *rand.Rand) float64 {
	top1 := 0.5 + float64(a.R)/2000
	for stage, depth := range a.D {
		for slot := 4 * stage; slot < 4*stage+depth; slot++ {
			top1 += float64(a.KS[slot])*0.0005*float64(slot%3) + a.E[slot]*0.001
		}
	}
	return top1 + 0.002*rng.NormFloat64()
}

func mustSamples(t *testing.T, n int) []search.Entry {
	t.Helper()
	rng := rand.New(rand.NewPCG(3, 0))
	var samples []search.Entry
	for _, a := range search.Candidates(w12(160, 176).Description, search.Plan{Samples: n, Seed: 3}) {
		samples = append(samples, search.Entry{Arch: a, Top1: sum(a, rng)})
	}
	return samples
}

func TestFitLearnsASumFromSamples(t *testing.T) {
	samples := mustSamples(t, 240)
	f, err := search.Fit(mustSpace(t, w12(160, 176)), samples, 1)
	if err != nil || f.HeldOut != len(samples)/5 {
		t.Fatalf("got %+v, %v; want a fifth of %d samples held out", f, err, len(samples))
	}
	if f.Error > 0.005 || f.Tau < 0.85 {
		t.Errorf("got a mean error of %.4f and tau %.3f on samples it did not see, want at most 0.005 and at least 0.85",
			f.Error, f.Tau)
	}
}

func TestFitHasOneAnswerForASeed(t *testing.T) {
	space, samples := mustSpace(t, w12(160, 176)), mustSamples(t, 100)
	f, err := search.Fit(space, samples, 1)
	if err != nil {
		t.Fatal(err)
	}
	again, err := search.Fit(space, samples, 1)
	if err != nil || again.Error != f.Error || again.Tau != f.Tau {
		t.Errorf("got %v and %v, %v the second time; want %v and %v", again.Error, again.Tau, err, f.Error, f.Tau)
	}
}

func TestFitGuessesWhatItPredicts(t *testing.T) {
	f, err := search.Fit(mustSpace(t, w12(160, 176)), mustSamples(t, 100), 1)
	if err != nil {
		t.Fatal(err)
	}
	d := ofa.Published()
	a, b := d.Uniform(3, 3, 2, 160), d.Uniform(7, 6, 4, 176)
	at, err := f.Accuracy([]family.Arch{a, b})
	if err != nil {
		t.Fatal(err)
	}
	more, err := f.Guess(a, []family.Arch{b, a})
	if err != nil || math.Abs(more[0]-(at[1]-at[0])) > 1e-12 || more[1] != 0 || more[0] <= 0 {
		t.Errorf("got %v, %v; want %v and 0", more, err, at[1]-at[0])
	}
}

func TestFitRefuses(t *testing.T) {
	s, d := mustSpace(t, w12(160)), ofa.Published()
	for _, tt := range []struct {
		name    string
		samples []search.Entry
		says    string
	}{
		{"too few", make([]search.Entry, 9), "9 samples are too few"},
		{"other resolution", slices.Repeat([]search.Entry{{Arch: d.Uniform(3, 3, 2, 224)}}, 20), "not 224"},
		{"other kernel size", slices.Repeat([]search.Entry{{Arch: d.Uniform(9, 3, 2, 160)}}, 20), "not 9 and 3"},
		{"other network", slices.Repeat([]search.Entry{{Arch: family.Arch{R: 160}}}, 20), "wants 20 ks"},
	} {
		if _, err := search.Fit(s, tt.samples, 1); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: got %v, want an error that says %q", tt.name, err, tt.says)
		}
	}
}

func TestKendallIsTheRankCorrelation(t *testing.T) {
	for _, tt := range []struct {
		a, b []float64
		want float64
	}{
		{[]float64{1, 2, 3}, []float64{10, 20, 30}, 1},
		{[]float64{1, 2, 3}, []float64{3, 2, 1}, -1},
		{[]float64{1, 2, 3, 4}, []float64{1, 3, 2, 4}, 2.0 / 3},
		{[]float64{1, 1, 2}, []float64{1, 2, 3}, 2 / math.Sqrt(6)}, // a tie in one
		{[]float64{1, 1}, []float64{1, 2}, 0},
		{nil, nil, 0},
	} {
		if got := search.Kendall(tt.a, tt.b); math.Abs(got-tt.want) > 1e-12 {
			t.Errorf("%v and %v: got %v, want %v", tt.a, tt.b, got, tt.want)
		}
	}
}

func mustRead(tb testing.TB, path string) []byte {
	tb.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}
