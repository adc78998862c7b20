package frame

import (
	"bytes"
	"errors"
	"fmt"
)

// addScan takes the header of a scan, writes it anew, and takes its data.
func (s *stream) addScan(seg segment, c *cursor) error {
	if len(s.scans) == maxScans {
		return fmt.Errorf("jpeg: more than %d scans", maxScans)
	}
	var sc scan
	if err := sc.read(seg.body, s); err != nil {
		return err
	}
	s.putHeader(&sc, seg.whole)
	if sc.high > 0 || sc.from > 0 {
		s.passData(c)
		s.scans = append(s.scans, sc)
		return nil
	}
	for _, p := range sc.planes[:sc.n] {
		if s.covered&(1<<p) != 0 {
			return errors.New("two scans of one component")
		}
		s.covered |= 1 << p
	}
	s.addData(&sc, c)
	s.scans = append(s.scans, sc)
	return nil
}

// passData takes the coded data of a scan that refines a picture, as they are.
func (s *stream) passData(c *cursor) {
	before := c.left
	for c.entropy(); len(c.left) >= 2 && c.left[1]&^7 == markRST0; c.entropy() {
		c.take(2)
	}
	s.part(before[:len(before)-len(c.left)])
}

// read judges the header of a scan.
func (sc *scan) read(b []byte, s *stream) error {
	if len(b) < 1 || b[0] < 1 || b[0] > 4 || len(b) != 4+2*int(b[0]) {
		return errors.New("a scan header of the wrong length")
	}
	sc.n, sc.interval = int(b[0]), s.interval
	for i := range sc.n {
		if err := sc.choose(i, b[1+2*i], b[2+2*i], s); err != nil {
			return err
		}
	}
	if s.head.progressive {
		last := b[len(b)-2]
		sc.from, sc.high, sc.low = b[len(b)-3], b[len(b)-1]>>4, b[len(b)-1]&15
		if sc.from > last || last > 63 || sc.from == 0 && last > 0 || sc.from > 0 && sc.n > 1 || sc.high > 13 || sc.low > 13 {
			return errors.New("a progressive scan that cannot be")
		}
	}
	if err := sc.checkCodes(b, s.head.progressive); err != nil {
		return err
	}
	return sc.layOut(&s.head)
}

// layOut counts the units of the scan.
func (sc *scan) layOut(h *jpegHeader) error {
	if sc.n == 1 {
		p := h.planes[sc.planes[0]]
		sc.units = p.wide * p.high
		return nil
	}
	if n := sc.blocks(h); n > maxUnit {
		return fmt.Errorf("%d blocks in a unit, at most %d may be", n, maxUnit)
	}
	sc.units = h.wide * h.high
	return nil
}

// blocks is the number of blocks in a unit.
func (sc *scan) blocks(h *jpegHeader) (n int) {
	if sc.n == 1 {
		return 1
	}
	for _, i := range sc.planes[:sc.n] {
		n += h.planes[i].across * h.planes[i].down
	}
	return n
}

// choose finds component i of the scan, which is none of those before it, and its
// tables.
func (sc *scan) choose(i int, id, tables byte, s *stream) error {
	for p, has := range s.head.planes {
		taken := false
		for _, earlier := range sc.planes[:i] {
			taken = taken || earlier == p
		}
		if has.id != id || taken {
			continue
		}
		sc.planes[i], sc.quant[i] = p, s.quants[has.table]
		if sc.quant[i] == 0 {
			return errors.New("a quantization table is missing")
		}
		dc, ac := tables>>4, tables&15
		if dc > 3 || ac > 3 {
			return errors.New("a Huffman table that cannot be")
		}
		sc.codes[0][i], sc.codes[1][i] = s.table(0, dc), s.table(1, ac)
		return nil
	}
	return fmt.Errorf("a scan of component %d, which is none", id)
}

// table is a Huffman table in force: the standard's where none was defined.
func (s *stream) table(class int, id byte) []byte {
	if s.codes[class][id] == nil && id < 2 {
		return standardCodes(class, int(id))
	}
	return s.codes[class][id]
}

// checkCodes tells which Huffman tables that the scan needs are missing or no
// tables. A code of ones alone is none, says libjpeg too.
func (sc *scan) checkCodes(b []byte, progressive bool) error {
	for i := range sc.n {
		for class, table := range [2]byte{b[2+2*i] >> 4, b[2+2*i] & 15} {
			if progressive && (sc.high > 0 && class == 0 || (sc.from == 0) != (class == 0)) {
				continue
			}
			switch codes := sc.codes[class][i]; {
			case codes == nil:
				return fmt.Errorf("table %d of Huffman codes is missing", table)
			case !prefixFree(codes, class == 0):
				return fmt.Errorf("table %d of Huffman codes cannot be", table)
			}
		}
	}
	return nil
}

// prefixFree tells whether a table's counts of codes by length, 1 to 16 bits,
// leave the code of ones alone free; its values follow.
func prefixFree(table []byte, dc bool) bool {
	code := 0
	for i, n := range table[:16] {
		if code += int(n); n > 0 && code >= 2<<i {
			return false
		}
		code <<= 1
	}
	for _, v := range table[16:] {
		if dc && v > 15 {
			return false
		}
	}
	return true
}

// putHeader writes the header of the scan for the decoder.
func (s *stream) putHeader(sc *scan, whole []byte) {
	at := len(s.own)
	s.put(whole...)
	out := s.own[at:]
	for i, p := range sc.planes[:sc.n] {
		out[5+2*i] = byte(p + 1)
	}
	if !s.head.progressive { // where libjpeg does not care
		copy(out[len(out)-3:], "\x00\x3f\x00")
	}
}

// addData takes the coded data of a scan that makes a picture, by restart interval.
func (s *stream) addData(sc *scan, c *cursor) {
	runs := 1
	if sc.interval > 0 {
		runs = over(sc.units, sc.interval)
	}
	for sc.first = len(s.data); ; {
		data := c.entropy()
		s.ends = len(c.left) >= 2
		if !s.ends {
			data = unpadded(data)
		}
		s.data = append(s.data, data)
		s.part(data)
		if !s.head.progressive {
			s.part(s.ones)
		}
		sc.runs++
		if sc.runs == runs || !s.ends || c.left[1]&^7 != markRST0 {
			return
		}
		s.part(c.take(2))
	}
}

// unpadded is the data of a frame without end but for the zeros after them, of
// which two may be data.
func unpadded(data []byte) []byte {
	const kept = 2
	end := len(bytes.TrimRight(data, "\x00"))
	return data[:min(end+kept, len(data))]
}
