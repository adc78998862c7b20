package store

import "time"

// ageUnit is what waiting.age counts.
const ageUnit = time.Second

// controlShare is the part of the quota that is for records of the class Controls
// alone: one in so many.
const controlShare = 20

// shared returns how many bytes all but the class Controls may take together.
func (o *OutboxOptions) shared() int64 { return o.Quota - o.Quota/controlShare }

// own returns how many bytes a class may take by a limit of its own; 0: it has none.
func (o *OutboxOptions) own(c Class) int64 { return [Classes]int64{o.Results, o.Events, 0}[c] }

// room returns how many bytes the records of a class may take, the others away.
func (o *OutboxOptions) room(c Class) int64 {
	if c == Controls {
		return o.Quota
	}
	if own := o.own(c); own > 0 {
		return min(o.shared(), own)
	}
	return o.shared()
}

// keep returns how long a record of the class may wait; 0: for ever.
func (o *OutboxOptions) keep(c Class) time.Duration {
	return [Classes]time.Duration{o.ResultsAge, o.EventsAge, 0}[c]
}

// surplus returns a class whose oldest record is to go, and why; false if all is
// within its limits. Of the classes that share the quota the least goes first.
func (o *Outbox) surplus() (c Class, why Loss, ok bool) {
	q := &o.queue
	var size [Classes]int64
	for c := range Class(Classes) {
		size[c] = q.bytes(c)
	}
	for c := range Class(Classes) {
		if own := o.opts.own(c); own > 0 && size[c] > own {
			return c, Quota, true
		}
	}
	if o.opts.Count > 0 && q.count(Results) > o.opts.Count {
		return Results, Count, true
	}
	others := size[Results] + size[Events]
	if others <= o.opts.shared() && others+size[Controls] <= o.opts.Quota {
		return 0, 0, false
	}
	for c := range Class(Classes) {
		if q.count(c) > 0 {
			return c, Quota, true
		}
	}
	return 0, 0, false
}

// expire gives up what waited too long, and drops the answers whose time is over,
// as many as one commit should carry.
func (o *Outbox) expire() {
	now := o.age.now()
	for range groupDeletes {
		s, w, at := o.nextExpiry()
		if w == nil || at > now {
			break
		}
		o.lose(s, w, Age)
	}
	for range groupDeletes {
		seq, over := o.answers.expired(now)
		if !over {
			return
		}
		o.forget(seq)
	}
}

// nextExpiry returns the record whose time is over first, and the running time when
// it is; nil if there is none. The oldest of each stream are looked at, no others.
func (o *Outbox) nextExpiry() (s Stream, first *waiting, at time.Duration) {
	for of := range Stream(Streams) {
		keep := o.opts.keep(of.Class())
		if keep == 0 {
			continue
		}
		w := o.queue.lines[of].first()
		if w == nil {
			continue
		}
		if over := time.Duration(w.age)*ageUnit + keep; first == nil || over < at {
			s, first, at = of, w, over
		}
	}
	return s, first, at
}

// deletes are the keys a commit is to remove.
type deletes struct {
	queue   [Classes][]uint64
	records []uint64
}

func (d deletes) len() int {
	n := len(d.records)
	for _, seqs := range d.queue {
		n += len(seqs)
	}
	return n
}

// A dueDeletes list is what outbox.db is to remove.
type dueDeletes struct {
	deletes
	logged int // how many the journal has
}

// trim brings the outbox back within its bounds.
func (o *Outbox) trim() {
	for c, why, over := o.surplus(); over; c, why, over = o.surplus() {
		s, w := o.queue.worst(c)
		o.queue.lines[s].lost = w.seq
		o.lose(s, w, why)
	}
	for seq, over := o.answers.surplus(); over; seq, over = o.answers.surplus() {
		o.forget(seq)
	}
	for o.memory.bytes > o.opts.Memory && o.cutTail() {
	}
	for o.memory.bytes > freshShare*o.opts.Memory {
		c, ok := o.memory.oldest()
		if !ok {
			return
		}
		o.evict(c)
	}
}

// leave takes a record out of the queue. One that the journal or a commit under way
// has stays in memory until outbox.db could take it over, and an answer until it did.
func (o *Outbox) leave(s Stream, w *waiting) {
	durable, answers := o.memory.durable(w.seq), o.answers.holds(w.seq)
	if durable {
		o.dequeue(s.Class(), w.seq)
		if !answers {
			o.unstore(w.seq)
		}
	}
	if w.item != nil && o.memory.stored(w.seq) {
		o.memory.bytes -= w.item.cost()
	}
	o.queue.lines[s].drop(w)
	if !durable && !answers {
		o.discard(w.seq)
	}
}

// discard lets go of a fresh item that is of no use, unless a commit holds it.
func (o *Outbox) discard(seq uint64) {
	if c, i := o.memory.index(seq); i >= o.memory.kept(c) {
		o.memory.drop(c, i)
	}
}

// lose takes a record out of the queue that was not delivered.
func (o *Outbox) lose(s Stream, w *waiting, why Loss) {
	o.begin()
	o.gaps.add(s.Class(), why, w.seq, w.back, int64(w.size))
	if s == Control {
		o.gaps.retell(w.seq, w.seq)
	}
	if it := o.memory.find(w.seq); it != nil && !o.answers.holds(w.seq) {
		it.durable = nil
	}
	o.leave(s, w)
}

// forget drops an answer.
func (o *Outbox) forget(seq uint64) {
	o.answers.drop(seq)
	switch {
	case o.queue.holds(seq):
	case o.memory.durable(seq):
		o.unstore(seq)
	default:
		o.discard(seq)
	}
}

// dequeue has the next commit delete a record from the queue on the disk.
func (o *Outbox) dequeue(c Class, seq uint64) {
	o.begin()
	o.done.queue[c] = append(o.done.queue[c], seq)
}

// unstore has the next commit delete the record itself.
func (o *Outbox) unstore(seq uint64) {
	o.begin()
	o.done.records = append(o.done.records, seq)
}

// cutTail leaves the oldest record that is in memory and on the disk to the
// disk, and tells whether there was one. What goes out last is left first.
func (o *Outbox) cutTail() bool {
	for _, s := range []Stream{Late, Live, Event, Control} {
		if w := o.cuttable(&o.queue.lines[s]); w != nil {
			o.memory.bytes -= w.item.cost()
			w.item = nil
			return true
		}
	}
	return false
}

// cuttable returns the oldest record of a stream that is in memory and on the disk.
func (o *Outbox) cuttable(l *line) *waiting {
	for i := l.search(l.tail); i < len(l.elems); i++ {
		w := &l.elems[i]
		if w.item != nil && !o.memory.stored(w.seq) {
			return nil
		}
		l.tail = w.seq + 1
		if w.item != nil {
			return w
		}
	}
	return nil
}

// evict gives up the oldest fresh record of a class altogether, with the answer it
// may be: nothing is written, and the memory is full.
func (o *Outbox) evict(c Class) {
	why := Disk
	if o.pace.fault == nil && o.space.tight {
		why = Space
	}
	it := o.memory.fresh[c][o.memory.kept(c)]
	o.answers.drop(it.Seq)
	if s, w := o.queue.find(it.Seq); w != nil {
		o.lose(s, w, why)
		return
	}
	o.discard(it.Seq)
}

// evictHalf gives up half of the records that are in memory only, and tells whether
// there were any to spare.
func (o *Outbox) evictHalf() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := 0
	for c := range Class(Classes) {
		n += len(o.memory.unlogged(c))
	}
	for range n / 2 {
		if c, ok := o.memory.oldest(); ok {
			o.evict(c)
		}
	}
	return n > 1
}

// forgetStored is for after the file was replaced by an empty one. What is in
// memory is fresh again, the rest is lost.
func (o *Outbox) forgetStored(why Loss) {
	var again [Classes][]*item
	for s := range Stream(Streams) {
		l := &o.queue.lines[s]
		for i := range l.elems {
			w := &l.elems[i]
			switch {
			case w.gone || !o.memory.stored(w.seq):
			case w.item != nil:
				again[s.Class()] = append(again[s.Class()], w.item)
			default:
				o.lose(s, w, why)
			}
		}
	}
	o.memory.again(again)
	for _, k := range o.answers.log.elems {
		if !k.gone && o.memory.stored(k.seq) {
			o.answers.drop(k.seq)
		}
	}
	o.done = dueDeletes{}
	o.gaps.changed = true
}
