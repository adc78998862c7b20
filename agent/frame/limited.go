package frame

import "image"

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
