package store

import (
	"errors"
	"fmt"
	"math"
	"time"

	bolt "go.etcd.io/bbolt"
)

// The buckets of outbox.db. A record is there while it waits in the queue or is
// kept as an answer.
const (
	bucketRecords = "records" // sequence number → record
	bucketQueue   = "queue"   // sequence number of a record that waits → nothing
)

// keyReserved holds, in the meta bucket of outbox.db, the sequence number from
// which the next process counts.
const keyReserved = "reserved"

// reserve is how many sequence numbers a commit sets aside. After a crash the
// numbers go on behind them, so that none is used twice.
const reserve = 1 << 20

// contents is what a file holds, but for the payloads.
type contents struct {
	created bool // just now
	next    uint64
	age     time.Duration
	queue   []waiting
	answers answers
	done    deletes // of what is of no use
	gap     Gap     // what should be there and is not
	foreign bool    // there are records of another version
}

// open opens the file and takes in what it holds.
func (o *Outbox) open() error {
	var c contents
	f, quarantined, err := openFile(o.path, o.opts.file(), o.log, func(tx *bolt.Tx) (err error) {
		if c, err = scan(tx, o.opts.Alias); err != nil {
			return err
		}
		return putProgress(tx, c.next+reserve, c.age)
	})
	if err != nil {
		return err
	}
	if quarantined != "" {
		o.quarantined = append(o.quarantined, quarantined)
	}
	f.missed(quarantined == "" && o.opts.Floor > 0)
	if f.fresh && (quarantined != "" || o.opts.Floor > 0 || f.away() != nil) {
		// The numbers used so far are gone with the file. Counting goes on
		// from the time, which is ahead of them as long as there were less
		// than a million a second, and below 2^53 for two centuries; or, on a
		// board whose clock is not set, from the floor.
		c.next = max(uint64(time.Now().Unix())<<20, o.opts.Floor)
		if err := f.write(func(tx *bolt.Tx) error { return putProgress(tx, c.next+reserve, c.age) }); err != nil {
			return errors.Join(fmt.Errorf("reserve numbers in %s: %w", o.path, err), f.close())
		}
	}
	o.file = f
	o.take(c)
	return nil
}

func (o *Outbox) take(c contents) {
	o.age = newAgeClock(c.age)
	o.next, o.reserved, o.tail = c.next, c.next+reserve, c.next
	o.queue.elems = c.queue
	o.count = len(c.queue)
	for _, w := range c.queue {
		o.bytes += w.size
	}
	o.answers, o.done, o.gap = c.answers, c.done, c.gap
	o.pace.begin(!o.done.empty())
	if c.foreign {
		o.log.Warn("outbox holds records of another version, which are left alone")
	}
	o.trim()
}

// scan reads the whole file, so that damage is found now.
func scan(tx *bolt.Tx, alias func(Record) string) (contents, error) {
	for _, name := range []string{bucketRecords, bucketQueue, bucketMeta} {
		if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
			return contents{}, fmt.Errorf("create bucket %s: %w", name, err)
		}
	}
	meta := tx.Bucket([]byte(bucketMeta))
	reserved := parseNumber(meta.Get([]byte(keyReserved)))
	c := contents{answers: newAnswers(alias), created: reserved == 0, next: max(1, reserved),
		age: duration(meta.Get([]byte(keyAge)))}
	queue := newQueueScan(tx)
	err := tx.Bucket([]byte(bucketRecords)).ForEach(func(key, value []byte) error {
		if len(key) != 8 {
			return fmt.Errorf("record under a key of %d bytes: %w", len(key), errDamaged)
		}
		seq := parseNumber(key)
		c.miss(queue.upTo(seq))
		c.record(seq, value, queue.has(seq))
		return nil
	})
	c.miss(queue.upTo(math.MaxUint64))
	return c, err
}

// record takes in one record.
func (c *contents) record(seq uint64, value []byte, inQueue bool) {
	c.next = max(c.next, seq+1)
	r, age, err := decodeRecord(seq, value)
	if errors.Is(err, errVersion) {
		c.foreign = true
		return
	}
	if err == nil && inQueue {
		c.queue = append(c.queue, waiting{seq: seq, size: r.size()})
	}
	if err == nil && r.Job != "" {
		c.answers.add(r, age)
		c.age = max(c.age, age)
		return
	}
	if err != nil {
		c.gap.add(seq, int64(len(value)))
	}
	if err != nil || !inQueue {
		c.done.queue = append(c.done.queue, seq)
		c.done.records = append(c.done.records, seq)
	}
}

// miss counts queued numbers without a record.
func (c *contents) miss(seqs []uint64) {
	for _, seq := range seqs {
		c.gap.add(seq, 0)
		c.next = max(c.next, seq+1)
	}
	c.done.queue = append(c.done.queue, seqs...)
}

// A queueScan walks the queue on the disk beside the records.
type queueScan struct {
	cursor *bolt.Cursor
	key    []byte
}

func newQueueScan(tx *bolt.Tx) *queueScan {
	s := &queueScan{cursor: tx.Bucket([]byte(bucketQueue)).Cursor()}
	s.key, _ = s.cursor.First()
	return s
}

// upTo returns the numbers below seq that are left.
func (s *queueScan) upTo(seq uint64) (seqs []uint64) {
	for s.key != nil && parseNumber(s.key) < seq {
		seqs = append(seqs, parseNumber(s.key))
		s.key, _ = s.cursor.Next()
	}
	return seqs
}

// has tells whether seq is the next number, and passes it.
func (s *queueScan) has(seq uint64) bool {
	if s.key == nil || parseNumber(s.key) != seq {
		return false
	}
	s.key, _ = s.cursor.Next()
	return true
}

// reopen closes the file and opens it again: after an error other than a full
// disk nobody knows which pages the system has kept.
func (o *Outbox) reopen() error {
	o.mu.Lock()
	old, reserved, age := o.file, o.reserved, o.age.now()
	o.mu.Unlock()
	if err := old.close(); err != nil {
		return err
	}
	var c contents
	f, quarantined, err := openFile(o.path, fileOptions{noSync: o.opts.NoSync}, o.log, func(tx *bolt.Tx) (err error) {
		if c, err = scan(tx, o.opts.Alias); err != nil || !c.created {
			return err
		}
		// A crash before the next commit must not begin at number 1 again.
		return putProgress(tx, reserved, age)
	})
	if err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.file = f
	o.pace.suspect = false
	if quarantined != "" {
		o.quarantined = append(o.quarantined, quarantined)
	}
	if c.created {
		o.forgetStored()
	}
	return nil
}
