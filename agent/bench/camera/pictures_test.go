package camera

import (
	"bytes"
	"image"
	"image/color"
	"image/jpeg"
	"math"
	"testing"
)

func TestCamerasSendTheTestImagesAsJPEGsOfTheirSize(t *testing.T) {
	pngs, _, err := Images(2)
	if err != nil {
		t.Fatal(err)
	}
	for size, pngs := range map[Size][][]byte{VGA(): pngs, HD(): pngs[:1]} {
		frames, err := Frames(pngs, size)
		if err != nil || len(frames) != len(pngs) || bytes.Equal(frames[0], frames[len(frames)-1]) != (len(pngs) == 1) {
			t.Fatalf("%s: got %d frames, %v; want a frame of its own of each image", size.Name, len(frames), err)
		}
		for _, f := range frames {
			config, err := jpeg.DecodeConfig(bytes.NewReader(f))
			if err != nil || config.Width != size.Width || config.Height != size.Side ||
				config.ColorModel != color.YCbCrModel {
				t.Errorf("%s: got %+v, %v; want a JPEG in colour of %d x %d", size.Name, config, err, size.Width,
					size.Side)
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
