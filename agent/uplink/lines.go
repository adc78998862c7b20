package uplink

import (
	"context"
	"math"
	"time"

	"github.com/limber-edge/limber/store"
)

// Lines that wait for the one publisher: the streams of the outbox, and answers that
// are given again.
const (
	repeats = store.Streams
	lineAll = store.Streams + 1
)

// share is how many messages of a line go in a round.
type share struct{ line, turns int }

// round is the order in which lines have their turns. Orders come first, but have a
// share and not the whole link; while both wait, four live results go for a late one.
// Events have a turn of their own beside the live results: they are few, and about now.
func round() [lineAll]share {
	return [...]share{
		{int(store.Control), 4}, {int(store.Live), 4}, {int(store.Event), 1}, {repeats, 1}, {int(store.Late), 1},
	}
}

// publication is what is to be published.
type publication struct {
	store.Record
	repeat bool     // it is an answer given again, and none of those that wait
	fetch  bool     // it asks for a part of a blob, and nobody waits for its outcome
	acks   []func() // of such a one, when the broker has it
}

// lines choose what goes next. They belong to one goroutine, for one connection.
type lines struct {
	outbox  *store.Outbox
	again   <-chan publication
	fetches <-chan publication
	aside   []publication // of these, left over from the last connection
	pace    pace

	ahead  [store.Streams][]store.Record // collected and not sent
	after  [store.Streams]uint64         // collected up to here
	dry    [store.Streams]bool           // nothing more, before more is closed
	more   <-chan struct{}               // nil: nothing is dry
	credit [lineAll]int                  // turns left in this round
}

// next returns what goes next, when there is something. Its only error is ctx's.
func (l *lines) next(ctx context.Context) (publication, error) {
	for {
		l.collect()
		if m, ok := l.choose(); ok {
			return m, nil
		}
		select {
		case <-l.more:
		case <-l.paced():
		case m := <-l.again:
			return m, nil
		case m := <-l.fetches:
			return m, nil
		case <-ctx.Done():
			return publication{}, ctx.Err()
		}
	}
}

// collect looks for records of the streams that have none ahead.
func (l *lines) collect() {
	if l.more != nil && closed(l.more) {
		l.more, l.dry = nil, [store.Streams]bool{}
	}
	for s := range l.ahead {
		if len(l.ahead[s]) > 0 || l.dry[s] {
			continue
		}
		records, more := l.outbox.Collect(store.Stream(s), l.after[s], inFlight)
		if len(records) > 0 {
			l.ahead[s], l.after[s] = records, records[len(records)-1].Seq
			continue
		}
		l.dry[s] = true
		if l.more == nil {
			l.more = more // closed by whatever comes to any stream after this look
		}
	}
}

// choose takes from the line whose turn it is, among those that may send now. Asks for
// blobs have no share: they go when nothing else may.
func (l *lines) choose() (m publication, ok bool) {
	for range 2 { // the second with a new round
		for _, s := range round() {
			if l.credit[s.line] == 0 {
				continue
			}
			if m, ok = l.take(s.line); ok {
				l.credit[s.line]--
				return m, true
			}
		}
		for _, s := range round() {
			l.credit[s.line] = s.turns
		}
	}
	select {
	case m = <-l.fetches:
		return m, true
	default:
		return m, false
	}
}

// take takes the first of a line. Records that were given up since they were collected
// are passed over: they are told of as lost.
func (l *lines) take(line int) (m publication, ok bool) {
	if line == repeats {
		if len(l.aside) > 0 {
			m, l.aside = l.aside[0], l.aside[1:]
			return m, true
		}
		select {
		case m = <-l.again:
			return m, true
		default:
			return m, false
		}
	}
	for len(l.ahead[line]) > 0 {
		first, late := l.ahead[line][0], line == int(store.Late)
		if late && l.pace.wait() > 0 {
			return m, false
		}
		l.ahead[line] = l.ahead[line][1:]
		if !l.outbox.Waits(first.Seq) {
			continue
		}
		if late {
			l.pace.spend(len(first.Topic) + len(first.Payload))
		}
		return publication{Record: first}, true
	}
	return m, false
}

// paced is closed when late results may go again; nil where none waits for that.
func (l *lines) paced() <-chan time.Time {
	if len(l.ahead[store.Late]) == 0 {
		return nil
	}
	return time.After(l.pace.wait())
}

// pace bounds how fast late results are sent.
type pace struct {
	each     time.Duration // for one; 0: no bound
	byte     float64       // nanoseconds for one byte; 0: no bound
	strained func() bool   // whether the link is
	due      time.Time     // of the next one
}

// paceAhead is how far behind its time a pace may be and still catch up: timers are
// that late.
const paceAhead = 20 * time.Millisecond

// newPace is one that begins after a while.
func newPace(perSecond int, bytesPerSecond int64, strained func() bool, after time.Duration) pace {
	p := pace{strained: strained, due: time.Now().Add(after)}
	if perSecond > 0 {
		p.each = time.Second / time.Duration(perSecond)
	}
	if bytesPerSecond > 0 {
		p.byte = float64(time.Second) / float64(bytesPerSecond)
	}
	return p
}

// wait is how long it takes until the next may go; 0 is now.
func (p *pace) wait() time.Duration { return max(0, time.Until(p.due)) }

// spend counts one that goes now.
func (p *pace) spend(bytes int) {
	cost := max(p.each, time.Duration(math.Ceil(p.byte*float64(bytes))))
	if cost == 0 {
		return
	}
	if p.strained() {
		cost *= 2
	}
	if earliest := time.Now().Add(-paceAhead); p.due.Before(earliest) {
		p.due = earliest
	}
	p.due = p.due.Add(cost)
}
