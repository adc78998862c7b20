package logbook

import (
	"encoding/json"
	"fmt"
	"hash/crc32"
	"runtime"
	"strconv"
	"time"

	"github.com/limber-edge/limber/agent/governor"
)

const (
	chunkSize = 32 << 10    // bytes of lines that are handed over together
	chunkRoom = 4 << 10     // more than the longest usual line, so that no buffer grows
	chunkAge  = time.Second // after which fewer are
	pause     = time.Second // after a loss, before a new segment: its snapshot takes a while
)

// pen writes lines into a buffer and hands it over to the Log. Its methods but
// for the first few append a word to the line that begin began, with a space.
type pen struct {
	log    *Log
	buf    []byte
	calls  int           // lines in buf that are calls
	begins bool          // buf begins a segment
	open   bool          // the segment can be continued
	size   int           // bytes of the segment that were handed over
	now    time.Duration // of the last call that had a time
	begun  time.Duration // when the first call of buf was
	due    *time.Timer   // set then, fires when buf is to be handed over
	rest   time.Duration // no new segment before
}

func newPen(l *Log) *pen {
	p := &pen{log: l, buf: <-l.free, due: time.NewTimer(chunkAge)}
	p.due.Stop()
	return p
}

// ready tells whether the next call can be written, and begins a segment with
// the state that g is in where one is due.
func (p *pen) ready(g *governor.Governor, now time.Duration) bool {
	p.now = max(p.now, now)
	if p.log.broken.CompareAndSwap(true, false) {
		p.abandon()
	}
	if p.open {
		return true
	}
	if p.now < p.rest || !p.head(g) {
		p.log.lost.Add(1)
		return false
	}
	return true
}

// header is the first line of a segment.
type header struct {
	Format  int      `json:"format"`
	Version string   `json:"version"` // of the program
	Arch    string   `json:"arch"`
	Epoch   int64    `json:"epoch"` // Unix time of the governor's zero, ns
	Lost    uint64   `json:"lost"`  // calls that were not written since the program started
	Members []string `json:"members"`
}

// The format that is written, and the oldest that is read.
const (
	format = 3
	oldest = 2
)

// head begins a segment; false means that the state cannot be written.
func (p *pen) head(g *governor.Governor) bool {
	about := p.log.about
	first, err := json.Marshal(header{Format: format, Version: about.Version, Arch: runtime.GOARCH,
		Epoch: about.Epoch.UnixNano(), Lost: p.log.lost.Load(), Members: about.Members})
	if err != nil {
		return false
	}
	state, err := g.Snapshot()
	if err != nil {
		return false
	}
	p.begin('L').word(string(first)).line()
	p.begin('S').word(string(state)).line()
	p.open, p.begins, p.size = true, true, 0
	return true
}

func (p *pen) begin(kind byte) *pen {
	p.buf = append(p.buf, kind)
	return p
}

// end ends the line of a call, and hands the buffer over if it is time.
func (p *pen) end() {
	p.line()
	if p.calls++; p.calls == 1 {
		p.begun = p.now
		p.due.Reset(chunkAge)
	}
	if len(p.buf) >= chunkSize {
		p.hand()
	} else if p.now-p.begun >= chunkAge && len(p.log.free) > 0 {
		p.hand()
	}
}

// flush hands over the calls in the buffer. There is no hurry: if the writer has
// no other buffer free, it is tried again later.
func (p *pen) flush() {
	switch {
	case p.calls == 0:
	case len(p.log.free) > 0:
		p.hand()
	default:
		p.due.Reset(chunkAge)
	}
}

func (p *pen) line() { p.buf = append(p.buf, '\n') }

// hand hands the buffer over and takes an empty one. If there is none, the
// writer does not keep up, and the rest of the segment is lost.
func (p *pen) hand() {
	select {
	case next := <-p.log.free:
		p.pass()
		p.buf = next
	default:
		p.abandon()
	}
}

// pass hands the buffer over with its checksum. There is room: the log has as
// many places as there are buffers.
func (p *pen) pass() {
	sum := fmt.Sprintf("%08x", crc32.ChecksumIEEE(p.buf))
	p.begin('C').word(sum).line()
	p.log.full <- chunk{text: p.buf, begins: p.begins, calls: p.calls}
	p.size += len(p.buf)
	p.open = p.size < p.log.segment
	p.begins, p.calls = false, 0
}

// abandon drops the buffer and ends the segment.
func (p *pen) abandon() {
	p.log.lost.Add(uint64(p.calls))
	p.buf, p.calls, p.open = p.buf[:0], 0, false
	p.rest = p.now + pause
}

func (p *pen) close() {
	p.due.Stop()
	if len(p.buf) > 0 {
		p.pass()
	}
	close(p.log.full)
}

func (p *pen) space() { p.buf = append(p.buf, ' ') }

func (p *pen) word(s string) *pen {
	p.space()
	p.buf = append(p.buf, s...)
	return p
}

func (p *pen) whole(n int) *pen { return p.duration(time.Duration(n)) }

func (p *pen) duration(d time.Duration) *pen {
	p.space()
	p.buf = strconv.AppendInt(p.buf, int64(d), 10)
	return p
}

func (p *pen) float(f float64) *pen {
	p.space()
	p.buf = strconv.AppendFloat(p.buf, f, 'g', -1, 64)
	return p
}

func (p *pen) flags(set ...bool) *pen {
	p.space()
	for _, s := range set {
		c := byte('0')
		if s {
			c = '1'
		}
		p.buf = append(p.buf, c)
	}
	return p
}

// queue writes what Decide is asked. The deadlines that wait are one word,
// which is "-" if there are none.
func (p *pen) queue(now time.Duration, q governor.Queue) *pen {
	p.duration(now).duration(q.Deadline - now).float(q.Floor).duration(q.Overhead).duration(q.Decode).whole(q.Ready)
	if len(q.Waiting) == 0 {
		return p.word("-")
	}
	for i, due := range q.Waiting {
		separator := byte(',')
		if i == 0 {
			separator = ' '
		}
		p.buf = append(p.buf, separator)
		p.buf = strconv.AppendInt(p.buf, int64(due-now), 10)
	}
	return p
}

func (p *pen) decision(d governor.Decision) *pen {
	return p.whole(d.Member).whole(d.Batch).word(d.Reason.String()).flags(d.Shed).
		float(d.Chance).duration(d.Predicted).whole(d.Operating)
}

func (p *pen) mode(m governor.Mode) {
	if g := m.Goal(); g != (governor.Goal{}) {
		p.begin('G').duration(g.Deadline).float(g.Floor).float(g.Watts).whole(int(g.Prefer)).end()
		return
	}
	p.begin('M').space()
	p.buf = strconv.AppendQuote(p.buf, m.String())
	p.end()
}
