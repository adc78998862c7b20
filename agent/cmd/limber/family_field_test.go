package main

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/onnx"
	"github.com/limber-edge/limber/family/ort/orttest"
	"github.com/limber-edge/limber/family/stock"
)

func TestImportSaysWhatTheNumbersOfAMemberAre(t *testing.T) {
	t.Setenv("ONNXRUNTIME_LIB", orttest.Path(t))
	f, err := stock.Family()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		model   []byte
		outputs string
		says    string // empty for nothing
	}{
		{"logits", mustModel(t, "Identity"), "", ""},
		{"softmax", mustTen(t, "Softmax"), family.Probabilities, "member m: ends in Softmax: it gives probabilities"},
		{"softmax, then reshaped", mustScores(t, func(g *onnx.Graph, scores string) string {
			return g.Node("Flatten", "flat", []string{g.Node("Softmax", "p", []string{scores}, onnx.Int("axis", 1))})
		}), family.Probabilities, "ends in Softmax"},
		{"softmax of 1xNx1x1", mustScores(t, func(g *onnx.Graph, scores string) string {
			axes := g.Node("Cast", "axes", []string{g.Weight("at", []int{2}, []float32{2, 3})}, onnx.Int("to", 7))
			return g.Node("Unsqueeze", "deep", []string{g.Node("Softmax", "p", []string{scores}), axes})
		}, 1, 1), family.Probabilities, "ends in Softmax: it gives probabilities, which answers hold as they are; the model is kept with changes: its output of 1x10x1x1 is made 1x10"},
		{"softmax by its numbers", mustScores(t, func(g *onnx.Graph, scores string) string {
			e := g.Node("Exp", "e", []string{scores})
			return g.Node("Mul", "scaled", []string{e, g.Node("Reciprocal", "part", []string{g.Node("ReduceSum", "sum", []string{e})})})
		}), family.Probabilities, "ends in Mul, and what it gives is none negative and adds up to 1"},
		{"log-softmax", mustTen(t, "LogSoftmax"), "", "ends in LogSoftmax: taken as logits"},
		{"sigmoid", mustTen(t, "Sigmoid"), "", "ends in Sigmoid, which judges each class alone"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			in := func(name string) string { return filepath.Join(dir, name) }
			mustWrite(t, in("d.json"), f.Describe)
			mustWrite(t, in("m.onnx"), tt.model)
			got := limber(t, "family", "import", "--describe", in("d.json"), "--out", in("f.family"), "--member", "m="+in("m.onnx")+":0.5")
			if got.code != exitDone || !strings.Contains(got.stderr, tt.says) || (got.stderr == "") != (tt.says == "") {
				t.Fatalf("got %+v, want it to say %q", got, tt.says)
			}
			if m := mustOpenFamily(t, in("f.family")).Members[0]; m.Outputs != tt.outputs {
				t.Errorf("the manifest has outputs %q, want %q", m.Outputs, tt.outputs)
			}
			says(t, 0, "1 members pass", "family", "verify", "--family", in("f.family"))
		})
	}
}

// mustScores ends in what last makes of ten scores that differ much, an output of
// 1×10 and more.
func mustScores(t *testing.T, last func(g *onnx.Graph, scores string) string, more ...int) []byte {
	t.Helper()
	g := onnx.New("scores", onnx.Value{Name: "x", Dims: []int{1, 3, 24, 24}})
	channels := g.Node("ReduceMean", "channels", []string{"x"}, onnx.Ints("axes", 2, 3), onnx.Int("keepdims", 0))
	weight, bias := make([]float32, 30), make([]float32, 10)
	for i := range weight {
		weight[i] = float32(i%7) - 3
	}
	bias[3] = 9
	sums := g.Node("MatMul", "sums", []string{channels, g.Weight("w", []int{3, 10}, weight)})
	out := last(g, g.Node("Add", "raw", []string{sums, g.Weight("b", []int{10}, bias)}))
	g.Output(onnx.Value{Name: out, Dims: append([]int{1, 10}, more...)})
	b, err := g.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustOpenFamily(t *testing.T, path string) *family.Folder {
	t.Helper()
	f, err := family.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// A second softmax of ten probabilities gives none over e/(e+9) = 0.23.
func TestADeviceAnswersWithTheProbabilitiesOfAMember(t *testing.T) {
	t.Setenv("ONNXRUNTIME_LIB", orttest.Path(t))
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	f, err := stock.Family()
	if err != nil {
		t.Fatal(err)
	}
	mustWrite(t, in("d.json"), f.Describe)
	mustWrite(t, in("logits.onnx"), mustScores(t, func(_ *onnx.Graph, scores string) string { return scores }))
	mustWrite(t, in("softmax.onnx"), mustScores(t, func(g *onnx.Graph, scores string) string { return g.Node("Softmax", "p", []string{scores}) }))
	frame, _ := mustFrame(t, 0)
	var answers [2]wire.Result
	for i, model := range []string{"logits.onnx", "softmax.onnx"} {
		t.Run(model, func(t *testing.T) { // there is one runtime in a process, and one agent at a time
			says(t, 0, "1 members", "family", "import", "--describe", in("d.json"), "--out", in("f.family"), "--member", "m="+in(model)+":0.5")
			state := filepath.Join(t.TempDir(), "state")
			says(t, 0, "1 members", "family", "install", "--family", in("f.family"), "--state", state)
			d := mustDeskOn(t, state)
			d.awaitOnline(t)
			stdout, stderr, _ := d.limber(t, "publish", "--json", "--deadline", "10s", frame)
			if err := json.Unmarshal([]byte(stdout), &answers[i]); err != nil {
				t.Fatalf("%v: %s%s", err, stdout, stderr)
			}
		})
	}
	logits, own := answers[0].Classes, answers[1].Classes
	if len(logits) != 5 || len(own) != 5 || own[0].P < 0.3 {
		t.Fatalf("got %+v of logits and %+v of probabilities", logits, own)
	}
	for i, c := range logits {
		if c.Index != own[i].Index || c.P-own[i].P > 1e-5 || own[i].P-c.P > 1e-5 {
			t.Errorf("place %d: got %+v of logits and %+v of probabilities, want the same", i, c, own[i])
		}
	}
}

func TestModelsThatLieBesideTheProjectAreImportedOrSayWhatTheyAre(t *testing.T) {
	t.Setenv("ONNXRUNTIME_LIB", orttest.Path(t))
	samples := filepath.Join("..", "..", "..", "..", "shared", "data", "onnx")
	if _, err := os.Stat(samples); errors.Is(err, fs.ErrNotExist) {
		t.Skipf("%s is missing: it lies beside the project", samples)
	}
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	mustWrite(t, in("d.json"), []byte(`{"mean":[0.5,0.5,0.5],"std":[0.5,0.5,0.5],"resize":"bilinear","antialias":true,"crop":"none","classes":["a","b","c","d","e"]}`))
	for _, tt := range []struct {
		name string
		code int
		says string
	}{
		{"plain", 0, "1 members"},
		{"batch-minus-1", 0, "free dimensions have a name"},
		{"out-1x5x1x1", 0, "its output of 1x5x1x1 is made 1x5"},
		{"unused-ml-domain", 0, "imports of operators that it does not use are gone"},
		{"softmax", 0, "it gives probabilities"},
		{"nhwc", 1, "input x Nx32x32x3 of the model is channels last (NHWC)"},
		{"not-square", 1, "input x 1x3x32x48 of the model is not square"},
		{"one-channel", 1, "input x 1x1x32x32 of the model is of one channel"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			says(t, tt.code, tt.says, "family", "import", "--describe", in("d.json"), "--out", in(tt.name+".family"), "--member", "m="+filepath.Join(samples, tt.name+".onnx")+":0.5")
			if tt.code == 0 {
				says(t, 0, "1 members pass", "family", "verify", "--family", in(tt.name+".family"))
			}
		})
	}
}
