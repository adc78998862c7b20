package workshop

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/familytest"
	"github.com/limber-edge/limber/family/onnx"
	"github.com/limber-edge/limber/family/ort/orttest"
	"github.com/limber-edge/limber/family/search"
)

func TestImportSaysWhatTheNumbersOfAMemberAre(t *testing.T) {
	shop, h := mustShop(t)
	f := familytest.Stock(t)
	for _, tt := range []struct {
		name    string
		model   []byte
		outputs string
		says    string // empty for nothing
	}{
		{"logits", familytest.Model(t, "Identity"), "", ""},
		{"softmax", familytest.ModelThatEnds(t, "Softmax"), family.Probabilities,
			"member m: ends in Softmax: it gives probabilities"},
		{"softmax, then reshaped", familytest.Scores(t, func(g *onnx.Graph, scores string) string {
			return g.Node("Flatten", "flat", []string{g.Node("Softmax", "p", []string{scores}, onnx.Int("axis", 1))})
		}), family.Probabilities, "ends in Softmax"},
		{"softmax of 1xNx1x1", familytest.Scores(t, func(g *onnx.Graph, scores string) string {
			axes := g.Node("Cast", "axes", []string{g.Weight("at", []int{2}, []float32{2, 3})}, onnx.Int("to", 7))
			return g.Node("Unsqueeze", "deep", []string{g.Node("Softmax", "p", []string{scores}), axes})
		}, 1, 1), family.Probabilities, "ends in Softmax: it gives probabilities, which answers hold as they are; " +
			"the model is kept with changes: its output of 1x10x1x1 is made 1x10"},
		{"softmax by its numbers", familytest.Scores(t, func(g *onnx.Graph, scores string) string {
			e := g.Node("Exp", "e", []string{scores})
			return g.Node("Mul", "scaled", []string{e, g.Node("Reciprocal", "part",
				[]string{g.Node("ReduceSum", "sum", []string{e})})})
		}), family.Probabilities, "ends in Mul, and what it gives is none negative and adds up to 1"},
		{"log-softmax", familytest.ModelThatEnds(t, "LogSoftmax"), "", "ends in LogSoftmax: taken as logits"},
		{"sigmoid", familytest.ModelThatEnds(t, "Sigmoid"), "", "ends in Sigmoid, which judges each class alone"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			in := func(name string) string { return filepath.Join(dir, name) }
			familytest.Write(t, in("d.json"), f.Describe)
			familytest.Write(t, in("m.onnx"), tt.model)
			h.warnings = nil
			made, err := shop.Import(t.Context(), "family", in("d.json"), []Model{{"m", in("m.onnx"), 0.5}}, in("f.family"))
			if err != nil {
				t.Fatal(err)
			}
			wantSaid(t, strings.Join(h.warnings, "\n"), tt.says)
			if m := made.Members[0]; m.Outputs != tt.outputs {
				t.Errorf("the manifest has outputs %q, want %q", m.Outputs, tt.outputs)
			}
			if err := shop.Verify(t.Context(), mustOpen(t, in("f.family"))); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestModelsThatNoDeviceCouldServeAreNotImported(t *testing.T) {
	shop, _ := mustShop(t)
	f, dir := familytest.Stock(t), t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	small := mustMember(t, f, 0, 1)
	for name, b := range map[string][]byte{
		"small.onnx": small, "text.onnx": []byte("this is no model"), "bomb.onnx": familytest.Bomb(t),
		"loop.onnx": familytest.Model(t, "Loop"), "nan.onnx": familytest.Model(t, "Log"),
		"d.json":   f.Describe,
		"two.json": []byte(`{"mean":[0,0,0],"std":[1,1,1],"resize":"bilinear","crop":"none","classes":["a","b"]}`),
		"bad.json": []byte(`{"mean":[0,0,0],"std":[0,1,1],"resize":"bilinear","crop":"none","classes":["a","b"]}`),
	} {
		familytest.Write(t, in(name), b)
	}
	for _, tt := range []struct{ name, describe, model, want string }{
		{"M10 text", "d.json", "text.onnx", "protobuf"},
		{"M11 bomb at run time", "d.json", "bomb.onnx", "MiB of memory"},
		{"M12 control flow", "d.json", "loop.onnx", "Loop, which is not among the operators"},
		{"M13 other classes", "two.json", "small.onnx", "output logits 1x10 of the model is not of 2 classes"},
		{"M14 no numbers", "d.json", "nan.onnx", "computes no numbers"},
		{"standard deviation of nothing", "bad.json", "small.onnx", "std"},
		{"no such file", "d.json", "none.onnx", "no such file"},
		{"no description", "none.json", "small.onnx", "description: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := shop.Import(t.Context(), "foreign", in(tt.describe), []Model{{"m", in(tt.model), 0.5}}, in("x.family"))
			wantError(t, err, tt.want)
			if _, err := os.Stat(in("x.family")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("a family was written: %v", err)
			}
		})
	}
	_, err := shop.Import(t.Context(), "foreign", in("d.json"),
		[]Model{{"large", in("small.onnx"), 0.8}, {"small", in("small.onnx"), 0.7}}, in("x.family"))
	wantError(t, err, "more accurate")
}

// mustMember is a member of a family as a model for that many images at once.
func mustMember(tb testing.TB, f *family.Folder, i, batch int) []byte {
	tb.Helper()
	model, err := familytest.Members(tb, f)[i].Model(batch)
	if err != nil {
		tb.Fatal(err)
	}
	return model
}

func TestAnImportedMemberGuessesAsTheOneItWasMadeOf(t *testing.T) {
	shop, _ := mustShop(t)
	f, dir := familytest.Stock(t), t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	last := len(f.Members) - 1
	familytest.Write(t, in("small.onnx"), mustMember(t, f, 0, 1))
	familytest.Write(t, in("large.onnx"), mustMember(t, f, last, onnx.Dynamic))
	familytest.Write(t, in("d.json"), f.Describe)
	models := []Model{{"small", in("small.onnx"), 0.72}, {"large", in("large.onnx"), 0.81}}
	made, err := shop.Import(t.Context(), "foreign", in("d.json"), models, in("foreign.family"))
	if err != nil {
		t.Fatal(err)
	}
	if made.Members[0].MMACs != 0 {
		t.Errorf("got %v MMACs, which nobody counted", made.Members[0].MMACs)
	}
	set := mustSet(t, shop, f, familytest.Tree(t, in("photos"), 0, 20, f.Classes...))
	want := mustGuesses(t, shop, f, set)
	got := mustGuesses(t, shop, mustOpen(t, in("foreign.family")), set)
	if len(got) != 2 {
		t.Fatalf("got guesses of %d members, want 2", len(got))
	}
	for i, of := range []int{0, last} {
		if search.ScoreOf(got[i]) != search.ScoreOf(want[of]) || search.Agreement(got[i], want[of]) != 1 {
			t.Errorf("%s: got %+v, want what it was made of gives, %+v", models[i].Name, search.ScoreOf(got[i]),
				search.ScoreOf(want[of]))
		}
	}
}

func mustSet(tb testing.TB, shop Shop, f *family.Folder, path string) Set {
	tb.Helper()
	pictures, err := shop.TestImages(path, &f.Family)
	if err != nil {
		tb.Fatal(err)
	}
	how, err := f.Preprocessing()
	if err != nil {
		tb.Fatal(err)
	}
	set, err := Preprocessed(pictures, how)
	if err != nil {
		tb.Fatal(err)
	}
	return set
}

// mustGuesses are those of every member.
func mustGuesses(t *testing.T, shop Shop, f *family.Folder, set Set) (guesses [][]search.Guess) {
	t.Helper()
	e, err := shop.NewEvaluator(f)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	for i := range f.Members {
		g, err := e.Guesses(t.Context(), i, set)
		if err != nil {
			t.Fatal(err)
		}
		guesses = append(guesses, g)
	}
	return guesses
}

func TestModelsThatLieBesideTheProjectAreImportedOrSayWhatTheyAre(t *testing.T) {
	shop, h := mustShop(t)
	samples := filepath.Join(orttest.Root(t), "..", "shared", "data", "onnx")
	if _, err := os.Stat(samples); errors.Is(err, fs.ErrNotExist) {
		t.Skipf("%s is missing: it lies beside the project", samples)
	}
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	familytest.Write(t, in("d.json"), []byte(`{"mean":[0.5,0.5,0.5],"std":[0.5,0.5,0.5],"resize":"bilinear",
		"antialias":true,"crop":"none","classes":["a","b","c","d","e"]}`))
	for _, tt := range []struct {
		name     string
		imported bool
		says     string
	}{
		{"plain", true, ""},
		{"batch-minus-1", true, "free dimensions have a name"},
		{"out-1x5x1x1", true, "its output of 1x5x1x1 is made 1x5"},
		{"unused-ml-domain", true, "imports of operators that it does not use are gone"},
		{"softmax", true, "it gives probabilities"},
		{"nhwc", false, "input x Nx32x32x3 of the model is channels last (NHWC)"},
		{"not-square", false, "input x 1x3x32x48 of the model is not square"},
		{"one-channel", false, "input x 1x1x32x32 of the model is of one channel"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h.warnings = nil
			out := in(tt.name + ".family")
			_, err := shop.Import(t.Context(), "family", in("d.json"),
				[]Model{{"m", filepath.Join(samples, tt.name+".onnx"), 0.5}}, out)
			if !tt.imported {
				wantError(t, err, tt.says)
				return
			}
			if err == nil {
				err = shop.Verify(t.Context(), mustOpen(t, out))
			}
			if err != nil {
				t.Fatal(err)
			}
			wantSaid(t, strings.Join(h.warnings, "\n"), tt.says)
		})
	}
}
