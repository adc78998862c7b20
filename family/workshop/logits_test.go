package workshop

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/familytest"
	"github.com/limber-edge/limber/family/ofa"
	"github.com/limber-edge/limber/family/resident"
)

// logitsOf is a case of a fixture, to be written to a folder of its own.
func logitsOf(t *testing.T, dir string, c familytest.Case) Logits {
	t.Helper()
	l := Logits{Supernet: filepath.Join(dir, "supernet.pth"), Arch: filepath.Join(t.TempDir(), "a.json"),
		Input: filepath.Join(dir, c.Input),
		Out:   filepath.Join(t.TempDir(), "y.f32")}
	for _, name := range c.Batches {
		l.Calibrate = append(l.Calibrate, filepath.Join(dir, name))
	}
	familytest.Write(t, l.Arch, c.Arch)
	return l
}

// wantLogits checks what was written, against those of PyTorch.
func wantLogits(tb testing.TB, got, want []float32) {
	tb.Helper()
	if len(got) != len(want) {
		tb.Fatalf("got %d logits, want %d", len(got), len(want))
	}
	if off := resident.Distance(got, want); !(off <= 1e-4) {
		tb.Errorf("worst logit is %.3g standard deviations off, want at most 1e-4", off)
	}
}

func TestLogitsAgreeWithPyTorch(t *testing.T) {
	shop, h := mustShop(t)
	for _, supernet := range []string{"imagenet", "cifar"} {
		dir := filepath.Join(familytest.Fixtures(t), supernet)
		cases, calibration := familytest.Cases(t, dir)
		for name, c := range map[string]familytest.Case{supernet: cases[len(cases)-1],
			supernet + " calibrated": calibration} {
			t.Run(name, func(t *testing.T) {
				l := logitsOf(t, dir, c)
				if err := shop.Logits(l); err != nil {
					t.Fatal(err)
				}
				wantLogits(t, familytest.Floats(t, l.Out), familytest.Floats(t, filepath.Join(dir, c.Logits)))
			})
		}
	}
	if len(h.warnings) > 0 {
		t.Errorf("got warnings %q, want silence", h.warnings)
	}
}

func TestLogitsOfABatchAreThoseOfItsImages(t *testing.T) {
	shop, _ := mustShop(t)
	dir := filepath.Join(familytest.Fixtures(t), "cifar")
	cases, _ := familytest.Cases(t, dir)
	l := logitsOf(t, dir, cases[0])
	image := familytest.Read(t, l.Input)
	l.Input = filepath.Join(t.TempDir(), "twice.f32")
	familytest.Write(t, l.Input, slices.Repeat(image, 2))
	if err := shop.Logits(l); err != nil {
		t.Fatal(err)
	}
	want, got := familytest.Floats(t, filepath.Join(dir, cases[0].Logits)), familytest.Floats(t, l.Out)
	if len(got) != 2*len(want) {
		t.Fatalf("got %d logits, want twice %d", len(got), len(want))
	}
	wantLogits(t, got[:len(want)], want)
	wantLogits(t, got[len(want):], want)
}

func TestLogitsFailureLeavesNoFile(t *testing.T) {
	shop, _ := mustShop(t)
	dir, bad := filepath.Join(familytest.Fixtures(t), "cifar"), t.TempDir()
	cases, _ := familytest.Cases(t, dir)
	checkpoint := familytest.Read(t, filepath.Join(dir, "supernet.pth"))
	pixels := familytest.Floats(t, filepath.Join(dir, cases[0].Input))
	pixels[7] = float32(math.NaN())
	file := func(name string, b []byte) string {
		familytest.Write(t, filepath.Join(bad, name), b)
		return filepath.Join(bad, name)
	}
	familytest.Write(t, filepath.Join(bad, "misspelt.json"), []byte(`{"strids":[1]}`))
	supernet := func(path string) func(*Logits) { return func(l *Logits) { l.Supernet = path } }
	input := func(path string) func(*Logits) { return func(l *Logits) { l.Input = path } }
	arch := func(path string) func(*Logits) { return func(l *Logits) { l.Arch = path } }
	for _, tt := range []struct {
		name string
		set  func(*Logits)
		says []string
	}{
		{"text file", supernet(file("text.pth", []byte("these are no weights\n"))),
			[]string{"text.pth", "not a PyTorch checkpoint", "it looks like text"}},
		{"truncated checkpoint", supernet(file("short.pth", checkpoint[:len(checkpoint)/2])),
			[]string{"short.pth", "truncated"}},
		{"no checkpoint", supernet(filepath.Join(bad, "none.pth")), []string{"none.pth", "no such file"}},
		{"misspelt description", supernet(file("misspelt.pth", checkpoint)), []string{"misspelt.json", "strids"}},
		{"wrong input size", input(file("size.f32", make([]byte, 1000))),
			[]string{"size.f32", "1000 bytes are not a whole number of images of 3×32×32"}},
		{"no whole number", input(file("odd.f32", make([]byte, 3))), []string{"odd.f32", "not a whole number of float32"}},
		{"empty input", input(file("empty.f32", nil)), []string{"empty.f32", "0 bytes"}},
		{"not an architecture", arch(file("arch.json", []byte("[]"))), []string{"arch.json", "architecture"}},
		{"not of this supernet", arch(file("other.json", []byte(`{"ks":[3],"e":[3],"d":[2],"r":32}`))),
			[]string{"wants 20 ks, 20 e and 5 d"}},
		{"pixel that is no number", input(file("nan.f32", family.FloatBytes(pixels))), []string{"of image 0 is NaN"}},
		{"wrong batch size", func(l *Logits) { l.Calibrate = []string{file("batch.f32", make([]byte, 16))} },
			[]string{"batch.f32"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := logitsOf(t, dir, cases[0])
			tt.set(&l)
			wantError(t, shop.Logits(l), tt.says...)
			left, err := os.ReadDir(filepath.Dir(l.Out))
			if err != nil || len(left) != 0 {
				t.Errorf("got files %v, %v beside the output; want none", left, err)
			}
		})
	}
}

// The legacy container has no checksums: what is written over is found by its
// meaning, or not at all.
func TestLogitsOfWeightsThatAreNoNumbersAreRefused(t *testing.T) {
	shop, _ := mustShop(t)
	from := filepath.Join(familytest.Fixtures(t), "imagenet")
	cases, _ := familytest.Cases(t, from)
	for _, tt := range []struct {
		name, tensor string
		v            float32
		says         []string
	}{
		{"NaN in a weight", "classifier.linear.weight", float32(math.NaN()),
			[]string{"tensor classifier.linear.weight", "NaN"}},
		{"negative variance", "final_expand_layer.bn.running_var", -1,
			[]string{"tensor final_expand_layer.bn.running_var", "-1"}},
		{"overflow", "final_expand_layer.bn.weight", math.MaxFloat32, []string{"logit 0 of image 0 is", "out of the range"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			checkpoint := familytest.Read(t, filepath.Join(from, "supernet.pth"))
			c, err := ofa.ReadCheckpoint(checkpoint)
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
			l := logitsOf(t, from, cases[0])
			l.Supernet = filepath.Join(t.TempDir(), "supernet.pth")
			familytest.Write(t, l.Supernet, checkpoint)
			wantError(t, shop.Logits(l), tt.says...)
			if _, err := os.Stat(l.Out); err == nil {
				t.Error("it wrote logits")
			}
		})
	}
}

func TestLogitsOfAWrappedCheckpointAreTheSameAndSaySo(t *testing.T) {
	shop, h := mustShop(t)
	from := filepath.Join(familytest.Fixtures(t), "cifar")
	cases, _ := familytest.Cases(t, from)
	l := logitsOf(t, from, cases[0])
	dir := t.TempDir()
	l.Supernet = filepath.Join(dir, "supernet.pth")
	familytest.Write(t, l.Supernet, mustWrap(t, familytest.Read(t, filepath.Join(from, "supernet.pth")), "ema"))
	familytest.Write(t, filepath.Join(dir, "supernet.json"), familytest.Read(t, filepath.Join(from, "supernet.json")))
	if err := shop.Logits(l); err != nil {
		t.Fatal(err)
	}
	if want := []string{l.Supernet + ": took what is under 'ema', 'state_dict' in it"}; !slices.Equal(h.warnings, want) {
		t.Errorf("got %q, want it to say %q", h.warnings, want)
	}
	wantLogits(t, familytest.Floats(t, l.Out), familytest.Floats(t, filepath.Join(from, cases[0].Logits)))
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
