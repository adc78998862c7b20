package main

import (
	"bytes"
	"image"
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
	body, err := cameraFrame(small, vgaCamera())
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
