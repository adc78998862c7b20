package frame_test

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/limber-edge/limber/agent/frame"
	"github.com/limber-edge/limber/family"
)

// mustRamp is a picture that grows redder to the right and greener downwards.
func mustRamp(t *testing.T, w, h int) *frame.Picture {
	t.Helper()
	img := image.NewNRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			img.Set(x, y, color.NRGBA{R: uint8(50 + 150*x/w), G: uint8(50 + 150*y/h), B: 100, A: 255})
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	p, err := frame.Decoder{MaxPixels: frame.DefaultPixels}.Read(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestAugmentedShowsPartOfThePicture(t *testing.T) {
	s, err := frame.NewScaler(family.Preprocess{
		Mean: [3]float32{0.5, 0.5, 0.5}, Std: [3]float32{0.25, 0.25, 0.25}, Resize: "bilinear", Crop: "none"})
	if err != nil {
		t.Fatal(err)
	}
	const r = 24
	for _, size := range [][2]int{{60, 40}, {32, 32}, {200, 10}, {1, 1}} {
		p := mustRamp(t, size[0], size[1])
		mirrored, crops := 0, map[float32]bool{}
		for seed := range uint64(200) {
			dst := make([]float32, 3*r*r)
			s.Augmented(dst, p, r, rand.New(rand.NewPCG(seed, 0)))
			again := make([]float32, 3*r*r)
			s.Augmented(again, p, r, rand.New(rand.NewPCG(seed, 0)))
			if !slices.Equal(dst, again) {
				t.Fatalf("%v, seed %d: the same seed gave another tensor", size, seed)
			}
			if lo, hi := slices.Min(dst), slices.Max(dst); !(lo >= -2 && hi <= 2) {
				t.Fatalf("%v, seed %d: got values from %v to %v, want those of fractions", size, seed, lo, hi)
			}
			if dst[0] > dst[r-1] { // red grows to the right, but in a mirror
				mirrored++
			}
			crops[dst[0]] = true
		}
		if size[0] > 30 && (mirrored < 60 || mirrored > 140 || len(crops) < 100) {
			t.Errorf("%v: got %d of 200 mirrored and %d crops, want about half, and many", size, mirrored, len(crops))
		}
	}
}
