package store

import (
	"encoding/binary"
	"errors"
	"slices"
	"time"
)

// A classCount counts the records of a class that went into the queue through the frames
// of a journal. Each frame bears what those before it had, so that one that cannot be
// read is missed.
type classCount struct {
	records     uint64
	bytes       uint64
	first, last uint64 // their numbers; 0: there are none
}

// tallies are by class.
type tallies [Classes]classCount

// without leaves out of what was missing what waits no more: it was delivered, or is told
// elsewhere. Which numbers are left is not known then.
func (g *Gap) without(done []uint64) {
	gone := 0
	for _, seq := range done {
		if g.First <= seq && seq <= g.Last {
			gone++
		}
	}
	if gone > 0 {
		g.Bytes -= g.Bytes * int64(gone) / int64(g.Records)
		g.Records, g.Mixed = g.Records-gone, true
	}
}

// add counts the records of a group that wait.
func (t *tallies) add(g group) {
	for _, p := range g.puts {
		if p.queued == nil {
			continue
		}
		one := &t[p.Stream.Class()]
		if one.records == 0 {
			one.first = p.Seq
		}
		one.records, one.bytes, one.last = one.records+1, one.bytes+uint64(p.size()), p.Seq
	}
}

// missing returns what was counted in t and not in what was found.
func (t *tallies) missing(found tallies) (gaps []Gap) {
	for c := range Class(Classes) {
		all, have := t[c], found[c]
		if all.records <= have.records {
			continue
		}
		g := Gap{Class: c, Reason: Damage, Records: int(all.records - have.records), Bytes: int64(all.bytes - have.bytes),
			First: all.first, Last: all.last}
		if have.records > 0 {
			g.First = have.last + 1
		}
		gaps = append(gaps, g)
	}
	return gaps
}

// loggedVersion is the first byte of a body. One of another version is left alone.
const loggedVersion = 1

// mostNumbers is how many a list of a frame has at most: more do not fit in memory.
const mostNumbers = 1 << 20

var errLogged = errors.New("frame of the journal makes no sense")

// appendGroup appends a group as the body of a frame; before is what the frames before
// it had:
//
//	version   1 byte
//	reserved  8 bytes
//	age       8 bytes, nanoseconds of running time
//	before    records, bytes, first and last, by class, as uvarints
//	gaps      one more than their length as uvarint, bytes; 0: they did not change
//	deletes   of the queue, by class, and of the records: of each the count of runs, and
//	          of each run how far behind the one before it it begins, and its length, as
//	          uvarints
//	puts      their count as uvarint, then of each its number as varint, less the one
//	          before it, what it is in the queue like the gaps, the length of the record as
//	          uvarint, the record
func appendGroup(b []byte, g group, before tallies) []byte {
	b = append(b, loggedVersion)
	b = binary.BigEndian.AppendUint64(b, g.reserved)
	b = binary.BigEndian.AppendUint64(b, uint64(g.age))
	for _, t := range before {
		for _, n := range [...]uint64{t.records, t.bytes, t.first, t.last} {
			b = binary.AppendUvarint(b, n)
		}
	}
	b = appendMaybe(b, g.gaps)
	for _, seqs := range g.done.queue {
		b = appendNumbers(b, seqs)
	}
	b = appendNumbers(b, g.done.records)
	b = binary.AppendUvarint(b, uint64(len(g.puts)))
	last := uint64(0)
	for _, p := range g.puts {
		b = appendMaybe(binary.AppendVarint(b, int64(p.Seq-last)), p.queued)
		record := encodeRecord(p.Record, p.age)
		b = append(binary.AppendUvarint(b, uint64(len(record))), record...)
		last = p.Seq
	}
	return b
}

// appendMaybe appends bytes that may be none.
func appendMaybe(b, some []byte) []byte {
	if some == nil {
		return binary.AppendUvarint(b, 0)
	}
	return append(binary.AppendUvarint(b, uint64(len(some))+1), some...)
}

// appendNumbers appends numbers in order, as runs.
func appendNumbers(b []byte, seqs []uint64) []byte {
	seqs = slices.Sorted(slices.Values(seqs))
	var runs []byte
	n, end := uint64(0), uint64(0)
	for len(seqs) > 0 {
		first, length := seqs[0], uint64(1)
		for seqs = seqs[1:]; len(seqs) > 0 && seqs[0] == first+length; seqs = seqs[1:] {
			length++
		}
		runs = binary.AppendUvarint(binary.AppendUvarint(runs, first-end), length)
		n, end = n+1, first+length
	}
	return append(binary.AppendUvarint(b, n), runs...)
}

// parseGroup reads what appendGroup wrote. What it returns is a part of b.
func parseGroup(b []byte) (g group, before tallies, err error) {
	if len(b) > 0 && b[0] != loggedVersion {
		return group{}, tallies{}, errVersion
	}
	in := parser{b: b}
	in.take(1)
	g.reserved = parseNumber(in.take(8))
	g.age = time.Duration(parseNumber(in.take(8)))
	for c := range before {
		before[c] = classCount{in.count(), in.count(), in.count(), in.count()}
	}
	g.gaps = in.maybe()
	for c := range g.done.queue {
		g.done.queue[c] = in.numbers()
	}
	g.done.records = in.numbers()
	last := uint64(0)
	for n := in.items(); n > 0 && !in.bad; n-- {
		last += uint64(in.difference())
		queued, record := in.maybe(), in.take(in.count())
		r, age, err := decodeRecord(last, record)
		if err != nil {
			return group{}, tallies{}, err
		}
		if queued != nil {
			r.Stream, _ = parseQueued(queued)
		}
		g.puts = append(g.puts, put{&item{Record: r, age: age}, queued})
	}
	if in.bad || len(in.b) > 0 {
		return group{}, tallies{}, errLogged
	}
	return g, before, nil
}

// A parser takes what was stored from the front.
type parser struct {
	b   []byte
	bad bool // it ended too soon, or makes no sense
}

// take returns the next n bytes, none if there are fewer.
func (p *parser) take(n uint64) []byte {
	if n > uint64(len(p.b)) {
		p.bad, p.b = true, nil
		return nil
	}
	var head []byte
	head, p.b = p.b[:n:n], p.b[n:]
	return head
}

func (p *parser) count() uint64 {
	n, k := binary.Uvarint(p.b)
	if k <= 0 {
		p.bad, p.b = true, nil
		return 0
	}
	p.b = p.b[k:]
	return n
}

// items is the count of a list, of which each item takes a byte at least.
func (p *parser) items() uint64 {
	n := p.count()
	if n > uint64(len(p.b)) {
		p.bad = true
		return 0
	}
	return n
}

func (p *parser) difference() int64 {
	n, k := binary.Varint(p.b)
	if k <= 0 {
		p.bad, p.b = true, nil
		return 0
	}
	p.b = p.b[k:]
	return n
}

func (p *parser) maybe() []byte {
	n := p.count()
	if n == 0 {
		return nil
	}
	return p.take(n - 1)
}

func (p *parser) numbers() (seqs []uint64) {
	end := uint64(0)
	for n := p.items(); n > 0 && !p.bad; n-- {
		first, length := end+p.count(), p.count()
		if first < end || length > mostNumbers-uint64(len(seqs)) || first+length < first {
			p.bad = true
			return nil
		}
		for end = first; end < first+length; end++ {
			seqs = append(seqs, end)
		}
	}
	return seqs
}
