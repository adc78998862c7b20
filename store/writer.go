package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"
)

// When a commit is due. An answer may have been delivered already: it is written all
// the same, as the same job must get it again. Deletes can wait: what was delivered is
// at worst delivered again.
const (
	groupRecords = 64                    // fresh records, or
	groupBytes   = 256 << 10             // bytes of them, or
	groupDeletes = 4096                  // deletes, or
	mostDeletes  = 4 * groupDeletes      // of records in one commit, which takes memory for their pages
	groupAge     = 20 * time.Millisecond // since the first of the records, or
	hurryAge     = 5 * time.Millisecond  // since then with
	hurryRecords = 16                    // records, for a broker that awaits acknowledgements before it sends more, or
	hurryBytes   = journalBlock          // bytes of them, for waiting saves no more; or
	lazyEvery    = 2 * time.Second       // since the first delete

	// takeOverEvery is how long groups gather in the journal at most before outbox.db
	// takes them over.
	takeOverEvery = time.Minute

	firstRetry = 100 * time.Millisecond // after a fault, doubled each time
	lastRetry  = 10 * time.Second
)

// fillPercent packs pages full, as keys only ever come at the end.
const fillPercent = 0.95

// pace decides when to commit.
type pace struct {
	kick    chan struct{} // tells Run to look again
	wake    chan struct{} // closed when there is something for Collect; nil if nobody waits
	since   time.Time     // of the first change beside records that is not durable
	logged  time.Time     // of the first group in the journal that outbox.db does not have; zero if there is none
	alarm   time.Time     // when Run will look again; zero if when kicked
	fault   error         // of the last commit
	suspect bool          // the file has to be opened again
	backoff time.Duration
	retry   time.Time
	ended   bool // Run has returned

	reported bool // that there is a fault, or too little room

	compact      time.Time // when to see whether the file is to be compacted; zero: not before the next commit
	compactAgain time.Time // not before, after it was not possible
}

// begin notes the time of the first change beside records, before it is made.
func (o *Outbox) begin() {
	if !o.changed() {
		o.pace.since = time.Now()
	}
}

// changed tells whether there is something to write beside records.
func (o *Outbox) changed() bool { return o.done.len() > o.done.logged || o.gaps.changed }

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
	records, size, came := o.pending()
	if records >= groupRecords || size >= min(groupBytes, o.opts.Memory/2) || o.done.len() >= groupDeletes ||
		o.numbers.few() {
		return time.Now(), true
	}
	sooner := func(when time.Time) {
		if !ok || when.Before(at) {
			at, ok = when, true
		}
	}
	wait := groupAge
	if records >= hurryRecords || size >= hurryBytes {
		wait = hurryAge
	}
	if records > 0 {
		sooner(came.Add(wait))
	}
	if o.changed() {
		sooner(p.since.Add(lazyEvery))
	}
	if !p.logged.IsZero() {
		sooner(p.logged.Add(takeOverEvery))
	}
	if o.space.tight && o.memory.count() > 0 {
		sooner(o.space.looked.Add(lookEvery))
	}
	return at, ok
}

// pending returns the number and size of the records that the next commit writes, as far
// as it takes to know that it is due, and when the oldest of them came.
func (o *Outbox) pending() (records int, size int64, came time.Time) {
	for c := range Class(Classes) {
		fresh := o.memory.unlogged(c)
		if len(fresh) == 0 || !o.written(c) {
			continue
		}
		if at := o.age.at(fresh[0].age); records == 0 || at.Before(came) {
			came = at
		}
		records += len(fresh)
		for _, it := range fresh[:min(groupRecords, len(fresh))] {
			size += it.size()
		}
	}
	return records, size, came
}

// wakeWriter has Run look again if it would otherwise do so too late.
func (o *Outbox) wakeWriter() {
	at, ok := o.due()
	if !ok || !o.pace.alarm.IsZero() && !at.Before(o.pace.alarm) {
		return
	}
	o.pace.alarm = at
	select {
	case o.pace.kick <- struct{}{}:
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
		case <-o.pace.kick:
		case <-timer.C:
		case copy := <-c.done:
			o.exchange(&c, copy)
		}
		if o.isToLook() {
			o.look()
			o.report()
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

func (o *Outbox) isToLook() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	at, ok := o.nextLook()
	return ok && !at.After(time.Now())
}

func (o *Outbox) setAlarm() (time.Time, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	at, ok := o.due()
	if c, idle := o.compactable(); idle && (!ok || c.Before(at)) {
		at, ok = c, true
	}
	if l, scarce := o.nextLook(); scarce && (!ok || l.Before(at)) {
		at, ok = l, true
	}
	o.pace.alarm = at
	return at, ok
}

// finish makes the last commit. Where outbox.db cannot take it, the journal gets as much
// as it has room for, and the count of the rest: on a full disk its room is its own.
func (o *Outbox) finish() error {
	o.mu.Lock()
	o.pace.ended = true
	o.mu.Unlock()
	err := o.commit(true)
	if err == nil {
		return nil
	}
	for o.journal.file != nil && !o.enter(true) && o.evictHalf() {
	}
	return fmt.Errorf("commit outbox before closing: %w", err)
}

func (o *Outbox) succeed(g group) {
	p := &o.pace
	p.since = time.Now()
	o.numbers.reserved = g.reserved
	if g.generation == 0 && !g.nothing || g.news {
		if p.compact = p.since.Add(compactIdle); p.compact.Before(p.compactAgain) {
			p.compact = p.compactAgain
		}
	}
	if p.fault != nil {
		p.fault, p.backoff = nil, 0
		o.wakeReader()
	}
}

// fail notes a fault and when to try again.
func (o *Outbox) fail(err error) {
	p := &o.pace
	p.fault = err
	p.suspect = p.suspect || !noRoom(err)
	p.backoff = min(max(2*p.backoff, firstRetry), lastRetry)
	p.retry = time.Now().Add(p.backoff)
	o.release()
}

// report logs that results and events are not written any more, or again.
func (o *Outbox) report() {
	o.mu.Lock()
	why := o.unwritten()
	changed := o.pace.reported != (why != nil)
	o.pace.reported = why != nil
	o.mu.Unlock()
	if changed && why != nil {
		o.log.Warn("outbox does not write results and events", "err", why)
	} else if changed {
		o.log.Info("outbox writes again")
	}
}

// unwritten is why results and events are not written now, nil if they are.
func (o *Outbox) unwritten() error {
	if o.pace.fault != nil {
		return o.pace.fault
	}
	return o.shortage()
}

// release is for when nothing is written. What was held for its commit is not held any
// more, but for what tells of a gap: that is given up, and told again.
func (o *Outbox) release() {
	for c := range Class(Classes) {
		if o.pace.fault == nil && o.written(c) {
			continue
		}
		for _, it := range slices.Clone(o.memory.unlogged(c)) {
			s, w := o.queue.find(it.Seq)
			if w == nil || !it.held {
				continue
			}
			if it.held = false; it.Job == "" {
				o.lose(s, w, Disk)
			}
			o.wakeReader()
		}
	}
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
