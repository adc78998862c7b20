package frame

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
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
		if has.id != id || slices.Contains(sc.planes[:i], p) {
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
	return !dc || !slices.ContainsFunc(table[16:], func(v byte) bool { return v > 15 })
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

// standardCodes are the Huffman tables of T.81, annex K.3, as a DHT segment has
// them, for luminance and chrominance: those that frames without tables mean.
// They are for DC where class is 0, for AC where it is 1.
func standardCodes(class, table int) []byte {
	return []byte([2][2]string{
		{
			"\x00\x01\x05\x01\x01\x01\x01\x01\x01\x00\x00\x00\x00\x00\x00\x00" +
				"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b",
			"\x00\x03\x01\x01\x01\x01\x01\x01\x01\x01\x01\x00\x00\x00\x00\x00" +
				"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b",
		}, {
			"\x00\x02\x01\x03\x03\x02\x04\x03\x05\x05\x04\x04\x00\x00\x01\x7d" +
				"\x01\x02\x03\x00\x04\x11\x05\x12\x21\x31\x41\x06\x13\x51\x61\x07\x22\x71" +
				"\x14\x32\x81\x91\xa1\x08\x23\x42\xb1\xc1\x15\x52\xd1\xf0\x24\x33\x62\x72" +
				"\x82\x09\x0a\x16\x17\x18\x19\x1a\x25\x26\x27\x28\x29\x2a\x34\x35\x36\x37" +
				"\x38\x39\x3a\x43\x44\x45\x46\x47\x48\x49\x4a\x53\x54\x55\x56\x57\x58\x59" +
				"\x5a\x63\x64\x65\x66\x67\x68\x69\x6a\x73\x74\x75\x76\x77\x78\x79\x7a\x83" +
				"\x84\x85\x86\x87\x88\x89\x8a\x92\x93\x94\x95\x96\x97\x98\x99\x9a\xa2\xa3" +
				"\xa4\xa5\xa6\xa7\xa8\xa9\xaa\xb2\xb3\xb4\xb5\xb6\xb7\xb8\xb9\xba\xc2\xc3" +
				"\xc4\xc5\xc6\xc7\xc8\xc9\xca\xd2\xd3\xd4\xd5\xd6\xd7\xd8\xd9\xda\xe1\xe2" +
				"\xe3\xe4\xe5\xe6\xe7\xe8\xe9\xea\xf1\xf2\xf3\xf4\xf5\xf6\xf7\xf8\xf9\xfa",
			"\x00\x02\x01\x02\x04\x04\x03\x04\x07\x05\x04\x04\x00\x01\x02\x77" +
				"\x00\x01\x02\x03\x11\x04\x05\x21\x31\x06\x12\x41\x51\x07\x61\x71\x13\x22" +
				"\x32\x81\x08\x14\x42\x91\xa1\xb1\xc1\x09\x23\x33\x52\xf0\x15\x62\x72\xd1" +
				"\x0a\x16\x24\x34\xe1\x25\xf1\x17\x18\x19\x1a\x26\x27\x28\x29\x2a\x35\x36" +
				"\x37\x38\x39\x3a\x43\x44\x45\x46\x47\x48\x49\x4a\x53\x54\x55\x56\x57\x58" +
				"\x59\x5a\x63\x64\x65\x66\x67\x68\x69\x6a\x73\x74\x75\x76\x77\x78\x79\x7a" +
				"\x82\x83\x84\x85\x86\x87\x88\x89\x8a\x92\x93\x94\x95\x96\x97\x98\x99\x9a" +
				"\xa2\xa3\xa4\xa5\xa6\xa7\xa8\xa9\xaa\xb2\xb3\xb4\xb5\xb6\xb7\xb8\xb9\xba" +
				"\xc2\xc3\xc4\xc5\xc6\xc7\xc8\xc9\xca\xd2\xd3\xd4\xd5\xd6\xd7\xd8\xd9\xda" +
				"\xe2\xe3\xe4\xe5\xe6\xe7\xe8\xe9\xea\xf2\xf3\xf4\xf5\xf6\xf7\xf8\xf9\xfa",
		},
	}[class][table])
}
