package frame

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"io"

	"github.com/gen2brain/jpegn"
)

// errMissing is a picture whose coded data do not make it whole, though it has an end.
var errMissing = errors.New("part of the picture is missing")

// scarce tells whether a baseline scan has not even two bits a block.
func (s *stream) scarce(sc *scan) bool {
	bits := 0
	for _, data := range s.data[sc.first:][:sc.runs] {
		bits += 8 * len(data)
	}
	return bits < 2*sc.units*sc.blocks(&s.head)
}

// missing tells whether a scan has fewer units than its picture. Data that are
// damaged, rather than short, may be of any number of units: what is not there
// is then not missed, as libjpeg does not.
func (s *stream) missing(sc *scan) bool {
	if sc.interval > 0 && sc.runs < over(sc.units, sc.interval) {
		return true
	}
	w := newWalk(sc, &s.head)
	for i, data := range s.data[sc.first:][:sc.runs] {
		units := sc.units
		if sc.interval > 0 {
			units = min(sc.interval, sc.units-i*sc.interval)
		}
		if w.start(data); !w.through(units) && (!w.damaged || !s.ends) {
			return true
		}
	}
	return false
}

// walk goes through the coded data of a scan without decoding them.
type walk struct {
	sc      *scan
	blocks  [4]int // of each component in a unit
	codes   [2][4]*codes
	dcOnly  bool // the first scan of a progressive picture
	data    []byte
	bits    uint64 // read ahead: the upper n bits, then zeros
	n       int
	dc      [4]int // of the block before
	damaged bool   // met what no encoder writes
}

func newWalk(sc *scan, h *jpegHeader) *walk {
	w := &walk{sc: sc, dcOnly: h.progressive}
	for i, p := range sc.planes[:sc.n] {
		w.blocks[i] = 1
		if sc.n > 1 {
			w.blocks[i] = h.planes[p].across * h.planes[p].down
		}
		w.codes[0][i] = newCodes(sc.codes[0][i])
		if !w.dcOnly {
			w.codes[1][i] = newCodes(sc.codes[1][i])
		}
	}
	return w
}

func (w *walk) start(data []byte) { w.data, w.bits, w.n, w.dc, w.damaged = data, 0, 0, [4]int{}, false }

// through tells whether the data have so many units.
func (w *walk) through(units int) bool {
	for range units {
		for i := range w.sc.n {
			for range w.blocks[i] {
				if !w.block(i) {
					return false
				}
			}
		}
	}
	return true
}

// block passes over a block of component i of the scan.
func (w *walk) block(i int) bool {
	const most = 1024 // a DC of 8-bit samples, before it is rounded
	size, ok := w.code(w.codes[0][i])
	if !ok || !w.skip(size, &w.dc[i]) {
		return false
	}
	step := w.sc.quant[i] << w.sc.low
	w.damaged = w.damaged || size > 11 || w.dc[i]*step > most+step || w.dc[i]*step < -most-step
	for k := 1; k < 64 && !w.dcOnly; {
		v, ok := w.code(w.codes[1][i])
		size := v & 15
		switch {
		case !ok || !w.skip(size, nil):
			return false
		case size == 0 && v < 0xf0:
			w.damaged = w.damaged || v > 0
			return true
		}
		k += v>>4 + 1
		w.damaged = w.damaged || k > 64 || size > 10
	}
	return true
}

// code reads one code. One that the table does not have is 0, as in libjpeg, which
// by then has read a bit more than a code can be long.
func (w *walk) code(t *codes) (value int, ok bool) {
	w.fill()
	look := int(w.bits >> 48)
	length := int(t.fast[look>>8] & 0xff)
	if length > 0 {
		value = int(t.fast[look>>8] >> 8)
	} else {
		for length = 9; length <= 16 && look>>(16-length) > t.last[length]; length++ {
		}
		if length <= 16 {
			value = int(t.values[look>>(16-length)+t.delta[length]])
		}
	}
	if length > w.n {
		return 0, false
	}
	w.damaged = w.damaged || length > 16
	w.bits, w.n = w.bits<<length, w.n-length
	return value, true
}

// skip passes over a value of some bits, and adds it to sum if there is one.
func (w *walk) skip(size int, sum *int) bool {
	w.fill()
	if size > w.n {
		return false
	}
	if sum != nil && size > 0 {
		v := int(w.bits >> (64 - size))
		if v < 1<<(size-1) {
			v -= 1<<size - 1
		}
		*sum += v
	}
	w.bits, w.n = w.bits<<size, w.n-size
	return true
}

func (w *walk) fill() {
	for w.n <= 56 && len(w.data) > 0 {
		b := w.data[0]
		w.data = w.data[1:]
		if b == 0xff {
			for len(w.data) > 0 && w.data[0] == 0xff {
				w.data = w.data[1:]
			}
			w.data = w.data[min(1, len(w.data)):] // a zero follows
		}
		w.bits |= uint64(b) << (56 - w.n)
		w.n += 8
	}
}

// codes is a Huffman table (T.81, C.2).
type codes struct {
	fast   [256]uint16 // value and length of the code that 8 bits begin with; 0 if it is longer
	last   [17]int     // the last code of a length, -1 where there is none
	delta  [17]int     // from a code to the place of its value
	values []byte
}

// newCodes makes the table that a DHT segment describes; prefixFree is true of it.
func newCodes(table []byte) *codes {
	t := &codes{values: table[16:]}
	code, place := 0, 0
	for length := 1; length <= 16; length++ {
		n := int(table[length-1])
		t.delta[length], t.last[length] = place-code, code+n-1
		if n == 0 {
			t.last[length] = -1
		}
		if length <= 8 {
			for i := range n << (8 - length) {
				t.fast[code<<(8-length)+i] = uint16(t.values[place+i>>(8-length)])<<8 | uint16(length)
			}
		}
		code, place = (code+n)<<1, place+n
	}
	return t
}

// doubtful tells whether the last block of a restart interval is all zeros in a
// picture decoded at 1/scale, as blocks are that the decoder never came to.
func (s *stream) doubtful(sc *scan, img image.Image, scale int) bool {
	units := sc.units
	if sc.interval > 0 {
		units = sc.interval
	}
	for end := units; ; end += units {
		if s.zeros(sc, img, min(end, sc.units)-1, 8/scale) {
			return true
		}
		if end >= sc.units {
			return false
		}
	}
}

// zeros tells whether the last block of a unit of the scan, side samples wide and
// high, has only zeros. It has where that cannot be seen.
func (s *stream) zeros(sc *scan, img image.Image, unit, side int) bool {
	i := sc.planes[sc.n-1]
	p := s.head.planes[i]
	x, y := unit%p.wide, unit/p.wide
	if sc.n > 1 {
		x, y = (unit%s.head.wide+1)*p.across-1, (unit/s.head.wide+1)*p.down-1
	}
	var pix []byte
	var stride int
	switch m := img.(type) {
	case *image.Gray:
		pix, stride = m.Pix, m.Stride
	case *image.YCbCr:
		pix, stride = [][]byte{m.Y, m.Cb, m.Cr}[i], m.CStride
		if i == 0 {
			stride = m.YStride
		}
	default:
		return true
	}
	for row := range side {
		if len(bytes.TrimLeft(pix[(y*side+row)*stride+x*side:][:side], "\x00")) > 0 {
			return false
		}
	}
	return true
}

func (d Decoder) decodeJPEG(dst *Picture, body []byte, h Header, scale int) error {
	s := &dst.jpeg
	defer s.forget()
	if err := s.read(body); err != nil {
		return err
	}
	if s.head.width != h.Width || s.head.height != h.Height {
		return fmt.Errorf("a header of %d x %d pixels for a frame of %d x %d", h.Width, h.Height, s.head.width, s.head.height)
	}
	if scale < 1 || scale > 8 || 8%scale != 0 {
		return fmt.Errorf("a scale of 1/%d", scale)
	}
	img, err := s.decode(scale)
	if err != nil {
		return err
	}
	turn := 1
	if d.Upright {
		turn = s.head.turn
	}
	if err := dst.take(img); err != nil {
		return err
	}
	dst.lay(h, scale, turn)
	return nil
}

// decode is the picture at 1/scale. It has memory of its own, which was zeroed:
// nothing of an earlier frame is in it.
func (s *stream) decode(scale int) (image.Image, error) {
	if err := s.checkFirst(); err != nil {
		return nil, err
	}
	img, err := s.pixels(scale)
	if err != nil {
		return nil, err
	}
	return img, s.checkLast(img, scale)
}

// checkLast looks for missing data in a decoded picture.
func (s *stream) checkLast(img image.Image, scale int) error {
	for i := range s.scans {
		if sc := &s.scans[i]; s.ends && !s.head.progressive && s.doubtful(sc, img, scale) && s.missing(sc) {
			return errMissing
		}
	}
	return nil
}

// checkFirst looks for missing data before there is memory for the picture. It
// finds all of them where the decoder would make them up, in progressive pictures
// and in those without end, and elsewhere those that the fewest bits of a block show.
func (s *stream) checkFirst() error {
	for i := range s.scans {
		sc := &s.scans[i]
		first := s.head.progressive && sc.from == 0 && sc.high == 0
		switch {
		case !s.ends && s.missing(sc):
			return io.ErrUnexpectedEOF
		case first && s.missing(sc), !s.head.progressive && s.scarce(sc):
			return errMissing
		}
	}
	return nil
}

// pixels runs the decoder. Should it panic, what it was about is dropped with the
// stream; the library then clears every field and table of the decoder that it
// takes back, as it does after each picture.
func (s *stream) pixels(scale int) (img image.Image, err error) {
	defer guard(&err)
	img, err = jpegn.Decode(s, &jpegn.Options{ScaleDenom: scale, UpsampleMethod: jpegn.CatmullRom})
	if err != nil {
		return nil, fmt.Errorf("the data are damaged: %w", err)
	}
	return img, nil
}
