package frame

import (
	"encoding/binary"
	"image"
	"math"
)

// precision is the number of fractional bits of a weight: a sample of 8 bits
// and a sign leave 22 of 32, with one to spare.
const precision = 32 - 8 - 2

// weights are the triangle kernel of each wanted pixel of an axis. The
// arithmetic is that of PIL (Resample.c), whose results it repeats exactly:
// the products are kept apart from the sums, lest a processor fuse them.
type weights struct {
	of        axis // the axis and the kernel these were made for
	antialias bool
	taps      int      // room for the weights of one pixel
	first     []int    // first sample of the axis that a wanted pixel reads
	count     []int    // how many it reads
	k         []int32  // fixed point, taps for each wanted pixel
	coarse    []uint64 // the same in units of 1/256
	kernel    []float64
}

// set makes the weights of an axis, unless they are those of the last one.
func (w *weights) set(a axis, antialias bool) {
	if w.of == a && w.antialias == antialias {
		return
	}
	w.of, w.antialias = a, antialias
	scale := float64(a.size) / float64(a.scaled)
	support := float64(a.per) // half the width of the triangle, in pixels
	if antialias {
		support = max(support, narrowed(scale, a.per))
	}
	begin, end := a.samples()
	w.taps = 2*int(math.Ceil(support/float64(a.per))) + 2
	w.first, w.count = grow(&w.first, a.want), grow(&w.count, a.want)
	w.k = grow(&w.k, a.want*w.taps)
	for i := range a.want {
		centre := float64((float64(a.skip+i) + 0.5) * scale)
		lo := max(0, int(centre-support+0.5))
		hi := max(lo+1, min(a.size, int(centre+support+0.5)))
		kernel := grow(&w.kernel, hi-lo)
		triangle(kernel, lo, centre, 1/support)
		w.lump(i, kernel, a, lo, begin, end)
	}
	w.coarsen()
}

// narrowed is half the width of a triangle of half the width scale, less what a
// sample that is the mean of so many pixels does already: variances add up, and those
// are width²/6 of such a triangle and (per²-1)/12 of a box.
func narrowed(scale float64, per int) float64 {
	return math.Sqrt(max(0, scale*scale-float64(per*per-1)/2))
}

// lump makes the weights of a wanted pixel of those of the pixels from lo on, which
// lie in kernel: a sample has the weights of all the pixels that it shows.
func (w *weights) lump(i int, kernel []float64, a axis, lo, begin, end int) {
	sample := func(j int) int { return min(max((a.from+lo+j)/a.per, begin), end-1) - begin }
	first := sample(0)
	w.first[i], w.count[i] = first, sample(len(kernel)-1)-first+1
	k := w.k[i*w.taps:][:w.count[i]]
	sum, j := 0.0, 0
	for n := range k {
		for sum = 0; j < len(kernel) && sample(j) == first+n; j++ {
			sum += kernel[j]
		}
		k[n] = int32(0.5 + float64(sum*(1<<precision)))
	}
}

// coarsen rounds the weights to 8 bits. What is rounded off one goes to the next, so
// that those of a pixel sum to 256 and only fine detail is weighed otherwise.
func (w *weights) coarsen() {
	w.coarse = grow(&w.coarse, len(w.k))
	for i, n := range w.count {
		sum, given := int64(0), int64(0)
		for j, k := range w.k[i*w.taps:][:n] {
			sum += int64(k)
			upTo := (sum + 1<<(precision-9)) >> (precision - 8)
			if j == n-1 {
				upTo = 256
			}
			w.coarse[i*w.taps+j] = uint64(upTo - given)
			given = upTo
		}
	}
}

// triangle fills k with the kernel around centre, from the pixel first on. It
// sums to 1.
func triangle(k []float64, first int, centre, narrow float64) {
	sum := 0.0
	for j := range k {
		k[j] = max(0, 1-math.Abs(float64((float64(first+j)-centre+0.5)*narrow)))
		sum += k[j]
	}
	for j := range k {
		k[j] /= sum
	}
}

// reach is the range of samples of the axis that are read, the last excluded.
func (w *weights) reach() (first, last int) {
	end := w.of.want - 1
	return w.first[0], w.first[end] + w.count[end]
}

// across resizes a line of RGB that begins with the pixel left of the axis.
func (w *weights) across(dst, line []byte, left int) {
	for i := range w.of.want {
		from := 3 * (w.first[i] - left)
		k := w.k[i*w.taps:][:w.count[i]]
		px := line[from:][:3*len(k)]
		r, g, b := int32(1<<(precision-1)), int32(1<<(precision-1)), int32(1<<(precision-1))
		for _, v := range k {
			r += v * int32(px[0])
			g += v * int32(px[1])
			b += v * int32(px[2])
			px = px[3:]
		}
		d := dst[3*i : 3*i+3 : 3*i+3]
		d[0], d[1], d[2] = clip(r), clip(g), clip(b)
	}
}

// downwards makes the line row from lines that begin with the pixel top of the
// axis. sum is as long as a line.
func (w *weights) downwards(dst []byte, sum []int32, lines []byte, row, top int) {
	for i := range sum {
		sum[i] = 1 << (precision - 1)
	}
	for j, k := range w.k[row*w.taps:][:w.count[row]] {
		line := lines[(w.first[row]-top+j)*len(sum):][:len(sum)]
		for i, v := range line {
			sum[i] += k * int32(v)
		}
	}
	for i, v := range sum {
		dst[i] = clip(v)
	}
}

// clip is the sample that a sum in fixed point stands for.
func clip(sum int32) uint8 { return uint8(min(max(sum>>precision, 0), 255)) }

// fraction is the number of fractional bits of samples between one step and the
// next, where PIL rounds RGB to none.
const fraction = 6

// planes makes tensors of shrunk JPEGs. Their planes are resized one by one and
// become RGB afterwards: fewer samples are touched, and what PIL would make of the
// whole picture is met no better in another order. Chroma needs no interpolation,
// for a sample lies where it lies.
type planes struct {
	luma, chroma [2]weights // across and down
	line         []uint16   // resized down, with 8 fractional bits
	small        []int32    // Y, Cb and Cr, r×r each
}

// shrunk tells whether a picture is one for planes.
func (p *Picture) shrunk() (*image.YCbCr, bool) {
	m, ok := p.img.(*image.YCbCr)
	return m, ok && p.scale > 1
}

// resize makes Y, Cb and Cr of r×r samples, along stored lines and columns.
func (s *planes) resize(m *image.YCbCr, x, y axis, antialias bool) []int32 {
	r := x.want
	small := grow(&s.small, 3*r*r)
	s.luma[0].set(x, antialias)
	s.luma[1].set(y, antialias)
	s.plane(small[:r*r], m.Y, m.YStride, &s.luma)
	dx, dy := sharing(m.SubsampleRatio)
	x.per, x.most = x.per*dx, over(x.most, dx)
	y.per, y.most = y.per*dy, over(y.most, dy)
	s.chroma[0].set(x, antialias)
	s.chroma[1].set(y, antialias)
	s.plane(small[r*r:2*r*r], m.Cb, m.CStride, &s.chroma)
	s.plane(small[2*r*r:], m.Cr, m.CStride, &s.chroma)
	return small
}

// sharing is how many columns and lines of luma share a sample of chroma.
func sharing(ratio image.YCbCrSubsampleRatio) (columns, lines int) {
	switch ratio {
	case image.YCbCrSubsampleRatio422:
		return 2, 1
	case image.YCbCrSubsampleRatio420:
		return 2, 2
	case image.YCbCrSubsampleRatio440:
		return 1, 2
	case image.YCbCrSubsampleRatio411:
		return 4, 1
	case image.YCbCrSubsampleRatio410:
		return 4, 2
	}
	return 1, 1
}

// plane resizes one plane: first down, eight samples at once, then across.
func (s *planes) plane(dst []int32, pix []byte, stride int, w *[2]weights) {
	across, down := &w[0], &w[1]
	r := across.of.want
	left, _ := across.of.samples()
	upper, _ := down.of.samples()
	from, to := across.reach()
	line := grow(&s.line, to-from)
	for row := range r {
		top := (upper+down.first[row])*stride + left + from
		down.blend(line, pix[top:], stride, row)
		across.single(dst[r*row:][:r], line, from)
	}
}

// lanes are the bytes of a word that have room for a product of 16 bits each.
const lanes = 0x00ff00ff00ff00ff

// blend makes a line of samples with 8 fractional bits from as many lines of pix as
// the kernel of a row has weights. Eight samples lie in a word, and the products of
// every other one of them do not meet in it: their sum is below 1<<16.
func (w *weights) blend(line []uint16, pix []byte, stride, row int) {
	kernel := w.coarse[row*w.taps:][:w.count[row]]
	if len(line) < 8 {
		w.blendFew(line, pix, stride, kernel)
		return
	}
	for x := 0; x < len(line); x += 8 {
		x = min(x, len(line)-8) // the last ones may be made twice
		var even, odd uint64
		at := x
		for _, k := range kernel {
			v := binary.LittleEndian.Uint64(pix[at:])
			even += (v & lanes) * k
			odd += (v >> 8 & lanes) * k
			at += stride
		}
		out := line[x : x+8 : x+8]
		out[0], out[2], out[4], out[6] = uint16(even), uint16(even>>16), uint16(even>>32), uint16(even>>48)
		out[1], out[3], out[5], out[7] = uint16(odd), uint16(odd>>16), uint16(odd>>32), uint16(odd>>48)
	}
}

// blendFew is blend for lines that fill no word.
func (w *weights) blendFew(line []uint16, pix []byte, stride int, kernel []uint64) {
	for x := range line {
		sum := uint64(0)
		for j, k := range kernel {
			sum += k * uint64(pix[x+j*stride])
		}
		line[x] = uint16(sum)
	}
}

// single resizes such a line, which begins with the sample from of the axis.
func (w *weights) single(dst []int32, line []uint16, from int) {
	const drop = precision + 8 - fraction
	for i := range dst {
		k := w.k[i*w.taps:][:w.count[i]]
		px := line[w.first[i]-from:][:len(k)]
		sum := int64(1 << (drop - 1))
		for j, v := range k {
			sum += int64(v) * int64(px[j])
		}
		dst[i] = int32(sum >> drop)
	}
}

// shrunk makes a tensor of a shrunk JPEG.
func (s *Scaler) shrunk(dst []float32, m *image.YCbCr, x, y axis, turn int) {
	r := x.want
	small := s.planes.resize(m, x, y, s.pre.Antialias)
	luma, blue, red := small[:r*r], small[r*r:2*r*r], small[2*r*r:]
	line := grow(&s.line, 3*r)
	for row := range r {
		for i := range r {
			at := row*r + i
			colourOf(line[3*i:][:3], luma[at], blue[at], red[at])
		}
		s.store(dst, line, row, r, turn)
	}
}

// colourOf makes RGB of samples with fractions, rounded as those without are.
func colourOf(px []byte, luma, blue, red int32) {
	const grey = 128 << fraction
	y, b, r := luma*0x10101>>fraction, blue-grey, red-grey
	px[0] = clip16(y + 91881*r>>fraction)
	px[1] = clip16(y - (22554*b+46802*r)>>fraction)
	px[2] = clip16(y + 116130*b>>fraction)
}
