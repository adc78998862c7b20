// Package camera makes what cameras send: the test images, enlarged as PIL would
// and padded to the size of a camera's frame, in JPEG.
//
//	test image (32×32 PNG) ──Lanczos──▶ square ──edges repeated──▶ frame ──▶ JPEG
//
// The one rule: the same images give the same bytes, so that figures of different
// runs and machines are of the same frames.
package camera

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/jpeg"
	"image/png"
	"math"

	"github.com/limber-edge/limber/agent/frame"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family/stock"
)

// Size is how a camera of a benchmark sees a test image: enlarged to a
// square of side pixels, and padded by its edges to width pixels a row.
type Size struct {
	Name        string
	Width, Side int // pixels
}

// VGA is 640x480 pixels.
func VGA() Size { return Size{"vga", 640, 480} }

// HD is 1920x1080 pixels.
func HD() Size { return Size{"hd", 1920, 1080} }

// Quality is that of the cameras' JPEGs.
const Quality = 85

// Images are the first n test images, as they are, and their classes.
func Images(n int) (pngs [][]byte, labels []int, err error) {
	sheet, err := stock.Sheet(frame.OpenSheet)
	if err != nil {
		return nil, nil, err
	}
	for i := range n {
		b, err := sheet.PNG(i)
		if err != nil {
			return nil, nil, err
		}
		pngs, labels = append(pngs, b), append(labels, sheet.Label(i))
	}
	return pngs, labels, nil
}

// Frames are test images as a camera would send them, in JPEG.
func Frames(pngs [][]byte, size Size) (frames [][]byte, err error) {
	for i, b := range pngs {
		img, err := png.Decode(bytes.NewReader(b))
		if err != nil {
			return nil, fmt.Errorf("test image %d: %w", i, err)
		}
		shot, err := Frame(img, size)
		if err != nil {
			return nil, fmt.Errorf("test image %d as %s: %w", i, size.Name, err)
		}
		frames = append(frames, shot)
	}
	return frames, nil
}

// Jobs are frames as a client sends them.
func Jobs(frames [][]byte, h wire.Header) (jobs [][]byte, err error) {
	for _, f := range frames {
		job, err := wire.JoinJob(h, f)
		if err != nil {
			return nil, err
		}
		jobs = append(jobs, job)
	}
	return jobs, nil
}

// Frame is a square picture as a camera would send it, in JPEG.
func Frame(img image.Image, size Size) ([]byte, error) {
	var out bytes.Buffer
	err := jpeg.Encode(&out, padded(enlarged(img, size.Side), size.Width), &jpeg.Options{Quality: Quality})
	return out.Bytes(), err
}

// padded is a square picture in the middle of one that is width pixels wide; what
// is beside it repeats its edges.
func padded(square *image.RGBA, width int) *image.RGBA {
	side := square.Bounds().Dx()
	left := (width - side) / 2
	out := image.NewRGBA(image.Rect(0, 0, width, side))
	draw.Draw(out, image.Rect(left, 0, left+side, side), square, image.Point{}, draw.Src)
	for y := range side {
		for x := range left {
			out.SetRGBA(x, y, square.RGBAAt(0, y))
		}
		for x := left + side; x < width; x++ {
			out.SetRGBA(x, y, square.RGBAAt(side-1, y))
		}
	}
	return out
}

// enlarged is a square picture with sides of side pixels, first resized along its
// rows and then along its columns.
func enlarged(img image.Image, side int) *image.RGBA {
	n := img.Bounds().Dx()
	taps := lanczosTaps(n, side)
	wide := make([][3]float64, n*side)
	for y := range n {
		for x, t := range taps {
			for i, w := range t.weights {
				r, g, b, _ := img.At(t.first+i, y).RGBA()
				add(&wide[y*side+x], [3]float64{float64(r >> 8), float64(g >> 8), float64(b >> 8)}, w)
			}
		}
	}
	out := image.NewRGBA(image.Rect(0, 0, side, side))
	for y, t := range taps {
		for x := range side {
			var sum [3]float64
			for i, w := range t.weights {
				add(&sum, wide[(t.first+i)*side+x], w)
			}
			out.SetRGBA(x, y, color.RGBA{sample(sum[0]), sample(sum[1]), sample(sum[2]), 255})
		}
	}
	return out
}

func add(sum *[3]float64, v [3]float64, weight float64) {
	for c := range sum {
		sum[c] += weight * v[c]
	}
}

func sample(v float64) uint8 { return uint8(math.Round(min(max(v, 0), 255))) }

// tap is the pixels that make one pixel of a larger picture.
type tap struct {
	first   int // pixel that the first weight is of
	weights []float64
}

// lanczosLobes are those of the kernel on each side, as PIL has them.
const lanczosLobes = 3

// lanczosTaps are those of n pixels that become more.
func lanczosTaps(n, more int) []tap {
	taps := make([]tap, more)
	for i := range taps {
		at := (float64(i)+0.5)*float64(n)/float64(more) - 0.5
		first := max(int(math.Ceil(at-lanczosLobes)), 0)
		last := min(int(math.Floor(at+lanczosLobes)), n-1)
		t, sum := tap{first: first}, 0.0
		for j := first; j <= last; j++ {
			w := lanczos(float64(j) - at)
			t.weights, sum = append(t.weights, w), sum+w
		}
		for j := range t.weights {
			t.weights[j] /= sum
		}
		taps[i] = t
	}
	return taps
}

// lanczos is the kernel at a distance in pixels.
func lanczos(x float64) float64 {
	if x == 0 {
		return 1
	}
	if math.Abs(x) >= lanczosLobes {
		return 0
	}
	x *= math.Pi
	return lanczosLobes * math.Sin(x) * math.Sin(x/lanczosLobes) / (x * x)
}
