package frame

import (
	"errors"
	"fmt"
	"image"
	"slices"
)

// The codecs of raw frames: samples of one byte, rows packed one after the
// other from the top, nothing before, between or behind them. A sender must
// declare them, with width and height, since the bytes say nothing.
const (
	RGB  = "rgb"  // 3 bytes a pixel, as GStreamer's RGB and V4L2's RGB3
	BGR  = "bgr"  // 3 bytes a pixel, as GStreamer's BGR, V4L2's BGR3 and OpenCV's
	Gray = "gray" // 1 byte a pixel, as GStreamer's GRAY8 and V4L2's GREY
	// NV12 is a plane of luma and after it one of Cb, Cr in turns, a pair for 2 x
	// 2 pixels, as GStreamer's and V4L2's NV12: ITU-R BT.601, limited range (16 to
	// 235, 16 to 240). The four pixels get the same colour, as OpenCV and FFmpeg's
	// unscaled conversion do it.
	NV12 = "nv12"
)

func isRaw(codec string) bool { return slices.Contains([]string{RGB, BGR, Gray, NV12}, codec) }

// inspectRaw judges what a sender says of a raw frame. Every side is judged
// before it is multiplied, so no product is over 3*maxSide*maxSide, which 31
// bits hold.
func (d Decoder) inspectRaw(body []byte, c Claim) (Header, error) {
	if err := checkSide("width", c.Width, c.Codec); err != nil {
		return Header{}, err
	}
	if err := checkSide("height", c.Height, c.Codec); err != nil {
		return Header{}, err
	}
	if c.Width*c.Height > d.MaxPixels {
		return Header{}, fmt.Errorf("width, height: %d x %d pixels are more than %d", c.Width, c.Height, d.MaxPixels)
	}
	if want := rawBytes(c.Codec, c.Width, c.Height); len(body) != want {
		remedy := "rows are packed, without padding"
		if is, err := sniff(body); err == nil {
			remedy = fmt.Sprintf("it is %s: leave out codec, width and height", is.name)
		}
		return Header{}, fmt.Errorf("width, height: %d x %d pixels of %s have %d bytes, but the frame has %d; %s",
			c.Width, c.Height, c.Codec, want, len(body), remedy)
	}
	return Header{Codec: c.Codec, Width: c.Width, Height: c.Height, Bytes: len(body)}, nil
}

func checkSide(field string, n int, codec string) error {
	switch {
	case n == 0:
		return fmt.Errorf("%s: a frame of %s needs it, in pixels", field, codec)
	case n < 0 || n > maxSide:
		return fmt.Errorf("%s: %d pixels are not in [1, %d]", field, n, maxSide)
	case codec == NV12 && n%2 != 0:
		return fmt.Errorf("%s: %d pixels are odd, but in nv12 two share a colour", field, n)
	}
	return nil
}

// checkEncoded refuses a size that is declared of a frame which has its own.
func (c Claim) checkEncoded() error {
	const only = "is for frames of codec rgb, bgr, gray and nv12, others know it themselves: declare the codec or " +
		"leave it out"
	switch {
	case c.Width != 0:
		return errors.New("width: it " + only)
	case c.Height != 0:
		return errors.New("height: it " + only)
	}
	return nil
}

// rawBytes is the size of a raw frame, 0 of a size out of range.
func rawBytes(codec string, w, h int) int {
	if w < 1 || w > maxSide || h < 1 || h > maxSide {
		return 0
	}
	switch codec {
	case Gray:
		return w * h
	case NV12:
		return w * h / 2 * 3
	}
	return w * h * 3
}

// raw is the pixels of a raw frame, as they came.
type raw struct {
	codec         string
	pix           []byte
	width, height int
}

// Bounds is the size.
func (m *raw) Bounds() image.Rectangle { return image.Rect(0, 0, m.width, m.height) }

// takeRaw copies a raw frame into memory that is used again.
func (p *Picture) takeRaw(body []byte, h Header) error {
	if len(body) != rawBytes(h.Codec, h.Width, h.Height) {
		return fmt.Errorf("%s: %d bytes are not those of the header", h.Codec, len(body))
	}
	m := &p.raw
	m.codec, m.width, m.height = h.Codec, h.Width, h.Height
	m.pix = grow(&m.pix, len(body))
	copy(m.pix, body)
	return p.take(m)
}

func (m *raw) row(dst []byte, x, y int) {
	at := y*m.width + x
	switch m.codec {
	case Gray:
		rowGray(dst, m.pix[at:], 1)
	case RGB:
		copy(dst, m.pix[3*at:])
	case BGR:
		rowBGR(dst, m.pix[3*at:])
	case NV12:
		rowNV12(dst, m.pix[at:], m.pix[(m.height+y/2)*m.width:], x)
	}
}

func rowBGR(dst, src []byte) {
	for i := 0; i+3 <= len(dst); i += 3 {
		d, s := dst[i:i+3:i+3], src[i:i+3:i+3]
		d[0], d[1], d[2] = s[2], s[1], s[0]
	}
}

// rowNV12 reads a line from column x on; chroma is the whole line of pairs.
func rowNV12(dst, luma, chroma []byte, x int) {
	red, green, blue := hue(chroma[x&^1], chroma[x|1])
	for i := 0; i+3 <= len(dst); i += 3 {
		if x%2 == 0 {
			red, green, blue = hue(chroma[x], chroma[x+1])
		}
		d, y := dst[i:i+3:i+3], light(luma[i/3])
		d[0], d[1], d[2] = clip6(y+red), clip6(y+green), clip6(y+blue)
		x++
	}
}
