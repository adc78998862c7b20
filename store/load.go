package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
)

// The buckets of outbox.db. A record is there while it waits in the queue or is
// kept as an answer.
const (
	bucketRecords = "records" // sequence number → record
	bucketQueue   = "queue"   // sequence number of a record that waits → see queue.stored
)

// keyReserved holds, in the meta bucket of outbox.db, the sequence number from
// which the next process counts.
const keyReserved = "reserved"

// keyGaps holds, in the meta bucket of outbox.db, what was lost and not told.
const keyGaps = "gaps"

// reserve is how many sequence numbers a commit sets aside. After a crash the
// numbers go on behind them, so that none is used twice.
const reserve = 1 << 20

// contents is what a file holds, but for the payloads.
type contents struct {
	created bool // just now
	unsure  bool // the meta bucket is damaged
	next    uint64
	age     time.Duration
	queue   queue
	answers answers
	done    deletes // of what is of no use
	gaps    gaps
	foreign bool    // there are records of another version
	wrong   []error // what is left out, and why

	generation uint64 // of the journal; 0: unknown
	logged     bool   // a group was taken over from the journal
	missed     []Gap  // of the journal
	inUse      int64  // bytes that the journal had; 0: it was not used, or ended in order
	journal    int64  // bytes that it is to have
}

// open opens the file and takes in what it holds.
func (o *Outbox) open() error {
	var c contents
	f, quarantined, err := openFile(o.path, o.opts.file(), o.log, func(tx *bolt.Tx) (err error) {
		// Not before the file is locked: until then a process before this one goes on.
		journal, unread := readJournal(o.journal.path)
		if c, err = scan(tx, o.opts.Alias, journal); err != nil {
			return err
		}
		if unread != nil {
			c.wrong = append(c.wrong, fmt.Errorf("the journal cannot be read, or not the whole of it: %w", unread))
		}
		c.judge(journal)
		c.journal = o.journal.size
		if c.unsure {
			c.next = max(c.next, o.unused())
		} else if c.created {
			c.next = max(c.next, o.opts.Floor)
		}
		c.lost(o.opts.Lost)
		if o.opts.uncounted {
			c.uncounted()
		}
		return c.put(tx)
	})
	if err != nil {
		return err
	}
	if quarantined != "" {
		o.quarantined = append(o.quarantined, quarantined)
	}
	f.missed(quarantined == "" && (o.opts.Floor > 0 || c.logged))
	for _, err := range c.wrong {
		f.tell(fmt.Errorf("%s: %w", o.path, err))
	}
	if quarantined != "" || f.away() != nil { // the numbers used so far are gone with the file, or will be
		c.next = max(c.next, o.unused())
		if err := f.write(group{reserved: c.next + reserve, age: c.age}.write); err != nil {
			return errors.Join(fmt.Errorf("reserve numbers in %s: %w", o.path, err), f.close())
		}
	}
	o.file = f
	o.openJournal(c)
	o.takeIn(c)
	return nil
}

// unused returns a number that no process before this one used: from the time, which
// is ahead of them as long as there were less than a million a second, and below 2^53
// for two centuries; or, on a board whose clock is not set, from the floor.
func (o *Outbox) unused() uint64 { return max(uint64(time.Now().Unix())<<20, o.opts.Floor) }

// leftOut notes what cannot be used, to be told.
func (c *contents) leftOut(what string, why error) {
	c.wrong = append(c.wrong, fmt.Errorf("%s and is left out: %w", what, why))
}

// judge tells of a journal that was in use and is not there, or not the whole of it. There
// is a mark in it from when it was made.
func (c *contents) judge(journal []byte) {
	_, newest := lastGeneration(journal)
	if c.unsure || int64(len(journal)) >= c.inUse && (c.inUse == 0 || newest > 0) {
		return
	}
	c.wrong = append(c.wrong, errors.New("outbox.log was removed, cut short or written over: results, events and "+
		"answers of the last minute before this start may be lost, and are not counted"))
}

// lost takes over what was counted elsewhere.
func (c *contents) lost(g Gap) {
	if g.Records > 0 {
		c.gaps.accounts = append(c.gaps.accounts, account{Gap: g})
		c.gaps.changed = true
	}
}

// put writes what the scan found to be of no use, or lost.
func (c *contents) put(tx *bolt.Tx) error {
	g := group{done: c.done, reserved: c.next + reserve, age: c.age, generation: c.generation, journal: c.journal}
	if c.gaps.changed {
		g.gaps = c.gaps.encode()
	}
	return g.write(tx)
}

func (o *Outbox) takeIn(c contents) {
	o.age = newAgeClock(c.age)
	o.numbers = numbers{next: c.next, reserved: c.next + reserve}
	o.queue, o.answers, o.gaps = c.queue, c.answers, c.gaps
	o.gaps.changed = false
	for s := range o.queue.lines {
		o.queue.lines[s].tail = c.next
	}
	if c.foreign {
		o.log.Warn("outbox holds records of another version, which are left alone")
	}
	o.pace.compact = time.Now().Add(compactIdle)
	o.trim()
}

// scan reads the whole file, so that damage is found now; what its journal has is taken
// over before.
func scan(tx *bolt.Tx, alias func(Record) string, journal []byte) (contents, error) {
	c := contents{answers: newAnswers(alias), unsure: trustOf(tx) == broken}
	err := makeBuckets(tx, bucketRecords, bucketQueue, bucketMeta)
	if err == nil && c.unsure {
		err = group{reserved: 1}.write(tx) // the records may tell
	}
	if err == nil {
		err = checkQueue(tx.Bucket([]byte(bucketQueue)))
	}
	if err == nil {
		err = c.replay(tx, journal)
	}
	if err != nil {
		return contents{}, err
	}
	meta := tx.Bucket([]byte(bucketMeta))
	c.age = duration(meta.Get([]byte(keyAge)))
	if c.gaps.accounts, err = parseGaps(meta.Get([]byte(keyGaps))); err != nil {
		c.leftOut("the count of what was lost cannot be read", err)
	}
	for _, g := range c.missed {
		c.lost(g)
		if g.Class == Controls {
			c.gaps.retell(g.First, g.Last)
		}
	}
	queue := newQueueScan(tx)
	err = tx.Bucket([]byte(bucketRecords)).ForEach(func(key, value []byte) error {
		if len(key) != 8 {
			return fmt.Errorf("record under a key of %d bytes: %w", len(key), errDamaged)
		}
		seq := parseNumber(key)
		c.miss(queue.upTo(seq))
		c.record(seq, value, queue.take(seq))
		return nil
	})
	c.miss(queue.upTo(math.MaxUint64))
	c.gaps.delivered(&c.queue)
	return c, err
}

// record takes in one record; q is nil if it does not wait.
func (c *contents) record(seq uint64, value []byte, q *queued) {
	c.next = max(c.next, seq+1)
	r, age, err := decodeRecord(seq, value)
	switch {
	case errors.Is(err, errVersion):
		c.foreign = true
		return
	case err != nil && q != nil:
		c.lose(*q, int64(len(value)))
	case err == nil && q != nil:
		c.queue.lines[q.stream].push(waiting{seq: seq, size: uint32(r.size()), age: uint32(age / ageUnit), back: q.back})
	}
	if err == nil {
		c.age = max(c.age, age)
	}
	if err == nil && r.Job != "" {
		c.answers.add(r, age)
	}
	if err != nil || q == nil && r.Job == "" {
		c.done.records = append(c.done.records, seq)
	}
}

// lose counts a record that waited and cannot be read.
func (c *contents) lose(q queued, size int64) {
	c.gaps.add(q.stream.Class(), Damage, q.seq, q.back, size)
	c.gaps.retell(q.seq, q.seq)
	class := q.stream.Class()
	c.done.queue[class] = append(c.done.queue[class], q.seq)
}

// miss counts queued numbers without a record.
func (c *contents) miss(missing []queued) {
	for _, q := range missing {
		c.lose(q, 0)
		c.next = max(c.next, q.seq+1)
	}
}

// delivered forgets what was told by records that do not wait any more: the version
// before delivers them, too, and does not know gaps.
func (g *gaps) delivered(q *queue) {
	for _, a := range slices.Clone(g.accounts) {
		if a.told > 0 && !q.holds(a.told) {
			g.settle(a.told)
		}
	}
}

// A queued number waits, as far as the queue on the disk tells.
type queued struct {
	seq    uint64
	stream Stream
	back   uint32 // see waiting
}

// checkQueue tells whether the queue has what stored returned. Records have checksums;
// of a number that waits nothing else would tell that its length is another.
func checkQueue(queue *bolt.Bucket) error {
	return queue.ForEach(func(key, value []byte) error {
		if !storable(value) || len(key) != 8 {
			return fmt.Errorf("number of %d bytes waits with %d: %w", len(key), len(value), errDamaged)
		}
		return nil
	})
}

// storable tells whether stored may have returned b, or the version before wrote it.
func storable(b []byte) bool {
	if len(b) == 0 {
		return true
	}
	n, k := binary.Uvarint(b[1:])
	return k == len(b)-1 && n <= math.MaxUint32
}

// A queueScan walks the queue on the disk beside the records.
type queueScan struct {
	cursor     *bolt.Cursor
	key, value []byte
}

func newQueueScan(tx *bolt.Tx) *queueScan {
	s := &queueScan{cursor: tx.Bucket([]byte(bucketQueue)).Cursor()}
	s.key, s.value = s.cursor.First()
	return s
}

// next returns the next number, and passes it.
func (s *queueScan) next() queued {
	q := queued{seq: parseNumber(s.key)}
	q.stream, q.back = parseQueued(s.value)
	s.key, s.value = s.cursor.Next()
	return q
}

// upTo returns the numbers below seq that are left.
func (s *queueScan) upTo(seq uint64) (all []queued) {
	for s.key != nil && parseNumber(s.key) < seq {
		all = append(all, s.next())
	}
	return all
}

// take returns seq if it is the next number, and passes it.
func (s *queueScan) take(seq uint64) *queued {
	if s.key == nil || parseNumber(s.key) != seq {
		return nil
	}
	q := s.next()
	return &q
}

// reopen closes the file and opens it again: after an error other than a full
// disk nobody knows which pages the system has kept.
func (o *Outbox) reopen() error {
	o.mu.Lock()
	old, reserved, age := o.file, o.numbers.reserved, o.age.now()
	o.mu.Unlock()
	o.journal.abandon() // outbox.db takes over everything next, also what is in there
	if err := old.close(); err != nil {
		return err
	}
	var c contents
	f, quarantined, err := openFile(o.path, fileOptions{noSync: o.opts.NoSync}, o.log, func(tx *bolt.Tx) (err error) {
		if c, err = scan(tx, o.opts.Alias, nil); err != nil || !c.created && !c.unsure {
			return err
		}
		// A crash before the next commit must not begin at number 1 again, nor void the journal.
		return group{generation: o.journal.generation, reserved: reserved, age: age}.write(tx)
	})
	if err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.file = f
	o.pace.suspect = false
	why := Disk
	if quarantined != "" {
		why, o.quarantined = Damage, append(o.quarantined, quarantined)
	}
	if c.created {
		o.forgetStored(why)
	}
	return nil
}
