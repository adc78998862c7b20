package frame

import "image"

// rowYCbCr reads a line of a JPEG. Chroma that two pixels share is
// interpolated exactly as libjpeg does ("fancy upsampling"), because that is
// what the training pictures went through; repeating it, as image.At does,
// blurs the colours of small frames.
func rowYCbCr(dst []byte, m *image.YCbCr, x, y int) {
	spreadChroma(dst, m, x, y)
	colour(dst, m.Y[m.YOffset(x, y):])
}

// colour makes RGB of a line of luma and of the Cb and Cr that are in the second and
// third byte of each pixel of dst.
func colour(dst, luma []byte) {
	for i := 0; i+3 <= len(dst); i += 3 {
		d := dst[i : i+3 : i+3]
		yy, b, r := int32(luma[i/3])*0x10101, int32(d[1])-128, int32(d[2])-128
		d[0] = clip16(yy + 91881*r)
		d[1] = clip16(yy - 22554*b - 46802*r)
		d[2] = clip16(yy + 116130*b)
	}
}

// clip16 is v/65536 within [0, 255]; with the constants above it gives what
// color.YCbCrToRGB gives, at a call less per pixel.
func clip16(v int32) uint8 {
	if uint32(v)&0xff000000 == 0 {
		return uint8(v >> 16)
	}
	return uint8(^(v >> 31))
}

// fewChroma is the most samples of a row that libjpeg repeats rather than
// interpolates, where two columns share one.
const fewChroma = 2

// spreadChroma puts the Cb and Cr of each pixel into the second and third byte
// that dst has for it.
func spreadChroma(dst []byte, m *image.YCbCr, x, y int) {
	few := (m.Rect.Dx()+1)/2 <= fewChroma
	for i, plane := range [2][]byte{m.Cb, m.Cr} {
		to := dst[i+1:]
		switch ratio := m.SubsampleRatio; {
		case few && (ratio == image.YCbCrSubsampleRatio422 || ratio == image.YCbCrSubsampleRatio420):
			repeat(to, plane[m.COffset(0, y):], x, 1)
		case ratio == image.YCbCrSubsampleRatio444:
			repeat(to, plane[y*m.CStride:], x, 0)
		case ratio == image.YCbCrSubsampleRatio422:
			row := plane[y*m.CStride:]
			blendAcross(to, row, row, x, (m.Rect.Dx()-1)/2, 4, 8)
		case ratio == image.YCbCrSubsampleRatio420:
			near, far := rowsOf(plane, m, y)
			blendAcross(to, near, far, x, (m.Rect.Dx()-1)/2, 8, 7)
		case ratio == image.YCbCrSubsampleRatio440:
			near, far := rowsOf(plane, m, y)
			blendDown(to, near[x:], far[x:], uint(4+y%2*4))
		default: // 4:1:1 and 4:1:0, which libjpeg repeats too
			repeat(to, plane[m.COffset(0, y):], x, 2)
		}
	}
}

// rowsOf are the row of chroma samples that the line y lies in and the other
// one it lies nearest to, where two lines share a row.
func rowsOf(plane []byte, m *image.YCbCr, y int) (near, far []byte) {
	row, rows := y/2, (m.Rect.Dy()+1)/2
	other := min(max(row-1+y%2*2, 0), rows-1)
	return plane[row*m.CStride:], plane[other*m.CStride:]
}

// repeat gives 1<<shift columns the same sample.
func repeat(dst, plane []byte, x, shift int) {
	for i := 0; i < len(dst); i += 3 {
		dst[i] = plane[x>>shift]
		x++
	}
}

// blendDown weighs the samples of two rows 3 to 1. The bias is libjpeg's.
func blendDown(dst, near, far []byte, bias uint) {
	for i := 0; i < len(dst); i += 3 {
		dst[i] = byte((4*(3*uint(near[i/3])+uint(far[i/3])) + bias) >> 4)
	}
}

// blendAcross weighs the samples of two rows 3 to 1 and then those of two
// columns. The biases, for the left and the right pixel of a sample, are
// libjpeg's; last is the last sample of a row.
func blendAcross(dst, near, far []byte, x, last int, left, right uint) {
	sum := func(j int) uint { return 3*uint(near[j]) + uint(far[j]) }
	j := x / 2
	before, here := sum(max(j-1, 0)), sum(j)
	for i := -3 * (x % 2); i < len(dst); i += 6 {
		after := sum(min(j+1, last))
		if i >= 0 {
			dst[i] = byte((3*here + before + left) >> 4)
		}
		if i+3 < len(dst) {
			dst[i+3] = byte((3*here + after + right) >> 4)
		}
		before, here = here, after
		j++
	}
}

// limitedYCbCr is the pixels of video: BT.601 in limited range, chroma for 2 x
// 2 pixels.
type limitedYCbCr struct{ *image.YCbCr }

// Samples of limited range (luma 16 to 235, chroma 16 to 240; ITU-R BT.601)
// become R, G, B as libwebp does it, with 14 bits of fraction, which is within half a
// level (0.52) of exact arithmetic: 1.1644 luma for each, and of chroma 1.5960 Cr for
// red, -0.3918 Cb - 0.8130 Cr for green, 2.0172 Cb for blue.

// light is what a sample of luma adds to each colour, in 64ths.
func light(luma byte) int32 { return int32(luma) * 19077 >> 8 }

// hue is what a pair of chroma adds to the colours, in 64ths.
func hue(cb, cr byte) (red, green, blue int32) {
	b, r := int32(cb), int32(cr)
	return r*26149>>8 - 14234, 8708 - b*6419>>8 - r*13320>>8, b*33050>>8 - 17685
}

// clip6 is v/64 within [0, 255].
func clip6(v int32) byte {
	if uint32(v) < 256<<6 {
		return byte(v >> 6)
	}
	return byte(^(v >> 31))
}

// row reads a line of a lossy WebP. Chroma is interpolated exactly as libwebp
// does ("fancy upsampling"): of the four nearest samples, weighed 9, 3, 3 and 1.
func (m limitedYCbCr) row(dst []byte, x, y int) {
	for i, plane := range [][]byte{m.Cb, m.Cr} {
		near, far := rowsOf(plane, m.YCbCr, y)
		blendLimited(dst[i+1:], near, far, x, (m.Rect.Dx()-1)/2)
	}
	luma := m.Y[m.YOffset(x, y):]
	for i := 0; i+3 <= len(dst); i += 3 {
		d := dst[i : i+3 : i+3]
		l := light(luma[i/3])
		red, green, blue := hue(d[1], d[2])
		d[0], d[1], d[2] = clip6(l+red), clip6(l+green), clip6(l+blue)
	}
}

// blendLimited puts a sample of chroma into every third byte of dst; last is
// the last sample of a row. The sum is rounded in two steps, as libwebp does it.
func blendLimited(dst, near, far []byte, x, last int) {
	aside := func(j int) uint { return 3*uint(near[j]) + uint(far[j]) }
	j := x / 2
	before, here := aside(max(j-1, 0)), aside(j)
	for i := -3 * (x % 2); i < len(dst); i += 6 {
		own := uint(near[j])
		sum, after := own+3*uint(far[j])+8, aside(min(j+1, last))
		if i >= 0 {
			dst[i] = byte(((sum+before)>>3 + own) >> 1)
		}
		if i+3 < len(dst) {
			dst[i+3] = byte(((sum+after)>>3 + own) >> 1)
		}
		before, here = here, after
		j++
	}
}
