package main

import (
	"bytes"
	"image"
	"image/color"
	"image/jpeg"
	"math"
	"sync"
	"testing"

	"github.com/limber-edge/limber/agent"
	"github.com/limber-edge/limber/agent/frame"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/ort/orttest"
	"github.com/limber-edge/limber/family/resident"
	"github.com/limber-edge/limber/family/search"
	"github.com/limber-edge/limber/family/stock"
)

// Top-1 may move by 0.2 points, and 99 of 100 answers must stay.
func TestFramesShrunkWhileDecodedGetTheAnswersOfWholeOnes(t *testing.T) {
	sheet, err := stock.Sheet(frame.OpenSheet)
	if err != nil {
		t.Fatal(err)
	}
	fam, err := stock.Family()
	if err != nil {
		t.Fatal(err)
	}
	whole, shrunk := mustFilm(t, sheet, fam)
	rt := orttest.Open(t)
	shelf := resident.New(rt, &fam.Family, fam, t.TempDir(), ort.DefaultOptions(), nil)
	full := evaluator{fam: fam, set: whole, load: loader(rt, 1), shelf: shelf}
	small := evaluator{fam: fam, set: shrunk, load: loader(rt, 1), shelf: shelf}
	for i, m := range fam.Members {
		want, err := full.guesses(t.Context(), i)
		if err != nil {
			t.Fatal(err)
		}
		got, err := small.guesses(t.Context(), i)
		if err != nil {
			t.Fatal(err)
		}
		moved := 100 * (search.ScoreOf(got).Top1 - search.ScoreOf(want).Top1)
		same := 100 * search.Agreement(got, want)
		t.Logf("%s: top-1 %.2f %%, moved by %.2f points, %.2f %% the same", m.Name, 100*search.ScoreOf(want).Top1, moved, same)
		if math.Abs(moved) > 0.2 || same < 99 {
			t.Errorf("%s: top-1 moved by %.2f points, and %.1f %% of the answers are the same", m.Name, moved, same)
		}
	}
}

// film is frames as they came out of the decoder, prepared for each resolution.
type film struct {
	*frame.Sheet
	tensors []map[int][]float32 // by image and resolution
}

func (f film) Tensor(dst []float32, i, r int) error {
	copy(dst, f.tensors[i][r])
	return nil
}

// mustFilm makes a camera's frame of each picture and decodes it at full scale and
// as shrunk as it may be.
func mustFilm(t *testing.T, sheet *frame.Sheet, fam *family.Folder) (whole, shrunk film) {
	t.Helper()
	how, err := fam.Preprocessing()
	if err != nil {
		t.Fatal(err)
	}
	pre, err := agent.Preprocess(how)
	if err != nil {
		t.Fatal(err)
	}
	whole = film{sheet, make([]map[int][]float32, sheet.Len())}
	shrunk = film{sheet, make([]map[int][]float32, sheet.Len())}
	var g sync.WaitGroup
	const workers = 2
	for first := range workers {
		g.Go(func() {
			s, err := frame.NewScaler(pre)
			if err != nil {
				t.Error(err)
				return
			}
			for i := first; i < sheet.Len(); i += workers {
				if whole.tensors[i], shrunk.tensors[i], err = develop(sheet, i, s, pre, fam.Members); err != nil {
					t.Errorf("image %d: %v", i, err)
				}
			}
		})
	}
	g.Wait()
	return whole, shrunk
}

// develop are the tensors of one picture, of the whole frame and of the shrunk one,
// for each resolution of the members.
func develop(sheet *frame.Sheet, i int, s *frame.Scaler, pre frame.Preprocess, members []family.Member) (whole, shrunk map[int][]float32, err error) {
	b, err := sheet.PNG(i)
	if err != nil {
		return nil, nil, err
	}
	small, _, err := image.Decode(bytes.NewReader(b))
	if err != nil {
		return nil, nil, err
	}
	body, err := vgaFrame(small)
	if err != nil {
		return nil, nil, err
	}
	decoder, p := frame.Decoder{MaxPixels: frame.DefaultPixels}, new(frame.Picture)
	h, err := decoder.Inspect(body, frame.Claim{})
	if err != nil {
		return nil, nil, err
	}
	at := func(scale func(r int) int) (map[int][]float32, error) {
		tensors := map[int][]float32{}
		for _, m := range members {
			if r := m.Arch.R; tensors[r] == nil {
				if err := decoder.Decode(p, body, h, scale(r)); err != nil {
					return nil, err
				}
				tensors[r] = make([]float32, 3*r*r)
				s.Tensor(tensors[r], p, r)
			}
		}
		return tensors, nil
	}
	if whole, err = at(func(int) int { return 1 }); err != nil {
		return nil, nil, err
	}
	shrunk, err = at(func(r int) int { return pre.Scale(h, r) })
	return whole, shrunk, err
}

// vgaFrame is a picture as a camera of 640 x 480 pixels sends it: resized to 480 x
// 480 with Lanczos, its edges drawn out to the sides, a JPEG of quality 85.
func vgaFrame(small image.Image) ([]byte, error) {
	const w, h = 640, 480
	side := small.Bounds().Dx()
	rows := make([][3][]float64, side) // resized across
	kernel := lanczos(side, h)
	for y := range rows {
		for c := range 3 {
			line := make([]float64, side)
			for x := range line {
				line[x] = float64(channel(small.At(x, y), c))
			}
			rows[y][c] = make([]float64, h)
			for x := range h {
				rows[y][c][x] = kernel[x].of(func(i int) float64 { return line[i] })
			}
		}
	}
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range h {
			var px [3]uint8
			for c := range px {
				px[c] = uint8(min(max(math.Round(kernel[y].of(func(i int) float64 { return rows[i][c][x] })), 0), 255))
			}
			img.SetRGBA(x+(w-h)/2, y, color.RGBA{px[0], px[1], px[2], 255})
		}
		pad(img, y, (w-h)/2)
	}
	var b bytes.Buffer
	err := jpeg.Encode(&b, img, &jpeg.Options{Quality: 85})
	return b.Bytes(), err
}

func channel(c color.Color, i int) uint8 {
	r, g, b, _ := c.RGBA()
	return uint8([3]uint32{r, g, b}[i] >> 8)
}

// pad draws the edges of a line out to both sides.
func pad(img *image.RGBA, y, n int) {
	line := img.Pix[y*img.Stride:][:img.Stride]
	for x := range n {
		copy(line[4*x:], line[4*n:4*n+4])
		copy(line[len(line)-4*(x+1):], line[len(line)-4*(n+1):][:4])
	}
}

// taps are the samples that one of a resized axis is made of.
type taps struct {
	first   int
	weights []float64 // sum to 1
}

func (t taps) of(sample func(int) float64) (sum float64) {
	for i, w := range t.weights {
		sum += w * sample(t.first+i)
	}
	return sum
}

// lanczos enlarges an axis with the kernel of three lobes.
func lanczos(from, to int) []taps {
	all := make([]taps, to)
	for x := range all {
		centre := (float64(x) + 0.5) * float64(from) / float64(to)
		first, last := max(0, int(centre-2.5)), min(from, int(centre+3.5))
		w, sum := make([]float64, last-first), 0.0
		for i := range w {
			w[i] = lobes(float64(first+i) + 0.5 - centre)
			sum += w[i]
		}
		for i := range w {
			w[i] /= sum
		}
		all[x] = taps{first, w}
	}
	return all
}

func lobes(x float64) float64 {
	if x == 0 {
		return 1
	}
	if math.Abs(x) >= 3 {
		return 0
	}
	x *= math.Pi
	return 3 * math.Sin(x) * math.Sin(x/3) / (x * x)
}
