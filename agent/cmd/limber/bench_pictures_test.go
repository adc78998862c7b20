package main

import (
	"bytes"
	"image"
	"image/color"
	"image/jpeg"
	"math"
	"testing"

	"github.com/limber-edge/limber/family"
)

func TestCamerasSendTheTestImagesAsJPEGsOfTheirSize(t *testing.T) {
	pngs, err := testPNGs(2)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []cameraSize{vgaCamera(), hdCamera()} {
		frames, err := cameraFrames(pngs, size)
		if err != nil || len(frames) != len(pngs) || bytes.Equal(frames[0], frames[1]) {
			t.Fatalf("%s: got %d frames, %v; want a frame of its own of each image", size.name, len(frames), err)
		}
		for _, f := range frames {
			config, err := jpeg.DecodeConfig(bytes.NewReader(f))
			if err != nil || config.Width != size.width || config.Height != size.side || config.ColorModel != color.YCbCrModel {
				t.Errorf("%s: got %+v, %v; want a JPEG in colour of %d x %d", size.name, config, err, size.width, size.side)
			}
		}
	}
}

func TestAnEnlargedPictureHasTheColoursOfTheSmallOne(t *testing.T) {
	small := image.NewNRGBA(image.Rect(0, 0, 8, 8))
	for y := range 8 {
		for x := range 8 {
			small.SetNRGBA(x, y, color.NRGBA{uint8(30 * x), uint8(30 * y), 200, 255})
		}
	}
	large := enlarged(small, 80)
	for y := range 8 {
		for x := range 8 {
			got := large.RGBAAt(10*x+5, 10*y+5) // beside the middle of the small pixel
			for _, d := range []int{int(got.R) - 30*x, int(got.G) - 30*y, int(got.B) - 200} {
				if d < -8 || d > 8 {
					t.Fatalf("pixel %d, %d: got %v, want about {%d %d 200}", x, y, got, 30*x, 30*y)
				}
			}
		}
	}
	for i, tap := range lanczosTaps(8, 80) {
		sum := 0.0
		for _, w := range tap.weights {
			sum += w
		}
		if math.Abs(sum-1) > 1e-12 || tap.first < 0 || tap.first+len(tap.weights) > 8 {
			t.Errorf("pixel %d: got %+v; want weights of pixels 0 to 7 whose sum is 1", i, tap)
		}
	}
}

func TestAPaddedPictureRepeatsItsEdges(t *testing.T) {
	square := image.NewRGBA(image.Rect(0, 0, 4, 4))
	for y := range 4 {
		for x := range 4 {
			square.SetRGBA(x, y, color.RGBA{uint8(10 * x), uint8(10 * y), 0, 255})
		}
	}
	wide := padded(square, 10)
	if got := wide.Bounds(); got != image.Rect(0, 0, 10, 4) {
		t.Fatalf("got %v, want 10 x 4", got)
	}
	for y := range 4 {
		for x := range 10 {
			if got, want := wide.RGBAAt(x, y), square.RGBAAt(min(max(x-3, 0), 3), y); got != want {
				t.Errorf("pixel %d, %d: got %v, want %v", x, y, got, want)
			}
		}
	}
}

// A camera's frame, seen by the eye of the benchmark, is nearly the test image.
func TestTheEyeSeesTheTestImageInACamerasFrame(t *testing.T) {
	pngs, err := testPNGs(1)
	if err != nil {
		t.Fatal(err)
	}
	frames, err := cameraFrames(pngs, vgaCamera())
	if err != nil {
		t.Fatal(err)
	}
	plain, err := newEye(family.Preprocess{Std: [3]float32{1, 1, 1}, Resize: "bilinear", Antialias: true, Crop: "none"}, 32)
	if err != nil {
		t.Fatal(err)
	}
	if err := plain.look(pngs[0]); err != nil {
		t.Fatal(err)
	}
	want := append([]float32(nil), plain.tensor...)
	if err := plain.look(frames[0]); err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for i := range want {
		sum += math.Abs(float64(plain.tensor[i] - want[i]))
	}
	if mean := sum / float64(len(want)); mean > 0.05 {
		t.Errorf("got a mean difference of %.3f of the full range, want at most 0.05", mean)
	}
}

func TestAllocationsAreCountedByTheCall(t *testing.T) {
	var kept [][]byte
	got, err := allocations(50, func() error {
		kept = [][]byte{make([]byte, 100), make([]byte, 100)} // three with the slice itself
		return nil
	})
	if err != nil || got < 3 || got > 4 || len(kept) != 2 {
		t.Errorf("got %v, %v; want 3, or little more where others allocate", got, err)
	}
}
