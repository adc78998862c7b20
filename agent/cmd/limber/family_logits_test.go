package main

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ofa"
	"github.com/limber-edge/limber/family/ort/orttest"
)

// fixtures are the supernets of package ofa with what PyTorch computed.
var fixtures = filepath.Join("..", "..", "..", "family", "ofa", "testdata")

// logitsCase is one architecture of a cases.json.
type logitsCase struct {
	Arch    json.RawMessage `json:"arch"`
	Batches []string        `json:"batches"` // of the calibration case
	Input   string          `json:"input"`
	Logits  string          `json:"logits"`
}

func TestLogitsAgreeWithPyTorch(t *testing.T) {
	t.Setenv("ONNXRUNTIME_LIB", orttest.Path(t))
	for _, supernet := range []string{"imagenet", "cifar"} {
		dir := filepath.Join(fixtures, supernet)
		cases, calibration := mustCases(t, dir)
		t.Run(supernet, func(t *testing.T) { checkLogits(t, dir, cases[len(cases)-1]) })
		t.Run(supernet+" calibrated", func(t *testing.T) { checkLogits(t, dir, calibration) })
	}
}

func checkLogits(t *testing.T, dir string, c logitsCase) {
	out := filepath.Join(t.TempDir(), "y.f32")
	args := logitsCommand(t, dir, c, out)
	if len(c.Batches) > 0 {
		var paths []string
		for _, name := range c.Batches {
			paths = append(paths, filepath.Join(dir, name))
		}
		args = append(args, "--calibrate", strings.Join(paths, ","))
	}
	if got := limber(t, args...); got != (ran{}) {
		t.Fatalf("got %+v, want exit 0 and silence", got)
	}
	got, want := mustFloats(t, out), mustFloats(t, filepath.Join(dir, c.Logits))
	if off := worst(got, want); !(off <= 1e-4) {
		t.Errorf("worst logit is %.3g standard deviations off, want at most 1e-4", off)
	}
}

func TestLogitsOfABatchAreThoseOfItsImages(t *testing.T) {
	t.Setenv("ONNXRUNTIME_LIB", orttest.Path(t))
	dir := filepath.Join(fixtures, "cifar")
	cases, _ := mustCases(t, dir)
	c := cases[0]
	image := mustRead(t, filepath.Join(dir, c.Input))
	twice := filepath.Join(t.TempDir(), "twice.f32")
	mustWrite(t, twice, append(image[:len(image):len(image)], image...))
	out := filepath.Join(t.TempDir(), "y.f32")
	if got := limber(t, append(logitsCommand(t, dir, c, out), "--input", twice)...); got.code != exitDone {
		t.Fatalf("got %+v, want exit 0", got)
	}
	want := mustFloats(t, filepath.Join(dir, c.Logits))
	got := mustFloats(t, out)
	if len(got) != 2*len(want) || !(worst(got[:len(want)], want) <= 1e-4) || !(worst(got[len(want):], want) <= 1e-4) {
		t.Errorf("got %v, want twice %v", got, want)
	}
}

func TestLogitsFailureLeavesNoFile(t *testing.T) {
	t.Setenv("ONNXRUNTIME_LIB", orttest.Path(t))
	dir, bad := filepath.Join(fixtures, "cifar"), t.TempDir()
	cases, _ := mustCases(t, dir)
	checkpoint := mustRead(t, filepath.Join(dir, "supernet.pth"))
	pixels := mustFloats(t, filepath.Join(dir, cases[0].Input))
	pixels[7] = float32(math.NaN())
	file := func(name string, b []byte) string {
		mustWrite(t, filepath.Join(bad, name), b)
		return filepath.Join(bad, name)
	}
	mustWrite(t, filepath.Join(bad, "misspelt.json"), []byte(`{"strids":[1]}`))
	for _, tt := range []struct {
		name, flag, path string
		says             []string
	}{
		{"text file", "--supernet", file("text.pth", []byte("these are no weights\n")), []string{"text.pth", "not a PyTorch checkpoint", "it looks like text"}},
		{"truncated checkpoint", "--supernet", file("short.pth", checkpoint[:len(checkpoint)/2]), []string{"short.pth", "truncated"}},
		{"no checkpoint", "--supernet", filepath.Join(bad, "none.pth"), []string{"none.pth", "no such file"}},
		{"misspelt description", "--supernet", file("misspelt.pth", checkpoint), []string{"misspelt.json", "strids"}},
		{"wrong input size", "--input", file("size.f32", make([]byte, 1000)), []string{"size.f32", "1000 bytes are not a whole number of images of 3×32×32"}},
		{"no whole number", "--input", file("odd.f32", make([]byte, 3)), []string{"odd.f32", "not a whole number of float32"}},
		{"empty input", "--input", file("empty.f32", nil), []string{"empty.f32", "0 bytes"}},
		{"not an architecture", "--arch", file("arch.json", []byte("[]")), []string{"arch.json", "architecture"}},
		{"not of this supernet", "--arch", file("other.json", []byte(`{"ks":[3],"e":[3],"d":[2],"r":32}`)), []string{"wants 20 ks, 20 e and 5 d"}},
		{"pixel that is no number", "--input", file("nan.f32", family.FloatBytes(pixels)), []string{"of image 0 is NaN"}},
		{"wrong batch size", "--calibrate", file("batch.f32", make([]byte, 16)), []string{"batch.f32"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			place := t.TempDir()
			args := append(logitsCommand(t, dir, cases[0], filepath.Join(place, "y.f32")), tt.flag, tt.path)
			limber(t, args...).complained(t, exitFailed, tt.says...)
			left, err := os.ReadDir(place)
			if err != nil || len(left) != 0 {
				t.Errorf("got files %v, %v beside the output; want none", left, err)
			}
		})
	}
}

func TestLogitsWithoutARuntimeSaysWhatToDo(t *testing.T) {
	t.Setenv("ONNXRUNTIME_LIB", filepath.Join(t.TempDir(), "none.so"))
	dir := filepath.Join(fixtures, "cifar")
	cases, _ := mustCases(t, dir)
	got := limber(t, logitsCommand(t, dir, cases[0], filepath.Join(t.TempDir(), "y.f32"))...)
	got.complained(t, exitFailed, "none.so", "ONNX Runtime is not usable", "set ONNXRUNTIME_LIB")
	if n := strings.Count(got.stderr, "\n"); n != 1 {
		t.Errorf("got %d lines, want one: %q", n, got.stderr)
	}
}

// The legacy container has no checksums: what is written over is found by its
// meaning, or not at all.
func TestLogitsOfWeightsThatAreNoNumbersAreRefused(t *testing.T) {
	t.Setenv("ONNXRUNTIME_LIB", orttest.Path(t))
	from := filepath.Join(fixtures, "imagenet")
	cases, _ := mustCases(t, from)
	for _, tt := range []struct {
		name, tensor string
		v            float32
		says         []string
	}{
		{"NaN in a weight", "classifier.linear.weight", float32(math.NaN()), []string{"tensor classifier.linear.weight", "NaN"}},
		{"negative variance", "final_expand_layer.bn.running_var", -1, []string{"tensor final_expand_layer.bn.running_var", "-1"}},
		{"overflow", "final_expand_layer.bn.weight", math.MaxFloat32, []string{"logit 0 of image 0 is", "out of the range"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			checkpoint := mustRead(t, filepath.Join(from, "supernet.pth"))
			c, err := ofa.ReadCheckpoint(bytes.NewReader(checkpoint), int64(len(checkpoint)))
			if err != nil {
				t.Fatal(err)
			}
			tensor, ok := c.Tensor(tt.tensor)
			at := bytes.Index(checkpoint, family.FloatBytes(tensor.Data))
			if !ok || at < 0 {
				t.Fatalf("the checkpoint has no %s of float32", tt.tensor)
			}
			for i := range 8 { // a single overflow may meet a zero
				copy(checkpoint[at+4*i:], family.FloatBytes([]float32{tt.v}))
			}
			dir, out := t.TempDir(), filepath.Join(t.TempDir(), "y.f32")
			mustWrite(t, filepath.Join(dir, "supernet.pth"), checkpoint)
			limber(t, append(logitsCommand(t, from, cases[0], out), "--supernet", filepath.Join(dir, "supernet.pth"))...).complained(t, exitFailed, tt.says...)
			if _, err := os.Stat(out); err == nil {
				t.Error("it wrote logits")
			}
		})
	}
}

func TestLogitsOfAWrappedCheckpointAreTheSameAndSaySo(t *testing.T) {
	t.Setenv("ONNXRUNTIME_LIB", orttest.Path(t))
	from := filepath.Join(fixtures, "cifar")
	cases, _ := mustCases(t, from)
	dir, out := t.TempDir(), filepath.Join(t.TempDir(), "y.f32")
	path := filepath.Join(dir, "supernet.pth")
	mustWrite(t, path, mustWrap(t, mustRead(t, filepath.Join(from, "supernet.pth")), "ema"))
	mustWrite(t, filepath.Join(dir, "supernet.json"), mustRead(t, filepath.Join(from, "supernet.json")))
	got := limber(t, append(logitsCommand(t, from, cases[0], out), "--supernet", path)...)
	if want := "limber: " + path + ": took what is under 'ema', 'state_dict' in it\n"; got != (ran{stderr: want}) {
		t.Fatalf("got %+v, want it to say %q", got, want)
	}
	if off := worst(mustFloats(t, out), mustFloats(t, filepath.Join(from, cases[0].Logits))); !(off <= 1e-4) {
		t.Errorf("worst logit is %.3g standard deviations off, want at most 1e-4", off)
	}
}

// mustWrap puts what a checkpoint holds under a name, as torch.save of a dict does.
func mustWrap(t *testing.T, checkpoint []byte, name string) []byte {
	t.Helper()
	from, err := zip.NewReader(bytes.NewReader(checkpoint), int64(len(checkpoint)))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	to := zip.NewWriter(&b)
	for _, f := range from.File {
		body, err := fs.ReadFile(from, f.Name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(f.Name, "/data.pkl") { // protocol 2, one value, STOP
			head := "\x80\x02}(X" + string(binary.LittleEndian.AppendUint32(nil, uint32(len(name)))) + name
			body = append(append([]byte(head), body[2:len(body)-1]...), "u."...)
		}
		w, err := to.CreateHeader(&zip.FileHeader{Name: f.Name, Method: zip.Store})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(body); err != nil {
			t.Fatal(err)
		}
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// logitsCommand is the command line for a case. A flag given again later wins.
func logitsCommand(t *testing.T, dir string, c logitsCase, out string) []string {
	t.Helper()
	arch := filepath.Join(t.TempDir(), "a.json")
	mustWrite(t, arch, c.Arch)
	return []string{"family", "logits", "--supernet", filepath.Join(dir, "supernet.pth"), "--arch", arch,
		"--input", filepath.Join(dir, c.Input), "--out", out}
}

func mustCases(t *testing.T, dir string) (cases []logitsCase, calibration logitsCase) {
	t.Helper()
	var all struct {
		Cases       []logitsCase `json:"cases"`
		Calibration logitsCase   `json:"calibration"`
	}
	if err := json.Unmarshal(mustRead(t, filepath.Join(dir, "cases.json")), &all); err != nil {
		t.Fatal(err)
	}
	if len(all.Cases) == 0 || len(all.Calibration.Batches) == 0 {
		t.Fatalf("%s holds no cases", dir)
	}
	return all.Cases, all.Calibration
}

// worst is the largest difference in standard deviations of want.
func worst(got, want []float32) float64 {
	if len(got) != len(want) {
		return math.Inf(1)
	}
	var sum, square, worst float64
	for i, v := range want {
		sum += float64(v)
		square += float64(v) * float64(v)
		worst = math.Max(worst, math.Abs(float64(got[i])-float64(v)))
	}
	mean := sum / float64(len(want))
	return worst / math.Sqrt(square/float64(len(want))-mean*mean)
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustFloats(t *testing.T, path string) []float32 {
	t.Helper()
	v, err := family.Floats(mustRead(t, path))
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return v
}
