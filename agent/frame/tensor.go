package frame

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/limber-edge/limber/family"
)

// Scaler makes tensors, of pictures as they became tensors when a supernet was
// trained. Where a crop keeps the part c of the shorter side, that becomes
// ceil(r/c), of which the centre r x r is taken; without one the centre square is
// resized to r x r. A Scaler keeps buffers between calls, so each goroutine needs
// its own; any may call Scale.
type Scaler struct {
	pre    family.Preprocess
	crop   float64         // part of the shorter side that is kept; 0 is no crop
	level  [3][256]float32 // tensor value of a sample, by channel
	across weights
	down   weights
	line   []byte  // a line of the picture, RGB
	narrow []byte  // lines resized across, r RGB pixels each
	sum    []int32 // a line being resized down
	planes planes
}

// NewScaler makes a Scaler. The error is that of p's Check.
func NewScaler(p family.Preprocess) (*Scaler, error) {
	if err := p.Check(); err != nil {
		return nil, fmt.Errorf("preprocessing: %w", err)
	}
	crop, err := p.CropFraction()
	if err != nil {
		return nil, fmt.Errorf("preprocessing: %w", err)
	}
	s := &Scaler{pre: p, crop: crop}
	for c := range s.level {
		for v := range s.level[c] {
			s.level[c][v] = (float32(v)/255 - p.Mean[c]) / p.Std[c]
		}
	}
	return s, nil
}

// Scale is by how much a frame may be shrunk while it is decoded, 1, 2, 4 or 8,
// for tensors of up to r pixels a side: the shorter side keeps at least seven
// times the pixels that it is then resized to. Four times leaves 99 of 100 answers
// of the stock family as they are; but logits of members as large as ImageNet's
// then move by 0.09 of their spread, where another full decoder moves them by
// 0.03, and from seven times on by less than twice that and 0.02.
func (s *Scaler) Scale(h Header, r int) int {
	const enough = 7
	short, scale := min(h.Width, h.Height), 8
	if h.Codec != JPEG {
		return 1
	}
	for scale > 1 && short < enough*scale*s.short(r) {
		scale /= 2
	}
	return scale
}

// short is what the shorter side of a picture is resized to for tensors of r
// pixels a side.
func (s *Scaler) short(r int) int {
	if s.crop == 0 {
		return r
	}
	return int(math.Ceil(float64(r) / s.crop))
}

// Tensor fills dst, 3*r*r values, with the picture as 3×r×r: all of red, then
// green, then blue. It does not allocate once it has met a picture of this
// size.
func (s *Scaler) Tensor(dst []float32, p *Picture, r int) {
	x, y := s.axes(p.Width, p.Height, r)
	s.fill(dst[:3*r*r], p, x, y)
}

// fill makes a tensor of the part of the upright picture that two axes lay out.
func (s *Scaler) fill(dst []float32, p *Picture, x, y axis) {
	x, y = p.stored(x, y)
	if m, ok := p.shrunk(); ok {
		s.shrunk(dst, m, x, y, p.turn)
		return
	}
	if !x.plain() || !y.plain() {
		s.resize(dst, p, x, y)
		return
	}
	r := x.want
	line := grow(&s.line, 3*r)
	for row := range r {
		p.row(line, x.from, y.from+row)
		s.store(dst, line, row, r, p.turn)
	}
}

// resize goes across first and then down, as PIL does: the samples between are
// rounded to 8 bits.
func (s *Scaler) resize(dst []float32, p *Picture, x, y axis) {
	s.across.set(x, s.pre.Antialias)
	s.down.set(y, s.pre.Antialias)
	left, right := s.across.reach()
	top, bottom := s.down.reach()
	across, _ := x.samples()
	down, _ := y.samples()
	wide, r := 3*(right-left), x.want
	narrow, line := grow(&s.narrow, 3*r*(bottom-top)), grow(&s.line, max(wide, 3*r))
	for row := top; row < bottom; row++ {
		p.row(line[:wide], across+left, down+row)
		s.across.across(narrow[3*r*(row-top):][:3*r], line, left)
	}
	sum := grow(&s.sum, 3*r)
	for row := range r {
		s.down.downwards(line, sum, narrow, row, top)
		s.store(dst, line, row, r, p.turn)
	}
}

// store writes a line of RGB, as stored, to where it belongs in the three planes of
// the upright tensor.
func (s *Scaler) store(dst []float32, line []byte, row, r, turn int) {
	if turn > 1 {
		s.storeTurned(dst, line, row, r, turn)
		return
	}
	red := dst[row*r:][:r]
	green := dst[(r+row)*r:][:r]
	blue := dst[(2*r+row)*r:][:r]
	for i := range red {
		px := line[3*i : 3*i+3 : 3*i+3]
		red[i] = s.level[0][px[0]]
		green[i] = s.level[1][px[1]]
		blue[i] = s.level[2][px[2]]
	}
}

func (s *Scaler) storeTurned(dst []float32, line []byte, row, r, turn int) {
	swapped, mirrored, upended := turned(turn)
	if upended {
		row = r - 1 - row
	}
	at, step := row*r, 1
	if swapped {
		at, step = row, r
	}
	if mirrored {
		at, step = at+(r-1)*step, -step
	}
	for i := range r {
		for c := range 3 {
			dst[c*r*r+at] = s.level[c][line[3*i+c]]
		}
		at += step
	}
}

// grow is buf with n elements, whose values are left over.
func grow[T any](buf *[]T, n int) []T {
	if cap(*buf) < n {
		*buf = make([]T, n)
	}
	return (*buf)[:n]
}

// axis is one direction of a resize: size pixels from the pixel from become
// scaled pixels, of which want are wanted, beginning with the pixel skip. It is
// laid out in pixels at full scale; the picture may have fewer samples.
type axis struct {
	from, size, scaled, skip, want int
	per, most                      int // pixels a sample, and samples of the picture
}

// plain tells whether every wanted pixel is a pixel of the picture.
func (a axis) plain() bool {
	return a.per == 1 && a.size == a.scaled && a.skip == 0 && a.want == a.size
}

// samples is the range of samples, the last excluded, whose centres lie in the
// axis: at least one.
func (a axis) samples() (first, last int) {
	first = min((2*a.from+a.per-1)/(2*a.per), a.most-1)
	last = min((2*(a.from+a.size)+a.per-1)/(2*a.per), a.most)
	return first, max(last, first+1)
}

// reversed is the axis from the other end of a picture of so many pixels.
func (a axis) reversed(pixels int) axis {
	a.from, a.skip = pixels-a.from-a.size, a.scaled-a.skip-a.want
	return a
}

// axes lays out the way from w x h to r x r, with the roundings of
// torchvision.
func (s *Scaler) axes(w, h, r int) (x, y axis) {
	if s.crop == 0 {
		side := min(w, h)
		x = axis{from: half(w - side), size: side, scaled: r, want: r}
		y = axis{from: half(h - side), size: side, scaled: r, want: r}
		return x, y
	}
	short := s.short(r)
	x = axis{size: w, scaled: short, want: r}
	y = axis{size: h, scaled: short, want: r}
	if w <= h {
		y.scaled = int(float64(short*h) / float64(w))
	} else {
		x.scaled = int(float64(short*w) / float64(h))
	}
	x.skip, y.skip = half(x.scaled-r), half(y.scaled-r)
	return x, y
}

// half is n/2, rounded to even as Python's round does.
func half(n int) int { return int(math.RoundToEven(float64(n) / 2)) }

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
	for line := range slices.Chunk(dst, r) {
		slices.Reverse(line)
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
