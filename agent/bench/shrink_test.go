package bench

import (
	"bytes"
	"image"
	"math"
	"sync"
	"testing"

	"github.com/limber-edge/limber/agent/bench/camera"
	"github.com/limber-edge/limber/agent/frame"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ort/orttest"
	"github.com/limber-edge/limber/family/search"
	"github.com/limber-edge/limber/family/stock"
	"github.com/limber-edge/limber/family/workshop"
)

// Of 1,000 answers that are the same but for 10 the top-1 moves by half a point by
// chance; the mean of the members is what shrinking does. Over all 10,000 test
// images no member moved by more than 0.11 points, and 99.3 % of the answers of
// each were the same.
func TestFramesShrunkWhileDecodedGetTheAnswersOfWholeOnes(t *testing.T) {
	sheet, err := stock.Sheet(frame.OpenSheet)
	if err != nil {
		t.Fatal(err)
	}
	fam, err := stock.Family()
	if err != nil {
		t.Fatal(err)
	}
	scatter := math.Sqrt(1000.0 / filmed) // of a mean over so many
	whole, shrunk := mustFilm(t, sheet, fam, filmed)
	t.Setenv("ONNXRUNTIME_LIB", orttest.Path(t))
	e, err := workshop.Shop{}.NewEvaluator(fam)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	var moved, same float64 // means
	for i, m := range fam.Members {
		want, err := e.Guesses(t.Context(), i, whole)
		if err != nil {
			t.Fatal(err)
		}
		got, err := e.Guesses(t.Context(), i, shrunk)
		if err != nil {
			t.Fatal(err)
		}
		points, percent := 100*(search.ScoreOf(got).Top1-search.ScoreOf(want).Top1), 100*search.Agreement(got, want)
		moved, same = moved+points/float64(len(fam.Members)), same+percent/float64(len(fam.Members))
		t.Logf("%s: top-1 moved by %.2f points, %.2f %% the same", m.Name, points, percent)
		if math.Abs(points) > 0.6*scatter || percent < sameLeast {
			t.Errorf("%s: top-1 moved by %.2f points, and %.1f %% of the answers are the same", m.Name, points, percent)
		}
	}
	if math.Abs(moved) > 0.2*scatter || same < 99 {
		t.Errorf("all members: top-1 moved by %.2f points, and %.2f %% of the answers are the same", moved, same)
	}
}

// film is frames as they came out of the decoder, prepared for each resolution.
type film struct {
	sheet   *frame.Sheet
	tensors []map[int][]float32 // by image and resolution
}

func (f film) Len() int        { return len(f.tensors) }
func (f film) Label(i int) int { return f.sheet.Label(i) }

func (f film) Tensor(dst []float32, i, r int) error {
	copy(dst, f.tensors[i][r])
	return nil
}

// mustFilm makes a camera's frame of each of the first n pictures and decodes it at
// full scale and as shrunk as it may be.
func mustFilm(t *testing.T, sheet *frame.Sheet, fam *family.Folder, n int) (whole, shrunk film) {
	t.Helper()
	how, err := fam.Preprocessing()
	if err != nil {
		t.Fatal(err)
	}
	whole = film{sheet, make([]map[int][]float32, n)}
	shrunk = film{sheet, make([]map[int][]float32, n)}
	var g sync.WaitGroup
	const workers = 2
	for first := range workers {
		g.Go(func() {
			s, err := frame.NewScaler(how)
			if err != nil {
				t.Error(err)
				return
			}
			for i := first; i < n; i += workers {
				if whole.tensors[i], shrunk.tensors[i], err = develop(sheet, i, s, fam.Members); err != nil {
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
func develop(sheet *frame.Sheet, i int, s *frame.Scaler, members []family.Member) (whole, shrunk map[int][]float32, err error) {
	b, err := sheet.PNG(i)
	if err != nil {
		return nil, nil, err
	}
	small, _, err := image.Decode(bytes.NewReader(b))
	if err != nil {
		return nil, nil, err
	}
	body, err := camera.Frame(small, camera.VGA())
	if err != nil {
		return nil, nil, err
	}
	if whole, err = tensors(body, s, members, func(frame.Header, int) int { return 1 }); err != nil {
		return nil, nil, err
	}
	shrunk, err = tensors(body, s, members, s.Scale)
	return whole, shrunk, err
}

// tensors are those of a frame, shrunk as scale says, for each resolution.
func tensors(body []byte, s *frame.Scaler, members []family.Member, scale func(h frame.Header, r int) int) (map[int][]float32, error) {
	decoder, p := frame.Decoder{MaxPixels: frame.DefaultPixels}, new(frame.Picture)
	h, err := decoder.Inspect(body, frame.Claim{})
	if err != nil {
		return nil, err
	}
	all := map[int][]float32{}
	for _, m := range members {
		if r := m.Arch.R; all[r] == nil {
			if err := decoder.Decode(p, body, h, scale(h, r)); err != nil {
				return nil, err
			}
			all[r] = make([]float32, 3*r*r)
			s.Tensor(all[r], p, r)
		}
	}
	return all, nil
}
