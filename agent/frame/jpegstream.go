package frame

import (
	"encoding/binary"
	"errors"
	"io"
)

// maxScans is the limit on the scans of a JPEG. Encoders write about ten; each
// one goes over the whole picture, however few bytes it has.
const maxScans = 100

// maxUnit is the limit on the blocks of an MCU (T.81, B.2.3).
const maxUnit = 10

// ones are coded data that no Huffman code begins with. At them the decoder
// gives up and leaves the blocks that it still wants as they are, zeros, where
// it would make them up at a marker. They are longer than a code with its value,
// which may straddle their beginning, and one more code.
const ones = "\xff\x00\xff\x00\xff\x00\xff\x00\xff\x00\xff\x00\xff\x00\xff\x00"

// scan is one pass over a JPEG.
type scan struct {
	n           int          // components
	planes      [4]int       // which
	codes       [2][4][]byte // Huffman tables of each, DC and AC
	quant       [4]int       // the factor of the DC of each
	from, high  byte         // first coefficient, and bits that earlier scans gave
	low         byte         // bits that later scans will give
	interval    int          // units between restart markers
	units       int          // MCUs, or blocks if there is one component
	first, runs int          // its restart intervals, of stream.data
}

// stream is a JPEG written anew, for a decoder that the odd one leads astray:
// only what the pixels are made of is in it, the components are numbered, their
// colours are those that libjpeg sees, and what follows the picture is left out.
// It is an io.Reader.
type stream struct {
	head     jpegHeader
	scans    []scan
	data     [][]byte     // of the scans, by restart interval
	ends     bool         // a marker follows the data, that of the end if progressive
	covered  byte         // components that have a scan of their DC, a bit each
	quants   [4]int       // the factor of the DC in each quantization table
	codes    [2][4][]byte // Huffman tables, DC and AC; nil is the standard's
	interval int
	parts    [][]byte // in order
	next     int      // part to read
	own      []byte   // what was written anew
	ones     []byte
	left     int // bytes to read
}

// read goes through a JPEG. Nothing is allocated for pixels.
func (s *stream) read(body []byte) error {
	c := cursor{left: body}
	if err := s.head.read(&c); err != nil {
		return err
	}
	s.start()
	for c.left = body; !s.whole(); {
		seg, err := c.next()
		if errors.Is(err, io.ErrUnexpectedEOF) && len(s.scans) > 0 {
			s.ends = false
			break
		} else if err != nil {
			return err
		}
		if s.ends = seg.marker == markEOI; s.ends {
			break
		}
		if err := s.add(seg, &c); err != nil {
			return err
		}
	}
	s.put(0xff, markEOI)
	return s.check()
}

// whole tells whether the pixels are known: a baseline picture is done when each
// component had its scan.
func (s *stream) whole() bool { return !s.head.progressive && s.covered == 1<<len(s.head.planes)-1 }

// check tells what is missing of a whole picture, as far as that can be seen
// without the coded data.
func (s *stream) check() error {
	switch {
	case s.head.progressive && !s.ends:
		return io.ErrUnexpectedEOF
	case s.covered != 1<<len(s.head.planes)-1:
		return errMissing
	}
	return nil
}

// start writes the beginning, with Adobe's marker where the colours need it.
func (s *stream) start() {
	s.put(0xff, markSOI)
	if n := len(s.head.planes); n == 4 || n == 3 && s.head.colours() == 0 {
		s.put(0xff, markAPPE, 0, 14, 'A', 'd', 'o', 'b', 'e', 0, 100, 0, 0, 0, 0, s.head.colours())
	}
	at := len(s.own)
	s.own = append(s.own, ones...)
	s.ones = s.own[at:]
}

// put appends bytes that belong to nobody else.
func (s *stream) put(b ...byte) {
	at := len(s.own)
	s.own = append(s.own, b...)
	s.part(s.own[at:])
}

func (s *stream) part(b []byte) {
	s.parts = append(s.parts, b)
	s.left += len(b)
}

// add takes a segment, and the coded data of a scan.
func (s *stream) add(seg segment, c *cursor) error {
	switch seg.marker {
	case markDQT:
		s.part(seg.whole)
		return s.addQuants(seg.body)
	case markDHT:
		s.part(seg.whole)
		return s.addCodes(seg.body)
	case markDRI:
		if len(seg.body) != 2 {
			return errors.New("a restart interval of the wrong length")
		}
		s.part(seg.whole)
		s.interval = int(binary.BigEndian.Uint16(seg.body))
	case markSOF0, markSOF1, markSOF2:
		if len(s.scans) > 0 {
			return errors.New("two frame headers")
		}
		s.part(s.renumbered(seg.whole, 10, 3))
	case markSOS:
		return s.addScan(seg, c)
	}
	return nil
}

// renumbered is a copy of a frame header, whose components, every step bytes from
// the byte at on, count from 1.
func (s *stream) renumbered(whole []byte, at, step int) []byte {
	from := len(s.own)
	s.own = append(s.own, whole...)
	for i := range s.head.planes {
		s.own[from+at+i*step] = byte(i + 1)
	}
	if len(s.head.planes) == 1 {
		s.own[from+at+1] = 1<<4 | 1 // where factors mean nothing
	}
	return s.own[from:]
}

// addQuants takes the first value of each table; the decoder reads the rest.
func (s *stream) addQuants(b []byte) error {
	for len(b) > 0 {
		wide, id := int(b[0]>>4), b[0]&15
		if wide > 1 || id > 3 || len(b) < 65+64*wide {
			return errors.New("a quantization table that cannot be")
		}
		s.quants[id] = int(b[1])
		if wide == 1 {
			s.quants[id] = int(binary.BigEndian.Uint16(b[1:]))
		}
		s.quants[id] = max(s.quants[id], 1)
		b = b[65+64*wide:]
	}
	return nil
}

func (s *stream) addCodes(b []byte) error {
	for len(b) > 0 {
		if len(b) < 17 || b[0]>>4 > 1 || b[0]&15 > 3 {
			return errors.New("a Huffman table that cannot be")
		}
		n := 17
		for _, count := range b[1:17] {
			n += int(count)
		}
		if n > len(b) || n > 17+256 {
			return errors.New("a Huffman table of the wrong length")
		}
		s.codes[b[0]>>4][b[0]&15], b = b[1:n:n], b[n:]
	}
	return nil
}

// Read gives the bytes of the stream.
func (s *stream) Read(p []byte) (n int, err error) {
	for n < len(p) && s.next < len(s.parts) {
		k := copy(p[n:], s.parts[s.next])
		n += k
		if s.parts[s.next] = s.parts[s.next][k:]; len(s.parts[s.next]) == 0 {
			s.next++
		}
	}
	if s.left -= n; n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

// Len is the number of bytes left to read; who knows it allocates once.
func (s *stream) Len() int { return s.left }

// forget lets go of the frame's bytes and keeps the room, unless it is that of an
// odd frame.
func (s *stream) forget() {
	const usual = 4096 // restart intervals are a line of MCUs, or none
	if cap(s.parts) > usual {
		*s = stream{}
		return
	}
	clear(s.parts[:cap(s.parts)])
	clear(s.scans[:cap(s.scans)])
	clear(s.data[:cap(s.data)])
	*s = stream{scans: s.scans[:0], data: s.data[:0], parts: s.parts[:0], own: s.own[:0]}
}
