package frame

import "image"

// fraction is the number of fractional bits of samples between one step and the
// next, where PIL rounds RGB to none.
const fraction = 6

// planes makes tensors of shrunk JPEGs. Their planes are resized one by one and
// become RGB afterwards: fewer samples are touched, and what PIL would make of the
// whole picture is met no better in another order. Chroma needs no interpolation,
// for a sample lies where it lies.
type planes struct {
	luma, chroma [2]weights // across and down
	narrow       []int32    // lines resized across
	sum          []int64
	small        []int32 // Y, Cb and Cr, r×r each
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

// plane resizes one plane.
func (s *planes) plane(dst []int32, pix []byte, stride int, w *[2]weights) {
	across, down := &w[0], &w[1]
	r := across.of.want
	left, _ := across.of.samples()
	upper, _ := down.of.samples()
	top, bottom := down.reach()
	narrow, sum := grow(&s.narrow, r*(bottom-top)), grow(&s.sum, r)
	for row := top; row < bottom; row++ {
		across.single(narrow[r*(row-top):][:r], pix[(upper+row)*stride+left:])
	}
	for row := range r {
		down.sum(dst[r*row:][:r], sum, narrow, row, top)
	}
}

// single resizes a line of a plane that begins where the axis does.
func (w *weights) single(dst []int32, line []byte) {
	for i := range dst {
		k := w.k[i*w.taps:][:w.count[i]]
		px := line[w.first[i]:][:len(k)]
		sum := int32(1 << (precision - fraction - 1))
		for j, v := range k {
			sum += v * int32(px[j])
		}
		dst[i] = sum >> (precision - fraction)
	}
}

// sum makes the line row from lines that begin with the sample top of the axis.
func (w *weights) sum(dst []int32, sum []int64, lines []int32, row, top int) {
	clear(sum)
	for j, k := range w.k[row*w.taps:][:w.count[row]] {
		line := lines[(w.first[row]-top+j)*len(sum):][:len(sum)]
		for i, v := range line {
			sum[i] += int64(k) * int64(v)
		}
	}
	for i, v := range sum {
		dst[i] = int32((v + 1<<(precision-1)) >> precision)
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
