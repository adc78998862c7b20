// Package logbook keeps a log of what a governor was asked and what it decided,
// and repeats it with the same outcome, bit for bit.
//
//	caller ──▶ Book ──▶ Governor
//	            │ a line for each call
//	            ▼
//	          buffer ── full, or a second old (Due) ──▶ Log.Run ──▶ decisions.log, decisions.log.1
//	            └── no room, or the disk failed ──▶ dropped and counted; a second later a new segment
//
// A log is text, a line for each call, in segments that can be repeated alone:
//
//	L {...}                the header: who wrote it, and the names of the members
//	S {...}                the governor's Snapshot
//	A now                  Arrive
//	H competitors          Hint, in logs of programs that read the load
//	D now slack floor overhead decode ready waiting,... = member batch reason shed chance predicted operating
//	O now member images latency   Observe
//	R met                  Ended: 1 in time, 0 not
//	M "mode"               SetMode of a named mode
//	G deadline floor watts preference    SetMode of one of figures
//	E 0110                 SetEligible
//	P idle active          SetPower
//	B member latency       SetBatch
//	X {...}                Remember
//	C 1a2b3c4d             checksum of the lines since the last one, or the header
//
// Times are nanoseconds on the governor's clock; slack and what waits count from
// now. A float is the shortest text that reads back as the same bits. This is
// format 3; in format 2, which is read as well, a D line has no decode.
//
// The one rule: a line is written only after all lines of its segment, so that
// whatever is in a file can be repeated. Hence a buffer that finds no room takes
// the rest of its segment with it; and no call ever waits for the disk.
package logbook

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/limber-edge/limber/agent/governor"
)

// Book is a governor whose calls are written down. Like a Governor it has one
// owner. Its methods are those of the Governor but for Hint, which is for replays,
// and as cheap if there is no log; what changes nothing is not written.
type Book struct {
	*governor.View
	gov *governor.Governor // that the view is of
	pen *pen               // nil: nothing is written
}

// New opens a book for a governor. Without a log, which is nil, it only passes
// its calls on. A log has one book.
func New(g *governor.Governor, log *Log) *Book {
	b := &Book{View: &g.View, gov: g}
	if log != nil {
		b.pen = newPen(log)
	}
	return b
}

// Close hands over what was written last, and lets the log's Run end. What is
// asked after it is not written.
func (b *Book) Close() {
	if b.pen != nil {
		b.pen.close()
		b.pen = nil
	}
}

// Due yields a value when calls have waited in the buffer for a second and no
// other came that could have handed them over: the owner then calls Flush. It
// never does without a log.
func (b *Book) Due() <-chan time.Time {
	if b.pen == nil {
		return nil
	}
	return b.pen.due.C
}

// Flush hands over what waits in the buffer. It does not wait for the disk.
func (b *Book) Flush() {
	if b.pen != nil {
		b.pen.flush()
	}
}

// writes tells whether the next call, at now, is to be written.
func (b *Book) writes(now time.Duration) bool { return b.pen != nil && b.pen.ready(b.gov, now) }

// Arrive is Governor.Arrive.
func (b *Book) Arrive(now time.Duration) {
	if b.writes(now) {
		b.pen.begin('A').duration(now).end()
	}
	b.gov.Arrive(now)
}

// Decide is Governor.Decide.
func (b *Book) Decide(now time.Duration, q governor.Queue) governor.Decision {
	if !b.writes(now) {
		return b.gov.Decide(now, q)
	}
	b.pen.begin('D').queue(now, q)
	d := b.gov.Decide(now, q)
	b.pen.word("=").decision(d).end()
	return d
}

// Observe is Governor.Observe.
func (b *Book) Observe(now time.Duration, member, images int, latency time.Duration) {
	if b.writes(now) {
		b.pen.begin('O').duration(now).whole(member).whole(images).duration(latency).end()
	}
	b.gov.Observe(now, member, images, latency)
}

// Ended notes what became of the job that was decided last. The governor does
// not want to know; who reads the log does.
func (b *Book) Ended(met bool) {
	if b.writes(0) {
		b.pen.begin('R').flags(met).end()
	}
}

// SetMode is Governor.SetMode. Like the others that may be refused it is written
// after the fact, in a segment that begins before it.
func (b *Book) SetMode(m governor.Mode) error {
	writes := b.writes(0)
	err := b.gov.SetMode(m)
	if err == nil && writes {
		b.pen.mode(m)
	}
	return err
}

// SetEligible is Governor.SetEligible.
func (b *Book) SetEligible(eligible []bool) error {
	writes := b.writes(0)
	err := b.gov.SetEligible(eligible)
	if err == nil && writes {
		b.pen.begin('E').flags(eligible...).end()
	}
	return err
}

// SetBatch is Governor.SetBatch.
func (b *Book) SetBatch(member int, latency time.Duration) error {
	writes := b.writes(0)
	err := b.gov.SetBatch(member, latency)
	if err == nil && writes {
		b.pen.begin('B').whole(member).duration(latency).end()
	}
	return err
}

// SetPower is Governor.SetPower.
func (b *Book) SetPower(p governor.Power) {
	if b.writes(0) {
		b.pen.begin('P').float(p.Idle).float(p.Active).end()
	}
	b.gov.SetPower(p)
}

// Remember is Governor.Remember.
func (b *Book) Remember(e governor.Experience) error {
	if !b.writes(0) {
		return b.gov.Remember(e)
	}
	text, err := json.Marshal(e)
	if err != nil { // not a number: the governor refuses it, too
		return fmt.Errorf("experience: %w", err)
	}
	if err := b.gov.Remember(e); err != nil {
		return err
	}
	b.pen.begin('X').word(string(text)).end()
	return nil
}
