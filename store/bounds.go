package store

// deletes are the keys a commit is to remove.
type deletes struct {
	queue   []uint64
	records []uint64
}

func (d deletes) len() int    { return len(d.queue) + len(d.records) }
func (d deletes) empty() bool { return d.len() == 0 }

// A dueDeletes list is what outbox.db is to remove. The journal has some of it already.
type dueDeletes struct {
	deletes
	loggedQueue, loggedRecords int // of queue and records, how many from the first
}

// unlogged returns what the journal does not have.
func (d dueDeletes) unlogged() deletes {
	return deletes{d.queue[d.loggedQueue:], d.records[d.loggedRecords:]}
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
		o.unstore(w.seq, true, !answers)
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
		o.gaps.retell(w.seq)
	}
	if it := o.memory.find(w.seq); it != nil && !o.answers.holds(w.seq) {
		it.durable = nil
	}
	o.leave(s, w)
}

// settleGap forgets what a record told of that was delivered.
func (o *Outbox) settleGap(seq uint64) {
	o.begin()
	o.gaps.settle(seq)
}

// forget drops an answer.
func (o *Outbox) forget(seq uint64) {
	o.answers.drop(seq)
	switch {
	case o.queue.holds(seq):
	case o.memory.durable(seq):
		o.unstore(seq, false, true)
	default:
		o.discard(seq)
	}
}

// unstore has the next commit delete a record from the queue on the disk, the
// record itself, or both.
func (o *Outbox) unstore(seq uint64, queue, record bool) {
	o.begin()
	if queue {
		o.done.queue = append(o.done.queue, seq)
	}
	if record {
		o.done.records = append(o.done.records, seq)
	}
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
