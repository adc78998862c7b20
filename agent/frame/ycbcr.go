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
