package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/onnx"
	"github.com/limber-edge/limber/family/ort/orttest"
	"github.com/limber-edge/limber/family/resident"
	"github.com/limber-edge/limber/family/stock"
)

// mustModel takes images of 24×24 and gives ten logits, after one more operator.
func mustModel(t *testing.T, op string) []byte {
	t.Helper()
	return mustTenLogits(t, "Identity", func(g *onnx.Graph) string {
		return g.Node(op, "op", []string{g.Node("GlobalAveragePool", "mean", []string{"x"})})
	})
}

// mustTen ends in the operator.
func mustTen(t *testing.T, op string) []byte {
	t.Helper()
	return mustTenLogits(t, op, func(g *onnx.Graph) string {
		return g.Node("GlobalAveragePool", "mean", []string{"x"})
	})
}

// mustBomb is a model that a scan lets in and that takes 18 GiB when it runs.
func mustBomb(t *testing.T) []byte {
	t.Helper()
	return mustTenLogits(t, "Identity", func(g *onnx.Graph) string {
		shape := g.Node("Cast", "shape", []string{g.Weight("numbers", []int{4}, []float32{1, 3, 40000, 40000})}, onnx.Int("to", 7))
		return g.Node("Expand", "big", []string{g.Node("GlobalAveragePool", "mean", []string{"x"}), shape})
	})
}

func mustTenLogits(t *testing.T, last string, build func(g *onnx.Graph) string) []byte {
	t.Helper()
	g := onnx.New("ten", onnx.Value{Name: "x", Dims: []int{1, 3, 24, 24}})
	channels := g.Node("ReduceMean", "channels", []string{build(g)}, onnx.Ints("axes", 2, 3), onnx.Int("keepdims", 0))
	weight := make([]float32, 30)
	for i := range weight {
		weight[i] = float32(i%7) - 3
	}
	g.Node(last, "y", []string{g.Node("MatMul", "sums", []string{channels, g.Weight("w", []int{3, 10}, weight)})})
	g.Output(onnx.Value{Name: "y", Dims: []int{1, 10}})
	b, err := g.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// mustForeign packs a family of models whose maker did not try them. The members
// are as accurate as they come late; their canaries are the first one's.
func mustForeign(t *testing.T, path string, canary []byte, models ...[]byte) {
	t.Helper()
	f, err := stock.Family()
	if err != nil {
		t.Fatal(err)
	}
	blobs := family.MemoryBlobs{}
	theirs := family.Family{Schema: family.Schema, Name: "theirs", Describe: f.Describe, Classes: f.Classes}
	for i, model := range models {
		top1 := 0.5 + float64(i)/10
		m := family.Member{Name: string(rune('a' + i)), Top1: top1, Top5: top1, Model: blobs.Add(model), Canary: blobs.Add(canary), Input: "x", Output: "y"}
		m.Arch.R = 24
		theirs.Members = append(theirs.Members, m)
	}
	var b bytes.Buffer
	if err := family.Pack(&b, &theirs, blobs, func(family.Digest) bool { return false }); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, path, b.Bytes())
}

func TestM11_ADeviceServesWithTheMembersThatAreNoBombs(t *testing.T) {
	t.Setenv("ONNXRUNTIME_LIB", orttest.Path(t))
	good, path, state := mustModel(t, "Identity"), filepath.Join(t.TempDir(), "theirs.family"), filepath.Join(t.TempDir(), "state")
	input := noise(3 * 24 * 24)
	logits, err := newTrial().Try(t.Context(), good, resident.ShapeOf(&family.Member{Input: "x", Output: "y", Arch: family.Arch{R: 24}}, 10), input)
	if err != nil {
		t.Fatal(err)
	}
	canary := resident.Canary(input, logits)

	mustForeign(t, path, canary, good, mustBomb(t))
	says(t, 1, "member b: trial: ", "family", "verify", "--family", path)
	says(t, 0, "2 members", "family", "install", "--family", path, "--state", state)
	says(t, 0, "no: member b: trial: ", "agent", "--profile", "--state", state)
	says(t, 0, "", "coldstart", "--state", state) // a device that answers a frame

	mustForeign(t, path, canary, mustBomb(t))
	says(t, 0, "1 members", "family", "install", "--family", path, "--state", state)
	says(t, 1, "no member of family theirs can be used: member a: trial: ", "agent", "--profile", "--state", state)
}

// A device whose every member is a bomb finds that out when it takes its profile.
func TestM11_ADeviceOfBombsAloneStaysUpAndSaysSo(t *testing.T) {
	path, state := filepath.Join(t.TempDir(), "theirs.family"), filepath.Join(t.TempDir(), "state")
	mustForeign(t, path, resident.Canary(noise(3*24*24), make([]float32, 10)), mustBomb(t))
	says(t, 0, "1 members", "family", "install", "--family", path, "--state", state)
	d := mustDeskOn(t, state)
	if birth := d.awaitOnline(t); !strings.Contains(birth.Detail, "no member of family theirs can be used") || !strings.Contains(birth.Detail, "take a smaller model") {
		t.Errorf("got %+v, want the cause and the remedy", birth)
	}
	frame, _ := mustFrame(t, 0)
	stdout, stderr, code := d.limber(t, "publish", "--json", frame)
	if !strings.Contains(stdout, `"status":"refused"`) || !strings.Contains(stdout, `"reason":"unsupported"`) {
		t.Errorf("got exit %d, %s%s; want the frame refused: unsupported", code, stdout, stderr)
	}
}

func TestM18_CommandsThatInferExitWith1WithoutARuntime(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	t.Setenv("ONNXRUNTIME_LIB", in("none.so"))
	f, err := stock.Family()
	if err != nil {
		t.Fatal(err)
	}
	mustWrite(t, in("d.json"), f.Describe)
	mustWrite(t, in("m.onnx"), mustModel(t, "Identity"))
	for _, args := range [][]string{
		{"family", "import", "--describe", in("d.json"), "--member", "m=" + in("m.onnx") + ":0.5", "--out", in("out.family")},
		{"family", "verify"},
		{"family", "eval"},
		{"family", "export", "--member", "5.8M", "--out", in("m.onnx.out")},
		{"agent", "--profile", "--state", in("state")},
		{"bench", "memory"},
		{"demo"},
	} {
		t.Run(strings.Join(args[:min(2, len(args))], " "), func(t *testing.T) {
			limber(t, args...).complained(t, exitFailed, "ONNX Runtime is not usable", "none.so", "set ONNXRUNTIME_LIB")
		})
	}
	if _, err := os.Stat(in("out.family")); err == nil {
		t.Error("import wrote a family")
	}
}

func TestTheTrialIsNoCommandForPeople(t *testing.T) {
	if help := limber(t, "family", "--help"); strings.Contains(help.stdout, trialCommand) {
		t.Errorf("got %s", help.stdout)
	}
}
