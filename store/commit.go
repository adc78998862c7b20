package store

import (
	"cmp"
	"errors"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
)

// commit writes what has gathered into the journal or, where that has no room, or the
// time has come, has outbox.db take over all that it does not have.
func (o *Outbox) commit(last bool) error {
	defer o.report()
	o.look()
	err := o.restore()
	if err == nil && !last && o.mayEnter() && o.enter(false) {
		return nil
	}
	var g group
	if err == nil {
		g = o.gather(true, last)
		err = o.file.update(g.write)
	}
	for _, durable := range o.settle(g, err) {
		durable()
	}
	if err == nil {
		o.renewJournal(g, last)
	}
	return err
}

// enter writes what has gathered into the journal, and tells whether that is done. If
// not, outbox.db is to take over everything, also what the journal has: after an
// error nobody knows what that is.
func (o *Outbox) enter(last bool) bool {
	g := o.gather(false, last)
	if err := o.journal.log(g); err != nil {
		if !errors.Is(err, errNoRoom) {
			o.log.Warn("journal of the outbox not written", "err", err)
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		o.giveBack(g)
		return false
	}
	for _, durable := range o.settle(g, nil) {
		durable()
	}
	return true
}

// mayEnter tells whether the journal is good enough for what has gathered.
func (o *Outbox) mayEnter() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	old := !o.pace.logged.IsZero() && time.Since(o.pace.logged) >= takeOverEvery
	return o.pace.fault == nil && !o.numbers.few() && o.done.len() < groupDeletes && !old
}

// renewJournal begins the journal again, as outbox.db has what was in it, and makes it
// anew if it could not be written, but not more often than groups are taken over in
// good times.
func (o *Outbox) renewJournal(taken group, last bool) {
	j := o.journal
	void := j.end > 0
	j.restart(taken.generation)
	var err error
	if j.file != nil && void {
		err = j.mark(taken)
	}
	if j.file == nil && !last && time.Since(j.made) >= takeOverEvery {
		err = j.create(taken)
	}
	if err != nil {
		o.log.Warn("no journal: outbox.db is written for each group, which wears the disk", "err", err)
	}
}

// restore opens the file again if it has to be.
func (o *Outbox) restore() error {
	o.mu.Lock()
	suspect, f := o.pace.suspect, o.file
	o.mu.Unlock()
	if !suspect && f.inPlace() {
		return nil
	}
	return o.reopen()
}

// A group is what one transaction does, or one frame of the journal.
type group struct {
	items      []*item // that it takes in
	puts       []put   // those of them that are of use, in order
	done       deletes
	gaps       []byte // as stored; nil if they did not change
	reserved   uint64
	age        time.Duration
	generation uint64 // of the journal from now on, where outbox.db takes it over; else 0
	journal    int64  // bytes that the journal has from then on; 0: it is not used, or was ended in order
	news       bool   // not all of items are in the journal
	nothing    bool   // is to be written
}

// cutAt returns at most the first n, and those behind them.
func cutAt(seqs []uint64, n int) (first, rest []uint64) {
	n = min(n, len(seqs))
	return seqs[:n:n], seqs[n:]
}

// A put is a record to be written.
type put struct {
	*item
	queued []byte // goes into the queue as that; nil: it does not
}

// gather takes what is to be written: what the journal does not have or, to take over,
// what outbox.db does not have. At an orderly end that is all, whatever room is left:
// what stays in memory would be lost.
func (o *Outbox) gather(takeOver, last bool) (g group) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.expire()
	g.age, g.reserved = o.age.now(), o.numbers.reserved
	changed := o.changed()
	if o.gaps.changed || o.gaps.logged {
		g.gaps = o.gaps.encode()
	}
	o.gaps.changed = false
	if takeOver {
		g.generation, g.reserved = o.journal.generation+1, o.numbers.next+reserve
		if o.journal.file != nil && !last {
			g.journal = o.journal.size
		}
		g.done, o.done = o.done.deletes, dueDeletes{}
	} else {
		g.done = o.done.deletes // also what the journal has: the frame that had it may be damaged
	}
	if last {
		g.reserved = o.numbers.next
	} else if takeOver {
		g.done.records, o.done.records = cutAt(g.done.records, mostDeletes)
	}
	for c := range Class(Classes) {
		o.take(&g, c, takeOver, last || o.written(c))
	}
	slices.SortFunc(g.puts, func(a, b put) int { return cmp.Compare(a.Seq, b.Seq) })
	g.nothing = !g.news && !changed
	return g
}

// take takes the fresh items of a class into a group: for outbox.db all, or those that
// the journal has; for the journal those that it does not have, or none.
func (o *Outbox) take(g *group, c Class, takeOver, all bool) {
	m := &o.memory
	from, to := m.logged[c], m.logged[c]
	if takeOver {
		from = 0
	}
	if all {
		to = len(m.fresh[c])
	}
	for _, it := range m.fresh[c][from:to] {
		g.items = append(g.items, it)
		if queued := o.queue.stored(it.Seq); queued != nil || o.answers.holds(it.Seq) {
			g.puts = append(g.puts, put{it, queued})
		}
	}
	m.inFlight[c], g.news = to, g.news || to > m.logged[c]
}

// giveBack undoes gather.
func (o *Outbox) giveBack(g group) {
	o.memory.inFlight = [Classes]int{}
	if g.generation > 0 {
		for c, seqs := range g.done.queue {
			o.done.queue[c] = append(seqs, o.done.queue[c]...)
		}
		o.done.records, o.done.logged = append(g.done.records, o.done.records...), 0
	}
	o.gaps.changed = o.gaps.changed || g.gaps != nil
}

// write does it in outbox.db.
func (g group) write(tx *bolt.Tx) error {
	records, queue := tx.Bucket([]byte(bucketRecords)), tx.Bucket([]byte(bucketQueue))
	records.FillPercent, queue.FillPercent = fillPercent, fillPercent
	for _, p := range g.puts {
		if err := records.Put(number(p.Seq), encodeRecord(p.Record, p.age)); err != nil {
			return err
		}
		if p.queued == nil {
			continue
		}
		if err := queue.Put(number(p.Seq), p.queued); err != nil {
			return err
		}
	}
	meta := tx.Bucket([]byte(bucketMeta))
	err := errors.Join(deleteAll(queue, slices.Concat(g.done.queue[:]...)), deleteAll(records, g.done.records),
		meta.Put([]byte(keyReserved), number(g.reserved)), meta.Put([]byte(keyAge), number(uint64(g.age))))
	if err == nil && g.generation > 0 {
		err = errors.Join(meta.Put([]byte(keyGeneration), number(g.generation)),
			meta.Put([]byte(keyJournal), number(uint64(g.journal))))
	}
	if err == nil && g.gaps != nil {
		err = meta.Put([]byte(keyGaps), g.gaps)
	}
	return err
}

func deleteAll(b *bolt.Bucket, seqs []uint64) error {
	for _, seq := range seqs {
		if err := b.Delete(number(seq)); err != nil {
			return err
		}
	}
	return nil
}

// settle takes note of how the commit of g went, and returns whom to tell.
func (o *Outbox) settle(g group, err error) (durable []func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err != nil {
		o.giveBack(g)
		o.fail(err)
		return nil
	}
	o.settleState(g)
	for _, p := range g.puts {
		o.settlePut(p)
	}
	for _, it := range g.items {
		if g.generation > 0 && !o.queue.holds(it.Seq) {
			o.memory.bytes -= it.cost()
		}
		if it.held {
			it.held = false
			o.wakeReader()
		}
		if it.durable != nil {
			durable = append(durable, it.durable)
			it.durable = nil
		}
	}
	o.succeed(g)
	return durable
}

// settleState notes where what was written is now.
func (o *Outbox) settleState(g group) {
	if g.generation > 0 {
		o.memory.store()
		o.gaps.logged, o.pace.logged = false, time.Time{}
		return
	}
	o.memory.log()
	o.done.logged = g.done.len()
	o.gaps.logged = o.gaps.logged || g.gaps != nil
	if o.pace.logged.IsZero() && !g.nothing {
		o.pace.logged = time.Now()
	}
}

// settlePut has a record deleted that was of use when it was written, and is not any
// more.
func (o *Outbox) settlePut(p put) {
	waits := o.queue.holds(p.Seq)
	if p.queued != nil && !waits {
		o.dequeue(p.Stream.Class(), p.Seq)
	}
	if !waits && !o.answers.holds(p.Seq) {
		o.unstore(p.Seq)
	}
}
