package frame

import (
	"fmt"
	"image"
	"image/color"
)

// Picture is a decoded frame. It is not changed between one Decode into it and
// the next, so it may be handed to another goroutine or be read by several.
type Picture struct {
	img           pixels // one of the types that take names, from (0, 0), as stored
	raw           raw    // what img is after a raw frame; its memory is used again
	Width, Height int    // in pixels at full scale, upright
	scale         int    // pixels a sample is wide and high
	turn          int    // EXIF orientation that makes img upright, 1 to 8
	jpeg          stream // room for the next JPEG, empty between two
}

// lay sets the size at full scale and the turn.
func (p *Picture) lay(h Header, scale, turn int) {
	p.Width, p.Height, p.scale, p.turn = h.Width, h.Height, scale, turn
	if turn > 4 {
		p.Width, p.Height = h.Height, h.Width
	}
}

// pixels is what a codec gives.
type pixels interface{ Bounds() image.Rectangle }

// take fills p with what the codecs of this package give. YCbCr means JPEG's: full
// range, chroma to be spread as libjpeg does; that of video is limitedYCbCr.
func (p *Picture) take(img pixels) error {
	size := img.Bounds()
	p.img, p.Width, p.Height, p.scale, p.turn = img, size.Dx(), size.Dy(), 1, 1
	switch img.(type) {
	case *image.YCbCr, *image.RGBA, *image.NRGBA, *image.Gray, *image.Paletted,
		*image.RGBA64, *image.NRGBA64, *image.Gray16, *image.CMYK, limitedYCbCr, *raw:
	default:
		return fmt.Errorf("%w: pixels of type %T", ErrUnsupported, img)
	}
	if size.Min != (image.Point{}) {
		return fmt.Errorf("%w: pixels that begin at %v", ErrUnsupported, size.Min)
	}
	return nil
}

// row writes the pixels of one line, from column x on, as R, G, B. It fills
// dst, whose length is a multiple of 3.
func (p *Picture) row(dst []byte, x, y int) {
	switch m := p.img.(type) {
	case *image.YCbCr:
		rowYCbCr(dst, m, x, y)
	case *image.RGBA:
		rowOf4(dst, m.Pix[m.PixOffset(x, y):])
	case *image.NRGBA:
		rowOf4(dst, m.Pix[m.PixOffset(x, y):])
	case *image.Gray:
		rowGray(dst, m.Pix[m.PixOffset(x, y):], 1)
	case *image.Gray16:
		rowGray(dst, m.Pix[m.PixOffset(x, y):], 2)
	case *image.RGBA64:
		rowOf8(dst, m.Pix[m.PixOffset(x, y):])
	case *image.NRGBA64:
		rowOf8(dst, m.Pix[m.PixOffset(x, y):])
	case *image.Paletted:
		rowPaletted(dst, m.Pix[m.PixOffset(x, y):], m.Palette)
	case *image.CMYK:
		rowCMYK(dst, m.Pix[m.PixOffset(x, y):])
	case limitedYCbCr:
		m.row(dst, x, y)
	case *raw:
		m.row(dst, x, y)
	default:
		panic(fmt.Sprintf("frame: pixels of type %T, which take refuses", m))
	}
}

// rowOf4 reads four bytes a pixel, red first. Alpha is left out: the decoders
// use RGBA for opaque pictures only, so nothing is premultiplied.
func rowOf4(dst, src []byte) {
	for i, j := 0, 0; i+3 <= len(dst) && j+4 <= len(src); i, j = i+3, j+4 {
		d, s := dst[i:i+3:i+3], src[j:j+4:j+4]
		d[0], d[1], d[2] = s[0], s[1], s[2]
	}
}

// rowOf8 reads eight bytes a pixel: red, green, blue, alpha, big endian.
func rowOf8(dst, src []byte) {
	for i, j := 0, 0; i < len(dst); i, j = i+3, j+8 {
		dst[i], dst[i+1], dst[i+2] = src[j], src[j+2], src[j+4]
	}
}

// rowGray reads one sample a pixel, of which the first byte counts.
func rowGray(dst, src []byte, bytes int) {
	for i, j := 0, 0; i < len(dst); i, j = i+3, j+bytes {
		dst[i], dst[i+1], dst[i+2] = src[j], src[j], src[j]
	}
}

func rowPaletted(dst, src []byte, palette color.Palette) {
	for i := 0; i < len(dst); i += 3 {
		switch c := palette[src[i/3]].(type) {
		case color.RGBA:
			dst[i], dst[i+1], dst[i+2] = c.R, c.G, c.B
		case color.NRGBA:
			dst[i], dst[i+1], dst[i+2] = c.R, c.G, c.B
		}
	}
}

func rowCMYK(dst, src []byte) {
	for i, j := 0, 0; i < len(dst); i, j = i+3, j+4 {
		dst[i], dst[i+1], dst[i+2] = color.CMYKToRGB(src[j], src[j+1], src[j+2], src[j+3])
	}
}
