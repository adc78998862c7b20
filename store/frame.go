package store

import (
	"bytes"
	"crypto/subtle"
	"encoding/binary"
)

const (
	journalSector = 512 // bytes of which a disk writes all or none

	// A sector has its part of the body, then: the generation, 8 bytes; the length of the
	// whole body, 4; which sector of its frame it is, 4; CRC32C, 4, over where it is in the
	// file and all of the others.
	sectorTail = 8 + 4 + 4 + 4
	sectorBody = journalSector - sectorTail
)

// frameSize is what a frame takes in the file: its body, zeros up to whole blocks, and in
// the last sector the sum of the others.
func frameSize(body int) int64 {
	sectors := (int64(body)+sectorBody-1)/sectorBody + 1
	return (sectors*journalSector + journalBlock - 1) / journalBlock * journalBlock
}

// appendFrame appends the frame that goes where at is in the file.
func appendFrame(b []byte, generation uint64, body []byte, at int64) []byte {
	length, end := uint32(len(body)), at+frameSize(len(body))
	sum := make([]byte, sectorBody)
	for i := uint32(0); at < end; i, at = i+1, at+journalSector {
		start := len(b)
		b = append(b, make([]byte, sectorBody)...)
		content := b[start:]
		if at+journalSector < end {
			body = body[copy(content, body):]
		} else {
			copy(content, sum)
		}
		subtle.XORBytes(sum, sum, content)
		b = binary.BigEndian.AppendUint64(b, generation)
		b = binary.BigEndian.AppendUint32(b, length)
		b = binary.BigEndian.AppendUint32(b, i)
		b = binary.BigEndian.AppendUint32(b, checksum(number(uint64(at)), b[start:]))
	}
	return b
}

// A sector is a part of a frame.
type sector struct {
	content    []byte // of the body
	generation uint64
	frame      int64 // where it begins in the file
	length     int   // bytes of the whole body
}

// parseSector reads the sector that is where at is in the file b. ok is false if it is
// none, or is damaged.
func parseSector(b []byte, at int64) (s sector, ok bool) {
	if at < 0 || at+journalSector > int64(len(b)) {
		return sector{}, false
	}
	all := b[at : at+journalSector]
	content, tail := all[:sectorBody], all[sectorBody:]
	u32 := func(at int) uint32 { return binary.BigEndian.Uint32(tail[at:]) }
	if checksum(number(uint64(at)), all[:journalSector-4]) != u32(16) {
		return sector{}, false
	}
	s = sector{content, binary.BigEndian.Uint64(tail), at - int64(u32(12))*journalSector, int(u32(8))}
	end := s.frame + frameSize(s.length)
	return s, s.frame >= 0 && s.frame%journalBlock == 0 && at < end && end <= int64(len(b))
}

// A frame as it was found in the file.
type frame struct {
	at, end int64
	body    []byte
	whole   bool
	torn    bool // a sector of it was not written
}

// findFrame returns the frame of a generation of which the block where at is has a sector.
func findFrame(b []byte, at int64, generation uint64) (f frame, ok bool) {
	for end := at + journalBlock; at < end; at += journalSector {
		if s, ok := parseSector(b, at); ok && s.generation == generation {
			return readFrame(b, s), true
		}
	}
	return frame{}, false
}

// readFrame reads the frame that a sector is of. One sector of it may be missing.
func readFrame(b []byte, of sector) frame {
	f := frame{at: of.frame, end: of.frame + frameSize(of.length)}
	missing, sum := []int{}, make([]byte, sectorBody)
	for at := f.at; at < f.end; at += journalSector {
		s, ok := parseSector(b, at)
		if !ok || s.generation != of.generation || s.frame != of.frame {
			f.torn = f.torn || ok || len(bytes.Trim(b[at:at+journalSector], "\x00")) == 0
			missing = append(missing, len(f.body))
			s.content = make([]byte, sectorBody)
		}
		subtle.XORBytes(sum, sum, s.content)
		f.body = append(f.body, s.content...)
	}
	if f.whole = len(missing) < 2; len(missing) == 1 {
		copy(f.body[missing[0]:], sum)
	}
	f.body = f.body[:of.length]
	return f
}

// frames returns the bodies of the frames of a generation, with that of the mark, and
// whether one behind the last of them is lost. Behind a bad block it looks on: each
// frame was begun when the one before was on the disk, so one behind a bad one tells of
// damage, and is as good as before.
func frames(b []byte, generation uint64) (bodies [][]byte, lost bool) {
	room := int64(len(b)) - journalBlock
	if f, ok := findFrame(b, room, generation); ok && f.whole {
		bodies = append(bodies, f.body)
	}
	end := int64(0) // of the frame before
	for at := int64(0); at < room; {
		f, ok := findFrame(b, at, generation)
		if !ok {
			at += journalBlock
			continue
		}
		at, lost = f.end, lost || f.at > end
		switch {
		case f.whole:
			bodies, lost, end = append(bodies, f.body), false, f.end
		case !f.torn:
			lost, end = true, f.end
		}
	}
	return bodies, lost
}

// lastGeneration is the newest that a frame bears, and with the mark; 0 if there is none.
func lastGeneration(b []byte) (ofFrame, last uint64) {
	for at := int64(0); at < int64(len(b)); at += journalSector {
		s, ok := parseSector(b, at)
		if !ok {
			continue
		}
		if last = max(last, s.generation); at < int64(len(b))-journalBlock {
			ofFrame = last
		}
	}
	return ofFrame, last
}
