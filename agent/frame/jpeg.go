package frame

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"io"
)

// Markers of a JPEG (ITU-T T.81, table B.1).
const (
	markSOF0 = 0xc0 // baseline
	markSOF1 = 0xc1 // extended sequential
	markSOF2 = 0xc2 // progressive
	markDHT  = 0xc4
	markRST0 = 0xd0 // to 0xd7
	markSOI  = 0xd8
	markEOI  = 0xd9
	markSOS  = 0xda
	markDQT  = 0xdb
	markDRI  = 0xdd
	markAPP0 = 0xe0
	markAPP1 = 0xe1
	markAPPE = 0xee // Adobe's
	markTEM  = 0x01
	markCOM  = 0xfe
)

// plane is a component of a JPEG.
type plane struct {
	id           byte
	across, down int // sampling factors, 1 to 4
	table        byte
	wide, high   int // in blocks that show something of the picture
}

// jpegHeader is what a JPEG says before its first scan.
type jpegHeader struct {
	progressive   bool
	width, height int
	planes        []plane // 1, 3 or 4
	room          [4]plane
	across, down  int  // an MCU, in blocks of the finest plane
	wide, high    int  // the picture, in MCUs
	jfif          bool // has JFIF's marker, which means YCbCr
	adobe         int  // the transform of Adobe's marker, -1 without one
	turn          int  // EXIF orientation, 1 to 8; that of the first EXIF
	exif          bool
}

// segment is one marker of a JPEG and what belongs to it.
type segment struct {
	marker byte
	whole  []byte // from the marker on
	body   []byte // without marker and length
}

// cursor goes through a JPEG from segment to segment.
type cursor struct {
	left []byte
}

// next is the next segment; bytes between segments are passed over, as libjpeg
// does. The error is io.ErrUnexpectedEOF.
func (c *cursor) next() (segment, error) {
	for {
		i := bytes.IndexByte(c.left, 0xff)
		if i < 0 || i+1 >= len(c.left) {
			return segment{}, io.ErrUnexpectedEOF
		}
		c.left = c.left[i:]
		switch m := c.left[1]; {
		case m == 0xff:
			c.left = c.left[1:]
		case m == 0:
			c.left = c.left[2:]
		default:
			return c.cut(m)
		}
	}
}

// cut takes the segment that the bytes left begin with.
func (c *cursor) cut(marker byte) (segment, error) {
	n := 2
	if !alone(marker) {
		if len(c.left) < 4 {
			return segment{}, io.ErrUnexpectedEOF
		}
		length := int(binary.BigEndian.Uint16(c.left[2:]))
		if n += length; length < 2 {
			return segment{}, fmt.Errorf("a segment of %d bytes", length)
		}
	}
	if n > len(c.left) {
		return segment{}, io.ErrUnexpectedEOF
	}
	s := segment{marker: marker, whole: c.left[:n:n]}
	s.body, c.left = s.whole[min(4, n):], c.left[n:]
	return s, nil
}

// alone tells whether a marker has no length after it.
func alone(marker byte) bool { return marker == markTEM || marker >= markRST0 && marker <= markEOI }

// entropy takes the coded data up to the marker that ends them, without the bytes
// that may fill the room before it.
func (c *cursor) entropy() []byte {
	for at := 0; ; {
		i := bytes.IndexByte(c.left[at:], 0xff)
		if i < 0 || at+i+1 >= len(c.left) {
			return unfilled(c.take(len(c.left)))
		}
		at += i
		switch c.left[at+1] {
		case 0xff:
			at++
		case 0:
			at += 2
		default:
			return unfilled(c.take(at))
		}
	}
}

// unfilled is data without the bytes that fill the room before a marker.
func unfilled(data []byte) []byte {
	for len(data) > 0 && data[len(data)-1] == 0xff {
		data = data[:len(data)-1]
	}
	return data
}

func (c *cursor) take(n int) []byte {
	data := c.left[:n:n]
	c.left = c.left[n:]
	return data
}

// jpegConfig judges a JPEG by what stands before its first scan, without
// looking at coded data.
func jpegConfig(body []byte) (image.Config, error) {
	var h jpegHeader
	if err := h.read(&cursor{left: body}); err != nil {
		return image.Config{}, err
	}
	return image.Config{Width: h.width, Height: h.height}, nil
}

// read goes up to the frame header, and on to the first scan, which it leaves.
func (h *jpegHeader) read(c *cursor) error {
	h.adobe, h.turn = -1, 1
	for {
		before := c.left
		s, err := c.next()
		switch {
		case err != nil:
			return err
		case s.marker == markSOS && h.planes == nil:
			return errors.New("a scan before the size of the picture")
		case s.marker == markSOS:
			c.left = before
			return nil
		case s.marker == markEOI:
			return errors.New("no scan")
		}
		if err := h.add(s); err != nil {
			return err
		}
	}
}

// add takes what one segment says of the picture.
func (h *jpegHeader) add(s segment) error {
	switch m := s.marker; {
	case m == markAPP0 && bytes.HasPrefix(s.body, []byte("JFIF\x00")):
		h.jfif = true
	case m == markAPP1 && !h.exif && bytes.HasPrefix(s.body, []byte(exifStart)):
		h.exif, h.turn = true, orientation(s.body[len(exifStart):])
	case m == markAPPE && len(s.body) >= 12 && bytes.HasPrefix(s.body, []byte("Adobe")):
		h.adobe = int(s.body[11])
	case m == markSOF0 || m == markSOF1 || m == markSOF2:
		return h.frame(s)
	case m > markSOF2 && m < 0xd0 && m != markDHT:
		return fmt.Errorf("%w: frames of kind %#x, only baseline and progressive are read", ErrUnsupported, m)
	}
	return nil
}

// frame takes a frame header: its size is judged by the caller, and nothing is
// allocated for it.
func (h *jpegHeader) frame(s segment) error {
	b := s.body
	switch {
	case h.planes != nil:
		return errors.New("two frame headers")
	case len(b) < 6 || len(b) != 6+3*int(b[5]):
		return errors.New("a frame header of the wrong length")
	case b[0] != 8:
		return fmt.Errorf("%w: %d bits a sample, only 8 are read", ErrUnsupported, b[0])
	case b[5] != 1 && b[5] != 3 && b[5] != 4:
		return fmt.Errorf("%w: %d components", ErrUnsupported, b[5])
	}
	h.progressive = s.marker == markSOF2
	h.height, h.width = int(binary.BigEndian.Uint16(b[1:])), int(binary.BigEndian.Uint16(b[3:]))
	h.planes = h.room[:b[5]]
	for i := range h.planes {
		b := b[6+3*i:]
		h.planes[i] = plane{id: b[0], across: int(b[1] >> 4), down: int(b[1] & 15), table: b[2]}
	}
	return h.layOut()
}

// layOut judges the sampling and lays out blocks and MCUs.
func (h *jpegHeader) layOut() error {
	if len(h.planes) == 1 { // its factors mean nothing
		h.planes[0].across, h.planes[0].down = 1, 1
	}
	for i, p := range h.planes {
		switch {
		case p.across < 1 || p.across > 4 || p.down < 1 || p.down > 4 || p.table > 3:
			return errors.New("a component that cannot be")
		case p.across == 3 || p.down == 3:
			return fmt.Errorf("%w: component %d has %d x %d samples a unit, only 1, 2 and 4 are read", ErrUnsupported, i+1,
				p.across, p.down)
		case len(h.planes) == 4 && p.across*p.down != 1:
			return fmt.Errorf("%w: four components that share samples: save it as RGB", ErrUnsupported)
		}
	}
	for _, p := range h.planes {
		h.across, h.down = max(h.across, p.across), max(h.down, p.down)
	}
	h.wide, h.high = over(h.width, 8*h.across), over(h.height, 8*h.down)
	for i := range h.planes {
		p := &h.planes[i]
		p.wide = over(over(h.width*p.across, h.across), 8)
		p.high = over(over(h.height*p.down, h.down), 8)
	}
	return nil
}

// over is a/b, rounded up.
func over(a, b int) int { return (a + b - 1) / b }

// colours is the transform that Adobe's marker must have for the decoder to
// see what libjpeg sees: 0 is RGB or CMYK, 1 YCbCr, 2 YCCK.
func (h *jpegHeader) colours() byte {
	switch {
	case len(h.planes) == 4 && h.adobe > 0:
		return 2
	case len(h.planes) == 4:
		return 0
	case len(h.planes) == 3 && !h.jfif && (h.adobe == 0 || h.adobe < 0 &&
		string([]byte{h.planes[0].id, h.planes[1].id, h.planes[2].id}) == "RGB"):
		return 0
	}
	return 1
}
