package frame

import "image"

// limitedYCbCr is the pixels of video: BT.601 in limited range, chroma for 2 x
// 2 pixels.
type limitedYCbCr struct{ *image.YCbCr }

// limited puts the colour of a sample of limited range (luma 16 to 235, chroma
// 16 to 240; ITU-R BT.601) into the 3 bytes of dst. The factors and roundings are
// libwebp's, 14 bits of fraction, which is within a level of exact arithmetic:
// 1.1644 luma, 1.5960 Cr, 0.3918 Cb, 0.8130 Cr, 2.0172 Cb.
func limited(dst []byte, luma, cb, cr byte) {
	y, b, r := int32(luma)*19077>>8, int32(cb), int32(cr)
	dst[0] = clip6(y + r*26149>>8 - 14234)
	dst[1] = clip6(y - b*6419>>8 - r*13320>>8 + 8708)
	dst[2] = clip6(y + b*33050>>8 - 17685)
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
		limited(d, luma[i/3], d[1], d[2])
	}
}

// blendLimited puts a sample of chroma into every third byte of dst; last is
// the last sample of a row. The sum is rounded in two steps, as libwebp does it.
func blendLimited(dst, near, far []byte, x, last int) {
	for i := 0; i < len(dst); i += 3 {
		here := x / 2
		beside := min(max(here-1+x%2*2, 0), last)
		a, b, c, d := uint(near[here]), uint(near[beside]), uint(far[here]), uint(far[beside])
		dst[i] = byte(((a+3*b+3*c+d+8)>>3 + a) >> 1)
		x++
	}
}
