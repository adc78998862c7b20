package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
)

// When a commit is due. One that somebody waits for, because a record has not
// been delivered, is made soon. Answers already delivered and deletes can wait:
// each commit wears the flash by some 20 kB.
const (
	groupRecords = 64                    // fresh records, or
	groupBytes   = 256 << 10             // bytes of them, or
	groupDeletes = 4096                  // deletes, or
	mostDeletes  = 4 * groupDeletes      // of records in one commit, which takes memory for their pages
	groupAge     = 50 * time.Millisecond // since the first of them that waits for delivery,
	lazyEvery    = time.Second           // but so long after the last commit if nobody waits

	firstRetry = 100 * time.Millisecond // after a fault, doubled each time
	lastRetry  = 10 * time.Second
)

// fillPercent packs pages full, as keys only ever come at the end.
const fillPercent = 0.95

// pace decides when to commit.
type pace struct {
	since     time.Time // of the first change not committed
	committed time.Time
	alarm     time.Time // when Run will look again; zero if when kicked
	fault     error     // of the last commit
	suspect   bool      // the file has to be opened again
	backoff   time.Duration
	retry     time.Time
	ended     bool // Run has returned

	compact      time.Time // when to see whether the file is to be compacted; zero: not before the next commit
	compactAgain time.Time // not before, after it was not possible
}

// begin notes the time of the first change, before it is made.
func (o *Outbox) begin() {
	if o.memory.count() == 0 && !o.changed() {
		o.pace.since = time.Now()
	}
}

// changed tells whether there is something to write beside records.
func (o *Outbox) changed() bool { return !o.done.empty() || o.gaps.changed }

// due returns when the next commit is to be made, if there is anything to do.
func (o *Outbox) due() (at time.Time, ok bool) {
	if o.pace.fault != nil {
		return o.pace.retry, true
	}
	at, ok = o.dueWrite()
	if _, w, over := o.nextExpiry(); w != nil && (!ok || o.age.at(over).Before(at)) {
		return o.age.at(over), true
	}
	return at, ok
}

// dueWrite is due without what waits too long.
func (o *Outbox) dueWrite() (at time.Time, ok bool) {
	p := &o.pace
	records, size := o.writable()
	switch {
	case records >= groupRecords, size >= min(groupBytes, o.opts.Memory/2), o.done.len() >= groupDeletes, o.numbers.few():
		return time.Now(), true
	case records == 0 && !o.changed() && o.memory.count() > 0:
		return o.space.looked.Add(lookEvery), true
	case records == 0 && !o.changed():
		return time.Time{}, false
	}
	at = p.since.Add(groupAge)
	if lazy := p.committed.Add(lazyEvery); lazy.After(at) {
		at = lazy
	}
	if came, ok := o.urgent(); ok && came.Add(groupAge).Before(at) {
		at = came.Add(groupAge)
	}
	return at, true
}

// writable returns the number and size of the records that the next commit writes, as
// far as it takes to know that it is due.
func (o *Outbox) writable() (records int, size int64) {
	for c := range Class(Classes) {
		if !o.written(c) {
			continue
		}
		records += len(o.memory.fresh[c])
		for _, it := range o.memory.fresh[c][:min(groupRecords, len(o.memory.fresh[c]))] {
			size += it.size()
		}
	}
	return records, size
}

// urgent returns when the oldest record came that waits both for its commit and
// for delivery. The time counts from that record and not from the first change:
// over a link that is up the broker's acknowledgement comes within groupAge, and
// then nobody waits.
func (o *Outbox) urgent() (came time.Time, ok bool) {
	for c := range Class(Classes) {
		if !o.written(c) {
			continue
		}
		for _, it := range o.memory.fresh[c] {
			if o.queue.holds(it.Seq) {
				if at := o.age.at(it.age); !ok || at.Before(came) {
					came, ok = at, true
				}
				break
			}
		}
	}
	return came, ok
}

// wakeWriter has Run look again if it would otherwise do so too late.
func (o *Outbox) wakeWriter() {
	at, ok := o.due()
	if !ok || !o.pace.alarm.IsZero() && !at.Before(o.pace.alarm) {
		return
	}
	o.pace.alarm = at
	select {
	case o.kick <- struct{}{}:
	default:
	}
}

// Run commits what is appended, until ctx ends; then it commits what is left
// and returns. Whoever appends and delivers should have stopped before: a later
// Append is refused, and what is delivered later will be delivered again. The
// error is that of the last commit; Run outlives all others.
func (o *Outbox) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var c compaction
	for {
		select {
		case <-ctx.Done():
			err := o.finish()
			c.end()
			return err
		case <-o.kick:
		case <-timer.C:
		case copy := <-c.done:
			o.exchange(&c, copy)
		}
		for ctx.Err() == nil && o.isDue() {
			c.outdate()
			o.commit(false)
		}
		o.startCompaction(&c)
		if at, ok := o.setAlarm(); ok {
			timer.Reset(time.Until(at))
		}
	}
}

func (o *Outbox) isDue() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	at, ok := o.due()
	return ok && !at.After(time.Now())
}

func (o *Outbox) setAlarm() (time.Time, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	at, ok := o.due()
	if c, idle := o.compactable(); idle && (!ok || c.Before(at)) {
		at, ok = c, true
	}
	o.pace.alarm = at
	return at, ok
}

// finish makes the last commit.
func (o *Outbox) finish() error {
	o.mu.Lock()
	o.pace.ended = true
	o.mu.Unlock()
	if err := o.commit(true); err != nil {
		return fmt.Errorf("commit outbox before closing: %w", err)
	}
	return nil
}

// commit writes what has gathered in one transaction.
func (o *Outbox) commit(last bool) error {
	o.look()
	err := o.restore()
	var g group
	if err == nil {
		g, err = o.gather(last)
	}
	if err == nil {
		err = g.commit(o.file)
	}
	for _, durable := range o.settle(g, err) {
		durable()
	}
	return err
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

// A group is what one transaction does.
type group struct {
	puts     []put // in order
	done     deletes
	gaps     []byte // as stored; nil if they did not change
	reserved uint64
	age      time.Duration
	needless bool // nothing to write
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

// gather takes what is to be written. At an orderly end that is all, whatever room is
// left: what stays in memory would be lost.
func (o *Outbox) gather(last bool) (g group, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.expire()
	if o.gaps.changed {
		if g.gaps, err = o.gaps.encode(); err != nil {
			return group{}, err
		}
	}
	g.done, g.reserved, g.age = o.done, o.numbers.next+reserve, o.age.now()
	for c := range Class(Classes) {
		if !last && !o.written(c) {
			continue
		}
		for _, it := range o.memory.fresh[c] {
			g.puts = append(g.puts, put{it, o.queue.stored(it.Seq)})
		}
		o.memory.inFlight[c] = len(o.memory.fresh[c])
	}
	slices.SortFunc(g.puts, func(a, b put) int { return cmp.Compare(a.Seq, b.Seq) })
	o.done, o.gaps.changed = deletes{}, false
	if last {
		g.reserved = o.numbers.next
	} else {
		g.done.records, o.done.records = cutAt(g.done.records, mostDeletes)
	}
	g.needless = !last && len(g.puts) == 0 && g.done.empty() && g.gaps == nil && o.pace.fault == nil && !o.numbers.few()
	return g, nil
}

func (g group) commit(f *file) error {
	if g.needless {
		return nil
	}
	return f.update(g.write)
}

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
	return putState(tx, g.done, g.gaps, g.reserved, g.age)
}

// putState stores what there is beside records: gaps are nil if they did not change.
func putState(tx *bolt.Tx, done deletes, gaps []byte, reserved uint64, age time.Duration) error {
	if err := deleteAll(tx.Bucket([]byte(bucketQueue)), done.queue); err != nil {
		return err
	}
	if err := deleteAll(tx.Bucket([]byte(bucketRecords)), done.records); err != nil {
		return err
	}
	if gaps != nil {
		if err := tx.Bucket([]byte(bucketMeta)).Put([]byte(keyGaps), gaps); err != nil {
			return err
		}
	}
	return putProgress(tx, reserved, age)
}

func deleteAll(b *bolt.Bucket, seqs []uint64) error {
	for _, seq := range seqs {
		if err := b.Delete(number(seq)); err != nil {
			return err
		}
	}
	return nil
}

// putProgress stores from where the next process counts numbers and time.
func putProgress(tx *bolt.Tx, reserved uint64, age time.Duration) error {
	meta := tx.Bucket([]byte(bucketMeta))
	if err := meta.Put([]byte(keyReserved), number(reserved)); err != nil {
		return err
	}
	return meta.Put([]byte(keyAge), number(uint64(age)))
}

// settle takes note of how the commit of g went, and returns whom to tell.
func (o *Outbox) settle(g group, err error) (durable []func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err != nil {
		o.memory.inFlight = [Classes]int{}
		o.done.queue = append(g.done.queue, o.done.queue...)
		o.done.records = append(g.done.records, o.done.records...)
		o.gaps.changed = o.gaps.changed || g.gaps != nil
		o.fail(err)
		return nil
	}
	o.memory.settle()
	for _, p := range g.puts {
		if w := o.settlePut(p); w == nil {
			o.memory.bytes -= p.cost()
		}
		if p.held {
			p.held = false
			o.wakeReader()
		}
		if p.durable != nil {
			durable = append(durable, p.durable)
			p.durable = nil
		}
	}
	o.succeed(g)
	return durable
}

// settlePut has a record deleted that was of use when it was written, and is not any
// more. It returns the record if it waits.
func (o *Outbox) settlePut(p put) *waiting {
	_, w := o.queue.find(p.Seq)
	dequeue, drop := p.queued != nil && w == nil, w == nil && !o.answers.holds(p.Seq)
	if dequeue || drop {
		o.unstore(p.Seq, dequeue, drop)
	}
	return w
}

func (o *Outbox) succeed(g group) {
	p := &o.pace
	p.since = time.Now()
	if g.needless {
		return
	}
	o.numbers.reserved = g.reserved
	p.committed, p.compact = p.since, p.since.Add(compactIdle)
	if p.compact.Before(p.compactAgain) {
		p.compact = p.compactAgain
	}
	if p.fault != nil {
		o.log.Info("outbox writes again")
		p.fault, p.backoff = nil, 0
		o.wakeReader()
	}
}

// fail notes a fault and when to try again. What tells of a gap and is not on the
// disk is given up: it would hold up what follows it, and is told again.
func (o *Outbox) fail(err error) {
	p := &o.pace
	if p.fault == nil {
		o.log.Warn("outbox lost its disk", "err", err)
	}
	p.fault = err
	p.suspect = p.suspect || !noRoom(err)
	p.backoff = min(max(2*p.backoff, firstRetry), lastRetry)
	p.retry = time.Now().Add(p.backoff)
	o.loseHeld()
}

// loseHeld gives up the records that are not to be collected before their commit.
func (o *Outbox) loseHeld() {
	held := slices.Clone(o.memory.fresh[Controls])
	for _, it := range held {
		if s, w := o.queue.find(it.Seq); w != nil && it.held {
			o.lose(s, w, Disk)
			o.wakeReader()
		}
	}
}

// noRoom tells whether a write was refused without harm to what is there. bbolt
// does not wrap all errors of the system; their text is always at the end.
func noRoom(err error) bool {
	for _, refusal := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG, syscall.EROFS} {
		if strings.HasSuffix(err.Error(), refusal.Error()) {
			return true
		}
	}
	return false
}
