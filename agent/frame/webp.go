package frame

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/color"
	"io"

	"golang.org/x/image/vp8"
	"golang.org/x/image/vp8l"
)

// A WebP file is a list of chunks. Lossy pixels are a key frame of VP8, lossless
// ones VP8L; either is a file of its own, or follows a chunk VP8X, which gives
// the canvas and announces alpha, a colour profile, metadata and animation
// (RFC 9649). Alpha is dropped, so its chunk is not decoded.
const (
	vp8Chunk  = "VP8 "
	vp8lChunk = "VP8L"
	vp8xChunk = "VP8X"
)

// still is the chunk of a WebP file that has the pixels.
type still struct {
	kind          string // vp8Chunk or vp8lChunk
	data          []byte
	width, height int // that the chunk has
}

// webpConfig judges the size of what will be decoded, not that of the canvas,
// behind which a picture of 16383 x 16383 could hide.
func webpConfig(body []byte) (image.Config, error) {
	s, err := webpStill(body)
	return image.Config{ColorModel: color.YCbCrModel, Width: s.width, Height: s.height}, err
}

func webpDecode(body []byte) (pixels, error) {
	s, err := webpStill(body)
	if err != nil {
		return nil, err
	}
	if s.kind == vp8lChunk {
		return vp8l.Decode(bytes.NewReader(s.data))
	}
	d := vp8.NewDecoder()
	d.Init(bytes.NewReader(s.data), len(s.data))
	if _, err := d.DecodeFrameHeader(); err != nil {
		return nil, err
	}
	m, err := d.DecodeFrame()
	return limitedYCbCr{m}, err
}

// webpStill finds the picture in a file. It looks at the heads of chunks only.
func webpStill(body []byte) (still, error) {
	rest, err := webpChunks(body)
	if err != nil {
		return still{}, err
	}
	canvas := []byte(nil)
	for first := true; ; first = false {
		var kind string
		var data []byte
		if kind, data, rest, err = nextChunk(rest); err != nil {
			return still{}, err
		}
		switch {
		case kind == vp8Chunk || kind == vp8lChunk:
			s := still{kind: kind, data: data}
			return s, s.measure(canvas)
		case first && kind == vp8xChunk:
			if canvas, err = checkCanvas(data); err != nil {
				return still{}, err
			}
		case first || kind == vp8xChunk:
			return still{}, fmt.Errorf("the file begins with the chunk %.4q, or has it twice", kind)
		case kind == "ANIM" || kind == "ANMF":
			return still{}, errAnimated()
		}
	}
}

func errAnimated() error {
	return fmt.Errorf("%w: an animation; send its pictures one by one", ErrUnsupported)
}

// webpChunks is the part of a file that has chunks. What follows the file is no
// part of it.
func webpChunks(body []byte) ([]byte, error) {
	const head = 12 // RIFF, size of what follows, WEBP
	if len(body) < head {
		return nil, io.ErrUnexpectedEOF
	}
	size := int64(binary.LittleEndian.Uint32(body[4:])) + 8
	if size > int64(len(body)) {
		return nil, io.ErrUnexpectedEOF
	}
	return body[head:max(size, head)], nil
}

// nextChunk splits the first chunk off a list. A chunk of odd size has a byte of
// padding, which some writers leave out at the end.
func nextChunk(list []byte) (kind string, data, rest []byte, err error) {
	const head = 8
	if len(list) == 0 {
		return "", nil, nil, errors.New("the file has no picture")
	}
	if len(list) < head {
		return "", nil, nil, io.ErrUnexpectedEOF
	}
	size := int64(binary.LittleEndian.Uint32(list[4:]))
	if size > int64(len(list)-head) {
		return "", nil, nil, io.ErrUnexpectedEOF
	}
	end := head + int(size)
	return string(list[:4]), list[head:end], list[min(end+end%2, len(list)):], nil
}

// checkCanvas judges the data of VP8X, and returns its width and height, less 1
// each, 24 bits little endian.
func checkCanvas(data []byte) ([]byte, error) {
	const animation = 1 << 1
	switch {
	case len(data) != 10:
		return nil, fmt.Errorf("VP8X of %d bytes, want 10", len(data))
	case data[0]&animation != 0:
		return nil, errAnimated()
	}
	return data[4:], nil
}

// measure reads the size from the head of the pixels, which must be that of the
// canvas, if there is one.
func (s *still) measure(canvas []byte) error {
	read := s.measureLossy
	if s.kind == vp8lChunk {
		read = s.measureLossless
	}
	if err := read(); err != nil || canvas == nil {
		return err
	}
	w, h := 1+le24(canvas), 1+le24(canvas[3:])
	if w != s.width || h != s.height {
		return fmt.Errorf("the canvas is %d x %d pixels, the picture %d x %d", w, h, s.width, s.height)
	}
	return nil
}

// measureLossy reads the head of a key frame (RFC 6386, 9.1).
func (s *still) measureLossy() error {
	const head = 10 // tag, start code, width and height
	d := s.data
	if len(d) < head {
		return io.ErrUnexpectedEOF
	}
	tag := le24(d)
	switch {
	case tag&1 != 0:
		return errors.New("the picture is a difference to an earlier one")
	case tag>>1&7 > 3 || tag>>4&1 == 0:
		return errors.New("the picture is of an unknown profile, or not to be shown")
	case tag>>5 > len(d)-head:
		return io.ErrUnexpectedEOF
	case string(d[3:6]) != "\x9d\x01\x2a":
		return errors.New("the picture has no start code")
	}
	const size = 1<<14 - 1 // the upper two bits ask for a scale, which nobody heeds
	s.width, s.height = int(binary.LittleEndian.Uint16(d[6:]))&size, int(binary.LittleEndian.Uint16(d[8:]))&size
	return nil
}

// measureLossless reads the head of VP8L: a signature, width and height, less 1,
// in 14 bits each, whether alpha is used, and three bits of version, all 0.
func (s *still) measureLossless() error {
	const head = 5
	if len(s.data) < head {
		return io.ErrUnexpectedEOF
	}
	bits := binary.LittleEndian.Uint32(s.data[1:])
	if s.data[0] != 0x2f || bits>>29 != 0 {
		return errors.New("the picture is of an unknown version")
	}
	s.width, s.height = int(bits&0x3fff)+1, int(bits>>14&0x3fff)+1
	return nil
}

func le24(b []byte) int { return int(b[0]) | int(b[1])<<8 | int(b[2])<<16 }
