package store

import (
	"context"
	"errors"
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
}

// begin notes the time of the first change.
func (p *pace) begin(first bool) {
	if first {
		p.since = time.Now()
	}
}

// due returns when the next commit is to be made, if there is anything to do.
func (o *Outbox) due() (at time.Time, ok bool) {
	p := &o.pace
	switch {
	case p.fault != nil:
		return p.retry, true
	case len(o.fresh) == 0 && o.done.empty():
		return time.Time{}, false
	case o.full():
		return time.Now(), true
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

// full tells whether enough has gathered for a commit.
func (o *Outbox) full() bool {
	if len(o.fresh) >= groupRecords || o.done.len() >= groupDeletes {
		return true
	}
	var size int64
	for _, it := range o.fresh {
		size += it.size()
	}
	return size >= min(groupBytes, o.opts.Memory/2)
}

// urgent returns when the oldest record came that waits both for its commit and
// for delivery. The time counts from that record and not from the first change:
// over a link that is up the broker's acknowledgement comes within groupAge, and
// then nobody waits.
func (o *Outbox) urgent() (came time.Time, ok bool) {
	for _, it := range o.fresh {
		if o.queue.holds(it.Seq) {
			return o.age.at(it.age), true
		}
	}
	return time.Time{}, false
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
	for {
		select {
		case <-ctx.Done():
			return o.finish()
		case <-o.kick:
		case <-timer.C:
		}
		for ctx.Err() == nil && o.isDue() {
			o.commit(false)
		}
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
	o.pace.alarm = at
	return at, ok
}

// finish makes the last commit.
func (o *Outbox) finish() error {
	o.mu.Lock()
	o.ended = true
	o.mu.Unlock()
	if err := o.commit(true); err != nil {
		return fmt.Errorf("commit outbox before closing: %w", err)
	}
	return nil
}

// commit writes what has gathered in one transaction.
func (o *Outbox) commit(last bool) error {
	err := o.restore()
	var g group
	if err == nil {
		g = o.gather(last)
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
	items    []*item // of o.fresh, from the first
	puts     []put   // those of them that are worth writing
	done     deletes
	reserved uint64
	age      time.Duration
	needless bool // nothing to write
}

type put struct {
	*item
	waits bool // goes into the queue, too
}

func (o *Outbox) gather(last bool) group {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.expire()
	g := group{items: slices.Clone(o.fresh), done: o.done, reserved: o.next + reserve, age: o.age.now()}
	for _, it := range g.items {
		waits := o.queue.holds(it.Seq)
		if waits || o.answers.holds(it.Seq) {
			g.puts = append(g.puts, put{it, waits})
		}
	}
	o.inFlight = len(g.items)
	o.done = deletes{}
	if last {
		g.reserved = o.next
	}
	g.needless = !last && len(g.puts) == 0 && g.done.empty() && o.pace.fault == nil &&
		o.reserved-o.next > reserve/2 // else there will be no numbers left to give out
	return g
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
		if !p.waits {
			continue
		}
		if err := queue.Put(number(p.Seq), nil); err != nil {
			return err
		}
	}
	if err := deleteAll(queue, g.done.queue); err != nil {
		return err
	}
	if err := deleteAll(records, g.done.records); err != nil {
		return err
	}
	return putProgress(tx, g.reserved, g.age)
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
	o.inFlight = 0
	if err != nil {
		o.done.queue = append(g.done.queue, o.done.queue...)
		o.done.records = append(g.done.records, o.done.records...)
		o.fail(err)
		return nil
	}
	o.fresh = slices.Delete(o.fresh, 0, len(g.items))
	for _, p := range g.puts {
		o.settlePut(p)
	}
	for _, it := range g.items {
		if w := o.queue.find(it.Seq); w == nil {
			o.memory -= it.cost()
		}
		if it.durable != nil {
			durable = append(durable, it.durable)
			it.durable = nil
		}
	}
	o.succeed(g)
	return durable
}

// settlePut has a record deleted that was of use when it was written, and is
// not any more.
func (o *Outbox) settlePut(p put) {
	waits, answers := o.queue.holds(p.Seq), o.answers.holds(p.Seq)
	dequeue, drop := p.waits && !waits, !waits && !answers
	if dequeue || drop {
		o.unstore(p.Seq, dequeue, drop)
	}
}

func (o *Outbox) succeed(g group) {
	p := &o.pace
	p.since = time.Now()
	if g.needless {
		return
	}
	o.reserved = g.reserved
	p.committed = p.since
	if p.fault != nil {
		o.log.Info("outbox writes again")
		p.fault, p.backoff = nil, 0
		o.wakeReader()
	}
}

// fail notes a fault and when to try again.
func (o *Outbox) fail(err error) {
	p := &o.pace
	if p.fault == nil {
		o.log.Warn("outbox lost its disk", "err", err)
	}
	p.fault = err
	p.suspect = p.suspect || !noRoom(err)
	p.backoff = min(max(2*p.backoff, firstRetry), lastRetry)
	p.retry = time.Now().Add(p.backoff)
}

// noRoom tells whether a write was refused without harm to what is there. bbolt
// does not wrap all errors of the system; their text is always at the end.
func noRoom(err error) bool {
	if errors.Is(err, errUnusable) {
		return true
	}
	for _, refusal := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG, syscall.EROFS} {
		if strings.HasSuffix(err.Error(), refusal.Error()) {
			return true
		}
	}
	return false
}
