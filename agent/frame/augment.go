package frame

import (
	"math"
	"math/rand/v2"
)

// How the Once-for-All code trains, and computes BN statistics, on ImageNet.
const (
	leastArea  = 0.08 // of the picture that a crop shows
	mostAspect = 4.0 / 3
	brightness = 32.0 / 255
	saturation = 0.5
	cropTries  = 10
)

// Augmented fills dst as Tensor does, with a random crop of the picture, of any
// size and nearly any shape, resized to r×r, half of them mirrored, in other
// colours: RandomResizedCrop, RandomHorizontalFlip and ColorJitter of
// torchvision. The same rng state gives the same tensor.
func (s *Scaler) Augmented(dst []float32, p *Picture, r int, rng *rand.Rand) {
	x, y := randomCrop(p.Width, p.Height, r, rng)
	s.fill(dst[:3*r*r], p, x, y)
	if rng.IntN(2) == 0 {
		mirror(dst[:3*r*r], r)
	}
	s.jitter(dst[:3*r*r], 1+brightness*(2*rng.Float64()-1), 1+saturation*(2*rng.Float64()-1))
}

// randomCrop draws area and aspect until the crop fits; the centre of a picture
// that is too narrow for that.
func randomCrop(w, h, r int, rng *rand.Rand) (x, y axis) {
	for range cropTries {
		area := float64(w*h) * (leastArea + (1-leastArea)*rng.Float64())
		aspect := math.Exp(math.Log(mostAspect) * (2*rng.Float64() - 1))
		cw, ch := int(math.RoundToEven(math.Sqrt(area*aspect))), int(math.RoundToEven(math.Sqrt(area/aspect)))
		if cw > 0 && cw <= w && ch > 0 && ch <= h {
			return axis{from: rng.IntN(w - cw + 1), size: cw, scaled: r, want: r}, axis{from: rng.IntN(h - ch + 1), size: ch,
				scaled: r, want: r}
		}
	}
	cw, ch := min(w, int(math.RoundToEven(float64(h)*mostAspect))), min(h, int(math.RoundToEven(float64(w)*mostAspect)))
	return axis{from: (w - cw) / 2, size: cw, scaled: r, want: r}, axis{from: (h - ch) / 2, size: ch, scaled: r, want: r}
}

func mirror(dst []float32, r int) {
	for row := 0; row < len(dst); row += r {
		for a, b := row, row+r-1; a < b; a, b = a+1, b-1 {
			dst[a], dst[b] = dst[b], dst[a]
		}
	}
}

// jitter multiplies brightness, then moves colours away from or towards grey.
func (s *Scaler) jitter(dst []float32, bright, colour float64) {
	n := len(dst) / 3
	for i := range n {
		var rgb [3]float64 // fractions
		for c := range rgb {
			v := float64(dst[c*n+i]*s.pre.Std[c] + s.pre.Mean[c])
			rgb[c] = min(max(v*bright, 0), 1)
		}
		grey := 0.299*rgb[0] + 0.587*rgb[1] + 0.114*rgb[2] // ITU-R BT.601
		for c := range rgb {
			v := min(max(grey+colour*(rgb[c]-grey), 0), 1)
			dst[c*n+i] = (float32(v) - s.pre.Mean[c]) / s.pre.Std[c]
		}
	}
}
