package store

import (
	"cmp"
	"slices"
)

// deletes are the keys a commit is to remove.
type deletes struct {
	queue   []uint64
	records []uint64
}

func (d deletes) len() int    { return len(d.queue) + len(d.records) }
func (d deletes) empty() bool { return d.len() == 0 }

func (g *Gap) add(seq uint64, size int64) {
	if g.Records == 0 {
		g.First, g.Last = seq, seq
	}
	g.First, g.Last = min(g.First, seq), max(g.Last, seq)
	g.Records++
	g.Bytes += size
}

// stored tells whether a record that exists has been committed.
func (o *Outbox) stored(seq uint64) bool { return len(o.fresh) == 0 || seq < o.fresh[0].Seq }

// freshItem returns the item that waits for its commit, nil if it does not.
func (o *Outbox) freshItem(seq uint64) *item {
	i, ok := slices.BinarySearchFunc(o.fresh, seq, func(it *item, seq uint64) int {
		return cmp.Compare(it.Seq, seq)
	})
	if !ok {
		return nil
	}
	return o.fresh[i]
}

// trim brings the outbox back within its bounds.
func (o *Outbox) trim() {
	for o.bytes > o.opts.Quota {
		o.lose(o.queue.first())
	}
	for seq, over := o.answers.surplus(); over; seq, over = o.answers.surplus() {
		o.forget(seq)
	}
	for o.memory > o.opts.Memory && o.cutTail() {
	}
	for o.memory > freshShare*o.opts.Memory && len(o.fresh) > o.inFlight+1 {
		o.evict(o.inFlight)
	}
}

// leave takes a record out of the queue. One that is fresh stays in memory
// until the next commit has seen that it need not be written.
func (o *Outbox) leave(w *waiting) {
	if o.stored(w.seq) {
		o.unstore(w.seq, true, !o.answers.holds(w.seq))
		if w.item != nil {
			o.memory -= w.item.cost()
		}
	}
	w.gone, w.item = true, nil
	o.count--
	o.bytes -= w.size
}

// lose takes a record out of the queue that was not delivered.
func (o *Outbox) lose(w *waiting) {
	o.gap.add(w.seq, w.size)
	if it := o.freshItem(w.seq); it != nil && !o.answers.holds(w.seq) {
		it.durable = nil
	}
	o.leave(w)
}

// forget drops an answer.
func (o *Outbox) forget(seq uint64) {
	o.answers.drop(seq)
	if o.stored(seq) && !o.queue.holds(seq) {
		o.unstore(seq, false, true)
	}
}

// unstore has the next commit delete a record from the queue on the disk, the
// record itself, or both.
func (o *Outbox) unstore(seq uint64, queue, record bool) {
	o.pace.begin(len(o.fresh) == 0 && o.done.empty())
	if queue {
		o.done.queue = append(o.done.queue, seq)
	}
	if record {
		o.done.records = append(o.done.records, seq)
	}
}

// cutTail leaves the oldest record that is in memory and on the disk to the
// disk, and tells whether there was one.
func (o *Outbox) cutTail() bool {
	for i := o.queue.search(o.tail); i < len(o.queue.elems); i++ {
		w := &o.queue.elems[i]
		if !o.stored(w.seq) {
			return false
		}
		o.tail = w.seq + 1
		if w.item != nil {
			o.memory -= w.item.cost()
			w.item = nil
			return true
		}
	}
	return false
}

// evict gives up a fresh record altogether, with the answer it may be: the disk
// does not keep up, and the memory is full.
func (o *Outbox) evict(i int) {
	it := o.fresh[i]
	if w := o.queue.find(it.Seq); w != nil {
		o.lose(w)
	}
	o.answers.drop(it.Seq)
	o.memory -= it.cost()
	o.fresh = slices.Delete(o.fresh, i, i+1)
}

// expire drops the answers whose time is over, as many as one commit should
// carry.
func (o *Outbox) expire() {
	now := o.age.now()
	for range 4 * groupRecords {
		seq, over := o.answers.expired(now)
		if !over {
			return
		}
		o.forget(seq)
	}
}

// forgetStored is for after the file was replaced by an empty one. What is in
// memory is fresh again, the rest is lost.
func (o *Outbox) forgetStored() {
	var again []*item
	for i := range o.queue.elems {
		w := &o.queue.elems[i]
		switch {
		case w.gone || !o.stored(w.seq):
		case w.item != nil:
			again = append(again, w.item)
		default:
			o.lose(w)
		}
	}
	o.fresh = append(again, o.fresh...)
	for _, k := range o.answers.log.elems {
		if !k.gone && o.freshItem(k.seq) == nil {
			o.answers.drop(k.seq)
		}
	}
	o.done = deletes{}
}
