package frame

import (
	"encoding/binary"
	"image"
)

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
