package frame

import (
	"fmt"
	"image/png"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/limber-edge/limber/family"
)

// plain leaves fractions of 255 as they are.
var plain = family.Preprocess{Std: [3]float32{1, 1, 1}, Resize: "bilinear", Antialias: true, Crop: "none"}

// cropped is plain, but for a crop that keeps a part; 0 is none.
func cropped(kept float64) family.Preprocess {
	pre := plain
	if kept > 0 {
		pre.Crop = fmt.Sprint(kept)
	}
	return pre
}

func mustDecode(tb testing.TB, file string) *Picture {
	tb.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		tb.Fatal(err)
	}
	p, err := Decoder{MaxPixels: DefaultPixels}.Read(b)
	if err != nil {
		tb.Fatalf("%s: %v", file, err)
	}
	return p
}

func mustScaler(tb testing.TB, p family.Preprocess) *Scaler {
	tb.Helper()
	s, err := NewScaler(p)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// mustPixels are the samples of a PNG in the order of a tensor.
func mustPixels(tb testing.TB, file string) (samples []byte) {
	tb.Helper()
	f, err := os.Open(file)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	img, err := png.Decode(f)
	if err != nil {
		tb.Fatal(err)
	}
	w, h := img.Bounds().Dx(), img.Bounds().Dy()
	samples = make([]byte, 3*w*h)
	for i := range w * h {
		r, g, b, _ := img.At(i%w, i/w).RGBA()
		samples[i], samples[w*h+i], samples[2*w*h+i] = byte(r>>8), byte(g>>8), byte(b>>8)
	}
	return samples
}

func TestTensorIsWhatPILAndTorchvisionMakeBitByBit(t *testing.T) {
	for _, size := range []string{"32x32", "61x48", "47x90", "150x101", "1x1", "1x40", "40x2"} {
		p := mustDecode(t, "testdata/pil-"+size+".png")
		for _, tt := range []struct {
			crop float64
			name string
			r    int
		}{{0, "none", 24}, {0, "none", 33}, {0.875, "0.875", 32}, {0.875, "0.875", 25}} {
			file := fmt.Sprintf("testdata/pil-%s-%s-%d.png", size, tt.name, tt.r)
			want := mustPixels(t, file)
			got := make([]float32, len(want))
			mustScaler(t, cropped(tt.crop)).Tensor(got, p, tt.r)
			for i := range want {
				if v := float32(want[i]) / 255; got[i] != v {
					t.Errorf("%s: value %d: got %v, want %v", file, i, got[i]*255, want[i])
					break
				}
			}
		}
	}
}

func TestPictureOfTheRightSizeIsNotResized(t *testing.T) {
	want := mustPixels(t, "testdata/pil-32x32.png")
	got := make([]float32, len(want))
	pre := plain
	pre.Mean, pre.Std = [3]float32{0.1, 0.2, 0.3}, [3]float32{0.5, 0.25, 2}
	s := mustScaler(t, pre)
	s.Tensor(got, mustDecode(t, "testdata/pil-32x32.png"), 32)
	for i, v := range want {
		c := i / (32 * 32)
		if w := (float32(v)/255 - pre.Mean[c]) / pre.Std[c]; got[i] != w {
			t.Fatalf("value %d of channel %d: got %v, want %v", i, c, got[i], w)
		}
	}
}

// Without antialiasing each value lies between the four nearest pixels
// (align_corners=False of PyTorch), whatever the scale.
func TestWithoutAntialiasingFourPixelsCount(t *testing.T) {
	p := mustDecode(t, "testdata/pil-150x101.png")
	pre := plain
	pre.Antialias = false
	const r = 24
	got := make([]float32, 3*r*r)
	mustScaler(t, pre).Tensor(got, p, r)
	sample := func(x, y, c int) float64 {
		px := make([]byte, 3)
		p.row(px, min(max(x, 0), 100)+24, min(max(y, 0), 100)) // 24 = round((150-101)/2), to even
		return float64(px[c])
	}
	for i := range got {
		c, y, x := i/(r*r), i/r%r, i%r
		fx, fy := (float64(x)+0.5)*101/r-0.5, (float64(y)+0.5)*101/r-0.5
		x0, y0 := math.Floor(fx), math.Floor(fy)
		dx, dy := fx-x0, fy-y0
		at := func(i, j int) float64 { return sample(int(x0)+i, int(y0)+j, c) }
		want := (1-dy)*((1-dx)*at(0, 0)+dx*at(1, 0)) + dy*((1-dx)*at(0, 1)+dx*at(1, 1))
		if math.Abs(float64(got[i])*255-want) > 1.01 {
			t.Fatalf("channel %d, line %d, column %d: got %v, want %v", c, y, x, got[i]*255, want)
		}
	}
}

func TestOneScalerServesPicturesAndResolutionsInTurn(t *testing.T) {
	shared := mustScaler(t, plain)
	for range 2 {
		for _, size := range []string{"150x101", "32x32", "1x40", "47x90"} {
			p := mustDecode(t, "testdata/pil-"+size+".png")
			for _, r := range []int{24, 224, 1, 32} {
				got, want := make([]float32, 3*r*r), make([]float32, 3*r*r)
				shared.Tensor(got, p, r)
				mustScaler(t, plain).Tensor(want, p, r)
				for i := range want {
					if got[i] != want[i] {
						t.Fatalf("%s at %d: got %v, want %v", size, r, got[i], want[i])
					}
				}
			}
		}
	}
}

func TestTensorDoesNotAllocateOnceItKnowsTheSizes(t *testing.T) {
	s := mustScaler(t, plain)
	p := mustDecode(t, "testdata/pil-150x101.png")
	dst := make([]float32, 3*48*48)
	n := testing.AllocsPerRun(20, func() {
		s.Tensor(dst, p, 32)
		s.Tensor(dst, p, 48)
	})
	if n != 0 {
		t.Errorf("got %v allocations, want 0", n)
	}
}

func TestPreprocessingThatCannotWorkIsRefused(t *testing.T) {
	for _, tt := range []struct {
		spoil func(p *family.Preprocess)
		want  string
	}{
		{func(p *family.Preprocess) { p.Std[1] = 0 }, "std [1 0 1]"},
		{func(p *family.Preprocess) { p.Std[2] = float32(math.NaN()) }, "std [1 1 NaN]"},
		{func(p *family.Preprocess) { p.Crop = "87.5" }, `crop "87.5"`},
		{func(p *family.Preprocess) { p.Crop = "NaN" }, `crop "NaN"`},
		{func(p *family.Preprocess) { p.Crop = "" }, `crop ""`},
		{func(p *family.Preprocess) { p.Resize = "nearest" }, `resize "nearest"`},
	} {
		pre := plain
		tt.spoil(&pre)
		_, err := NewScaler(pre)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: got %v, want ...%s...", pre, err, tt.want)
		}
	}
}

func BenchmarkTensor(b *testing.B) {
	for _, bb := range []struct {
		file string
		r    int
	}{{"pil-32x32.png", 32}, {"pil-150x101.png", 64}, {"pil-420.jpg", 48}} {
		b.Run(bb.file, func(b *testing.B) {
			p := mustDecode(b, "testdata/"+bb.file)
			s := mustScaler(b, plain)
			dst := make([]float32, 3*bb.r*bb.r)
			b.ReportAllocs()
			for b.Loop() {
				s.Tensor(dst, p, bb.r)
			}
		})
	}
}
