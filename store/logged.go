package store

import (
	"encoding/binary"
	"errors"
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

var errLogged = errors.New("frame of the journal makes no sense")

// appendGroup appends a group as the body of a frame; before is what the frames before
// it had:
//
//	version   1 byte
//	reserved  8 bytes
//	age       8 bytes, nanoseconds of running time
//	before    records, bytes, first and last, by class, as uvarints
//	gaps      one more than their length as uvarint, bytes; 0: they did not change
//	deletes   of the queue and of the records: each their count as uvarint, numbers
//	puts      their count as uvarint, then of each its number, what it is in the queue
//	          like the gaps, the length of the record as uvarint, the record
//
// A number is the difference from the one before it in its list, as varint.
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
	b = appendNumbers(b, g.done.queue)
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

func appendNumbers(b []byte, seqs []uint64) []byte {
	b = binary.AppendUvarint(b, uint64(len(seqs)))
	last := uint64(0)
	for _, seq := range seqs {
		b, last = binary.AppendVarint(b, int64(seq-last)), seq
	}
	return b
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
	g.done.queue, g.done.records = in.numbers(), in.numbers()
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
	last := uint64(0)
	for n := p.items(); n > 0 && !p.bad; n-- {
		last += uint64(p.difference())
		seqs = append(seqs, last)
	}
	return seqs
}
