package store

import "encoding/binary"

// A Stream is a line that records wait in, each in the order of its numbers.
type Stream uint8

// The streams. Their order is part of the file: see queue.stored.
const (
	Late    Stream = iota // results made without the link
	Live                  // results made with it
	Event                 // events that are not urgent
	Control               // acknowledgements, gaps, events of severity error
)

// Streams is how many there are.
const Streams = 4

// A Class is what limits are set for. What is less worth keeping comes first.
type Class uint8

// The classes.
const (
	Results Class = iota
	Events
	Controls
)

// Classes is how many there are.
const Classes = 3

// Class returns the class whose records wait in s.
func (s Stream) Class() Class { return [Streams]Class{Results, Results, Events, Controls}[s] }

// streams returns the lines of a class.
func (c Class) streams() []Stream { return [Classes][]Stream{{Late, Live}, {Event}, {Control}}[c] }

// String is the class as the wire has it.
func (c Class) String() string { return [Classes]string{"result", "event", "control"}[c] }

// A waiting record has not been delivered.
type waiting struct {
	seq  uint64
	item *item  // nil if the record is on the disk only
	size uint32 // bytes of topic and payload
	age  uint32 // seconds of running time when it was appended
	back uint32 // how far before it the record of its class before it is; 0: not known
	gone bool
}

func (w waiting) number() uint64 { return w.seq }
func (w waiting) left() bool     { return w.gone }

// A line is the records that wait in one stream.
type line struct {
	sequence[waiting]
	bytes int64
	tail  uint64 // records numbered below are on the disk only
	sent  uint64 // records numbered up to here were collected
	lost  uint64 // the last record that was lost to a limit
}

func (l *line) push(w waiting) {
	l.sequence.push(w)
	l.bytes += int64(w.size)
}

// drop takes a record out.
func (l *line) drop(w *waiting) {
	w.gone, w.item = true, nil
	l.count--
	l.bytes -= int64(w.size)
}

// unsent returns the oldest record that was not collected, nil if there is none.
func (l *line) unsent() *waiting {
	for i := l.search(max(l.sent, l.lost) + 1); i < len(l.elems); i++ {
		if w := &l.elems[i]; !w.gone {
			return w
		}
	}
	return nil
}

// A queue is all that waits for delivery.
type queue struct {
	lines [Streams]line
	last  [Classes]uint64 // number of the newest record of each class; 0: not known
}

// find returns the record with that number and the stream it waits in, nil if it
// does not wait.
func (q *queue) find(seq uint64) (Stream, *waiting) {
	for s := range q.lines {
		if w := q.lines[s].find(seq); w != nil {
			return Stream(s), w
		}
	}
	return 0, nil
}

func (q *queue) holds(seq uint64) bool {
	_, w := q.find(seq)
	return w != nil
}

// oldest returns the record of a class that waits longest, nil if none waits.
func (q *queue) oldest(c Class) (s Stream, oldest *waiting) {
	for _, of := range c.streams() {
		if w := q.lines[of].first(); w != nil && (oldest == nil || w.seq < oldest.seq) {
			s, oldest = of, w
		}
	}
	return s, oldest
}

// worst returns the record of a class that is to be lost first, nil if none waits: the
// oldest that was not collected. One that was may be with the broker, though nobody
// knows, and would be told as lost; there are few.
func (q *queue) worst(c Class) (s Stream, worst *waiting) {
	for _, of := range c.streams() {
		if w := q.lines[of].unsent(); w != nil && (worst == nil || w.seq < worst.seq) {
			s, worst = of, w
		}
	}
	if worst == nil {
		return q.oldest(c)
	}
	return s, worst
}

// count returns the number of records of a class.
func (q *queue) count(c Class) (n int) {
	for _, s := range c.streams() {
		n += q.lines[s].count
	}
	return n
}

// bytes returns the size of the records of a class.
func (q *queue) bytes(c Class) (n int64) {
	for _, s := range c.streams() {
		n += q.lines[s].bytes
	}
	return n
}

// follow notes a new record of a class, and returns how far before it the one
// before it is; 0 if that is not known.
func (q *queue) follow(c Class, seq uint64) (back uint32) {
	if last := q.last[c]; last > 0 && seq-last <= 1<<32-1 {
		back = uint32(seq - last)
	}
	q.last[c] = seq
	return back
}

// stored returns the form that a record has in the queue on the disk, nil if it does
// not wait: its stream, and how far before it the one before it is. The version before
// wrote nothing there, which reads as Late, and does not look at what is there.
func (q *queue) stored(seq uint64) []byte {
	s, w := q.find(seq)
	if w == nil {
		return nil
	}
	return binary.AppendUvarint([]byte{byte(s)}, uint64(w.back))
}

// parseQueued reads what stored returned. A stream that is not known is that of
// events: they go neither first nor unseen.
func parseQueued(b []byte) (s Stream, back uint32) {
	if len(b) == 0 {
		return Late, 0
	}
	if s = Stream(b[0]); s >= Streams {
		s = Event
	}
	n, k := binary.Uvarint(b[1:])
	if k <= 0 || n > 1<<32-1 {
		n = 0
	}
	return s, uint32(n)
}
