package resident_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/familytest"
	"github.com/limber-edge/limber/family/onnx"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/ort/orttest"
	"github.com/limber-edge/limber/family/resident"
	"github.com/limber-edge/limber/family/trial"
)

func TestMain(m *testing.M) { familytest.Main(m) }

// guard counts the trials, which are real.
type guard struct {
	*trial.Trial
	trials int
}

func (g *guard) Try(ctx context.Context, model []byte, shape ort.Shape, input []float32) ([]float32, error) {
	g.trials++
	return g.Trial.Try(ctx, model, shape, input)
}

func mustGuard(t *testing.T) *guard {
	t.Helper()
	return &guard{Trial: familytest.Trial(t)}
}

// image is the input of the foreign members' canaries.
var image = []float32{1, 2, 3, 4, 10, 20, 30, 40, 100, 200, 300, 400}

// foreign is a family of one foreign member, which gives the mean of each
// channel. The model may be another.
func foreign(t *testing.T, model []byte) (*family.Family, family.MemoryBlobs) {
	t.Helper()
	if model == nil {
		model = mustMeans(t, "x", "y", onnx.Dynamic, 3)
	}
	p := family.MemoryBlobs{}
	m := family.Member{Name: "theirs", Top1: 0.7, Top5: 0.9, Input: "x", Output: "y",
		Model: p.Add(model), Canary: p.Add(resident.Canary(image, []float32{2.5, 25, 250}))}
	m.Arch.R = 2
	return &family.Family{Schema: family.Schema, Name: "foreign", Classes: []string{"a", "b", "c"},
		Members: []family.Member{m}}, p
}

func mustMeans(t *testing.T, in, out string, batch, classes int) []byte {
	t.Helper()
	g := onnx.New("means", onnx.Value{Name: in, Dims: []int{batch, 3, 2, 2}})
	g.Node("ReduceMean", out, []string{in}, onnx.Ints("axes", 2, 3), onnx.Int("keepdims", 0))
	g.Output(onnx.Value{Name: out, Dims: []int{batch, classes}})
	return mustMarshal(t, g)
}

func mustMarshal(t *testing.T, g *onnx.Graph) []byte {
	t.Helper()
	b, err := g.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAForeignModelIsTriedOnceAndAgainWhenItsCacheIsLost(t *testing.T) {
	rt, g, cache := orttest.Open(t), mustGuard(t), t.TempDir()
	f, p := foreign(t, nil)
	for start, trials := range []int{1, 1, 2} {
		if start == 2 {
			mustWrite(t, filepath.Join(mustOnly(t, cache), "model.onnx"), nil)
		}
		s := mustSession(t, resident.New(rt, f, p, cache, ort.DefaultOptions(), g), 0)
		out := make([]float32, 3)
		if err := s.Run(out, image); err != nil || !slices.Equal(out, []float32{2.5, 25, 250}) {
			t.Errorf("start %d: got %v, %v; want the mean of each channel", start, out, err)
		}
		if g.trials != trials {
			t.Errorf("start %d: got %d trials, want %d", start, g.trials, trials)
		}
	}
}

func TestM11_AForeignBombIsNotHandedOutAndLeavesNothing(t *testing.T) {
	g := onnx.New("bomb", onnx.Value{Name: "x", Dims: []int{1, 3, 2, 2}})
	mean := g.Node("GlobalAveragePool", "mean", []string{"x"})
	shape := g.Node("Cast", "shape", []string{g.Weight("numbers", []int{4}, []float32{1, 3, 40000, 40000})},
		onnx.Int("to", 7))
	g.Node("ReduceMean", "y", []string{g.Node("Expand", "big", []string{mean, shape})}, onnx.Ints("axes", 2, 3),
		onnx.Int("keepdims", 0))
	g.Output(onnx.Value{Name: "y", Dims: []int{1, 3}})
	rt, cache := orttest.Open(t), t.TempDir()
	f, p := foreign(t, mustMarshal(t, g))
	refused(t, resident.New(rt, f, p, cache, ort.DefaultOptions(), mustGuard(t)), "member theirs", "trial",
		"MiB of memory", "take a smaller model")
	if left := mustNames(t, cache); len(left) > 0 {
		t.Errorf("the cache holds %v", left)
	}
}

func TestAForeignModelWithoutATrialIsNotHandedOut(t *testing.T) {
	rt := orttest.Open(t)
	f, p := foreign(t, nil)
	t.Run("no guard", func(t *testing.T) {
		refused(t, resident.New(rt, f, p, t.TempDir(), ort.DefaultOptions(), nil), "theirs", "only after a trial")
	})
	t.Run("no process", func(t *testing.T) {
		none := trial.New(trial.LimitsOf, filepath.Join(t.TempDir(), "none"))
		refused(t, resident.New(rt, f, p, t.TempDir(), ort.DefaultOptions(), none), "theirs", "cannot be started")
	})
}

// What the manifest says wrong is found when the member is loaded, and before
// the model runs anywhere.
func TestM13_AForeignModelThatIsNotWhatTheManifestSaysIsRefusedWhenItIsLoaded(t *testing.T) {
	rt := orttest.Open(t)
	for _, tt := range []struct {
		name   string
		model  []byte
		change func(f *family.Family)
		says   []string
	}{
		{"name of the input", mustMeans(t, "pixels", "y", 1, 3), nil, []string{"input pixels", "manifest's x"}},
		{"name of the output", mustMeans(t, "x", "scores", 1, 3), nil, []string{"output scores", "manifest's y"}},
		{"number of classes", mustMeans(t, "x", "y", 1, 4), nil, []string{"output y [1 4]", "y [1 3]"}},
		{"classes of the manifest", nil, func(f *family.Family) { f.Classes = append(f.Classes, "d") }, []string{"y [1 4]"}},
		{"batch of two", mustMeans(t, "x", "y", 2, 3), nil, []string{"input x [2 3 2 2]"}},
		{"resolution", nil, func(f *family.Family) { f.Members[0].Arch.R = 4 }, []string{"x [1 3 4 4]"}},
		{"resolution of no camera", nil, func(f *family.Family) { f.Members[0].Arch.R = 1 << 30 },
			[]string{"1073741824 pixels", "wants 1 to 4096"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, p := foreign(t, tt.model)
			if tt.change != nil {
				tt.change(f)
			}
			g := &guard{}
			refused(t, resident.New(rt, f, p, t.TempDir(), ort.DefaultOptions(), g), append(tt.says, "theirs")...)
			if g.trials > 0 {
				t.Error("it was tried")
			}
		})
	}
}

func TestM12_AForeignModelThatTheScanRefusesIsNotTried(t *testing.T) {
	rt, g := orttest.Open(t), &guard{}
	loop := onnx.New("loop", onnx.Value{Name: "x", Dims: []int{1, 3, 2, 2}})
	loop.Node("Loop", "y", []string{"x"})
	loop.Output(onnx.Value{Name: "y", Dims: []int{1, 3}})
	f, p := foreign(t, mustMarshal(t, loop))
	refused(t, resident.New(rt, f, p, t.TempDir(), ort.DefaultOptions(), g), "theirs", "refused", "Loop")
	if g.trials > 0 {
		t.Error("it was tried")
	}
}

func TestM14_AForeignModelWithOtherLogitsIsRefusedByItsTrial(t *testing.T) {
	rt, g, cache := orttest.Open(t), mustGuard(t), t.TempDir()
	f, p := foreign(t, nil)
	f.Members[0].Canary = p.Add(resident.Canary(image, []float32{2.5, 25, 260}))
	refused(t, resident.New(rt, f, p, cache, ort.DefaultOptions(), g), "theirs", "canary", "standard deviations")
	if left := mustNames(t, cache); g.trials != 1 || len(left) > 0 {
		t.Errorf("got %d trials and %v in the cache, want one trial and nothing", g.trials, left)
	}
}

// Where no digest stands before it, a flipped bit is refused by the scan or in
// the trial, or does not matter: the logits are right.
func TestM10_AFlippedBitInAForeignModelDoesNoHarm(t *testing.T) {
	rt, g := orttest.Open(t), mustGuard(t)
	f, p := foreign(t, nil)
	whole := p[f.Members[0].Model]
	for at := 0; at < len(whole); at += 1 + len(whole)/16 {
		damaged := slices.Clone(whole)
		damaged[at] ^= 4
		p[f.Members[0].Model] = damaged
		s, err := resident.New(rt, f, p, t.TempDir(), ort.DefaultOptions(), g).Session(0)
		if err != nil {
			if !strings.Contains(err.Error(), "theirs") {
				t.Errorf("byte %d: got %v, want the member named", at, err)
			}
			continue
		}
		out := make([]float32, 3)
		if err := errors.Join(s.Run(out, image), s.Close()); err != nil || !slices.Equal(out, []float32{2.5, 25, 250}) {
			t.Errorf("byte %d: got %v, %v", at, out, err)
		}
	}
}
