package search_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ofa"
	"github.com/limber-edge/limber/family/search"
)

// clock says what a test wants it to, and counts what it was asked for.
type clock struct {
	ms    func(a family.Arch) float64
	asked int
	err   error
}

func (c *clock) Times(_ context.Context, archs []family.Arch) ([]float64, error) {
	var ms []float64
	for _, a := range archs {
		ms = append(ms, c.ms(a))
	}
	c.asked += len(archs)
	return ms, c.err
}

// byKernels makes large kernels fast, so that latency and MMACs order otherwise.
func byKernels(a family.Arch) float64 {
	ms := 200.0
	for _, k := range a.KS {
		ms -= float64(k)
	}
	return ms
}

var plan = search.Plan{Size: 3, Samples: 14, Rough: 5, Finalists: 3, Climbs: 2, Seed: 1}

func mustJournal(t *testing.T, dir string, begun search.Begun) *search.Journal {
	t.Helper()
	j, err := search.OpenJournal(dir, begun)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

// mustBench measures on noise, with a journal in dir.
func mustBench(t *testing.T, load ofa.Loader, dir string, c search.Clock) *search.Bench {
	t.Helper()
	net := mustNarrowed(t)
	set := noise{n: 20, label: modulo(net.Classes())}
	half := func(from int) search.Images {
		at := make([]int, 10)
		for i := range at {
			at[i] = from + i
		}
		return search.Pick(set, at)
	}
	return &search.Bench{Net: net, Load: load, Sets: search.Sets{Calibration: half(0), Validation: half(10)}, Batch: 5,
		Clock: c, Journal: mustJournal(t, dir, search.Begun{Batch: 5}), Tell: quiet}
}

// whole is a build that nothing cut off, made once for all tests.
type whole struct {
	once sync.Once
	*search.Built
	timed    map[string]int // by architecture
	measured int            // lines of the journal
	folder   fstest.MapFS   // of the journal
}

var first whole

func mustFirst(t *testing.T, load ofa.Loader) *whole {
	t.Helper()
	first.once.Do(func() {
		dir, timed := t.TempDir(), map[string]int{}
		bench := mustBench(t, load, dir, &clock{ms: func(a family.Arch) float64 {
			timed[fmt.Sprint(a)]++
			return byKernels(a)
		}})
		built, err := search.Build(t.Context(), bench, plan)
		if err != nil {
			t.Fatal(err)
		}
		first.Built, first.timed, first.measured, first.folder = built, timed, bench.Journal.Len(), mustReadFolder(t, dir)
	})
	if first.Built == nil {
		t.Fatal("the build that tests share failed")
	}
	return &first
}

// mustReadFolder keeps a folder for after its test.
func mustReadFolder(t *testing.T, dir string) fstest.MapFS {
	t.Helper()
	kept := fstest.MapFS{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			kept[path] = &fstest.MapFile{Data: mustRead(t, filepath.Join(dir, path)), Mode: 0o600}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return kept
}

func TestBuildKeepsWhatNothingFasterBeats(t *testing.T) {
	built := mustFirst(t, loader(t))
	if len(built.Members) == 0 || len(built.Members) > plan.Size || built.Samples != plan.Samples {
		t.Fatalf("got %+v; want 1 to %d members after %d samples", built.Built, plan.Size, plan.Samples)
	}
	for i, m := range built.Members {
		if m.Latency != byKernels(m.Arch) || m.Images != 10 {
			t.Errorf("got %v ms on %d images, want %v on all 10", m.Latency, m.Images, byKernels(m.Arch))
		}
		if i > 0 && (m.Latency <= built.Members[i-1].Latency || m.Top1 <= built.Members[i-1].Top1) {
			t.Errorf("got %v after %v", m, built.Members[i-1])
		}
	}
	if built.Accuracy == nil || built.Latency == nil {
		t.Error("estimators know this space, and none were fitted")
	}
}

func TestBuildMeasuresTheEndsOnAllImages(t *testing.T) {
	timed, d := mustFirst(t, loader(t)).timed, mustNarrowed(t).Description()
	for _, a := range []family.Arch{
		d.Uniform(slices.Min(d.KS), slices.Min(d.E), slices.Min(d.D), slices.Min(d.Resolutions)),
		d.Uniform(slices.Max(d.KS), slices.Max(d.E), slices.Max(d.D), slices.Max(d.Resolutions)),
	} {
		if n := timed[fmt.Sprint(a)]; n != 2 {
			t.Errorf("%v was timed %d times, want 2: as a sample, and among the finalists", a, n)
		}
	}
}

func TestBuildWithoutAClockWeighsMMACs(t *testing.T) {
	load := loader(t)
	built, err := search.Build(t.Context(), mustBench(t, load, t.TempDir(), nil), plan)
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range built.Members {
		if m.Latency != 0 || i > 0 && m.MMACs <= built.Members[i-1].MMACs {
			t.Errorf("member %d: got %v ms and %v MMACs, want no latency and rising MMACs", i, m.Latency, m.MMACs)
		}
	}
}

func TestBuildGoesOnWhereItWasCutOff(t *testing.T) {
	load, c, dir := loader(t), &clock{ms: byKernels}, t.TempDir()
	whole := mustFirst(t, load)
	ctx, cancel := context.WithCancel(t.Context())
	bench := mustBench(t, load, dir, c)
	bench.Tell = func(what string, done, _ int) {
		if what == "samples" && done == 10 {
			cancel()
		}
	}
	if _, err := search.Build(ctx, bench, plan); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want %v", err, context.Canceled)
	}
	bench.Journal.Close()
	again := mustBench(t, load, dir, c)
	if got := again.Journal.Len(); got != 10 {
		t.Errorf("got %d measurements in the journal, want the 10 from before", got)
	}
	c.asked = 0
	built, err := search.Build(t.Context(), again, plan)
	if err != nil || !slices.EqualFunc(built.Members, whole.Members, func(a, b search.Entry) bool {
		return a.Arch.Equal(b.Arch) && a.Top1 == b.Top1 && a.Stats == b.Stats
	}) {
		t.Errorf("got %v, %v; want what an undisturbed run gave, %v", built, err, whole.Members)
	}
	if sampled := plan.Samples - 10; c.asked < sampled || c.asked > sampled+len(whole.Members)+2*plan.Samples {
		t.Errorf("%d latencies were measured, want the %d missing samples and the finalists", c.asked, sampled)
	}
}

func TestBuildMeasuresAnewWhatLostItsStatistics(t *testing.T) {
	load, c, dir := loader(t), &clock{ms: byKernels}, t.TempDir()
	whole := mustFirst(t, load)
	if err := os.CopyFS(dir, whole.folder); err != nil {
		t.Fatal(err)
	}
	blobs, err := filepath.Glob(filepath.Join(dir, family.BlobFolder, "*"))
	if err != nil || len(blobs) < 2 {
		t.Fatalf("got blobs %v, %v", blobs, err)
	}
	for i, path := range blobs {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if i == 0 { // one is there, and is another
			if err := os.WriteFile(path, []byte("damaged"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	again := mustBench(t, load, dir, c)
	if got := again.Journal.Len(); got != 0 {
		t.Errorf("got %d measurements taken over, want none: they have no statistics", got)
	}
	built, err := search.Build(t.Context(), again, plan)
	if err != nil || len(built.Members) != len(whole.Members) || again.Journal.Len() != whole.measured {
		t.Fatalf("got %+v, %v and %d measurements; want %d members of %d", built, err, again.Journal.Len(),
			len(whole.Members), whole.measured)
	}
	for _, m := range built.Members {
		if _, err := again.Journal.Blob(m.Stats); err != nil {
			t.Error(err)
		}
	}
}

func TestBuildSaysWhyItCannotGoOn(t *testing.T) {
	load, gone := loader(t), errors.New("the clock is gone")
	if _, err := search.Build(t.Context(), mustBench(t, load, t.TempDir(), &clock{ms: byKernels, err: gone}),
		plan); !errors.Is(err, gone) {
		t.Errorf("got %v, want %v", err, gone)
	}
	few := plan
	few.Samples = 5
	if _, err := search.Build(t.Context(), mustBench(t, load, t.TempDir(), nil), few); err == nil ||
		!strings.Contains(err.Error(), "too few") {
		t.Errorf("5 samples: got %v, want an error that says they are too few", err)
	}
}

func TestJournalRefusesOtherWork(t *testing.T) {
	dir := t.TempDir()
	mustJournal(t, dir, search.Begun{Supernet: "one"}).Close()
	if _, err := search.OpenJournal(dir, search.Begun{Supernet: "two"}); err == nil || !strings.Contains(err.Error(),
		"another supernet") {
		t.Errorf("got %v, want an error that says what is other", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "journal.jsonl"), []byte("what\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := search.OpenJournal(dir, search.Begun{}); err == nil {
		t.Error("a file of something else was taken for a journal")
	}
}

func TestJournalForgetsALineThatWasCutOff(t *testing.T) {
	dir, begun := t.TempDir(), search.Begun{Supernet: "one"}
	mustJournal(t, dir, begun).Close()
	path := filepath.Join(dir, "journal.jsonl")
	stats := []byte("statistics")
	if err := os.WriteFile(filepath.Join(dir, family.BlobFile(family.DigestOf(stats))), stats, 0o600); err != nil {
		t.Fatal(err)
	}
	line, err := json.Marshal(search.Entry{Images: 3, Stats: family.DigestOf(stats)})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, more string
		want       int
	}{
		{"whole", string(line) + "\n", 1},
		{"cut off", string(line) + "\n" + string(line[:9]), 1},
		{"cut off at once", string(line[:9]), 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := mustRead(t, path)
			defer os.WriteFile(path, before, 0o600)
			if err := os.WriteFile(path, append(slices.Clone(before), tt.more...), 0o600); err != nil {
				t.Fatal(err)
			}
			if got := mustJournal(t, dir, begun).Len(); got != tt.want {
				t.Errorf("got %d measurements, want %d", got, tt.want)
			}
			if got := mustRead(t, path); len(got) == 0 || got[len(got)-1] != '\n' {
				t.Errorf("the journal ends in %q, want a whole line", got[max(0, len(got)-9):])
			}
		})
	}
}

func TestTimerMeasuresSubNetworksInTurns(t *testing.T) {
	net := mustSupernet(t)
	d := net.Description()
	timer := search.Timer{Net: net, Probe: prober(t), Runs: 5}
	ms, err := timer.Times(t.Context(), []family.Arch{d.Uniform(3, 3, 2, 24), d.Uniform(7, 6, 4, 32)})
	if err != nil || len(ms) != 2 || !(ms[0] > 0 && ms[1] > 0 && ms[1] < 10_000) {
		t.Errorf("got %v ms, %v; want two latencies", ms, err)
	}
	if ms, err := timer.Times(t.Context(), []family.Arch{d.Uniform(9, 3, 2, 24)}); err == nil {
		t.Errorf("kernel size 9: got %v ms, want an error", ms)
	}
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := timer.Times(stopped, []family.Arch{d.Uniform(3, 3, 2, 24)}); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: got %v, want %v", err, context.Canceled)
	}
}
