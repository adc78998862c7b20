package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// OutboxOptions bound an Outbox. A zero stands for the default.
type OutboxOptions struct {
	// Quota is how many bytes of topics and payloads may wait for the
	// broker; 64 MiB. Over it the oldest are lost.
	Quota int64

	// Memory is how many bytes of committed records stay in memory, so that
	// they need not be read back; 4 MiB. Records that are not committed yet
	// may take four times as much; over it, the disk being slow or full, the
	// oldest of them are lost.
	Memory int64

	// Floor is what an earlier run's Horizon said, kept in another file. Numbers
	// begin there if the outbox was damaged and the clock is not ahead of it.
	Floor uint64

	// Alias gives an answer a second name, "" for none, which Alias finds it
	// under. No alias may be the ID of a job, and it must not depend on when it
	// is asked for. nil: no answer has one.
	Alias func(Record) string

	// NoSync is that of Options. What Append calls durable is then what the
	// process may lose no more, and a power cut may.
	NoSync bool

	// StayUp is that of Options. In memory the file holds what it held on the disk,
	// and is not written: records wait as they do while a disk is full.
	StayUp bool
}

func (o OutboxOptions) file() fileOptions { return fileOptions{noSync: o.NoSync, stayUp: o.StayUp} }

const (
	defaultQuota  = 64 << 20
	defaultMemory = 4 << 20

	// freshShare times OutboxOptions.Memory bounds what is not committed.
	freshShare = 4

	// itemOverhead is what a record in memory takes beside its bytes.
	itemOverhead = 256

	// readBytes ends a batch of Next, so that draining does not bring the
	// whole backlog into memory.
	readBytes = 1 << 20
)

// A Gap counts records that were lost before they were delivered: over the
// quota, over the memory while the disk failed, or unreadable.
type Gap struct {
	Records int
	Bytes   int64  // as far as known
	First   uint64 // the lost records are numbered from First
	Last    uint64 // to Last, though others in between may have been delivered
}

// An Outbox is outbox.db and its tail in memory. Its methods may be called from
// any goroutine, before and while Run works; none but Run waits for a write.
type Outbox struct {
	path string
	opts OutboxOptions
	log  *slog.Logger
	kick chan struct{} // tells Run to look again

	mu          sync.Mutex
	file        *file
	age         ageClock
	quarantined []string
	next        uint64 // number of the next record
	reserved    uint64 // numbers from here on are not to be used yet
	queue       sequence[waiting]
	count       int   // of records in queue
	bytes       int64 // of records in queue
	answers     answers
	fresh       []*item // not committed, in order; every other record is stored
	inFlight    int     // of fresh, how many the commit under way holds
	memory      int64   // cost of the items in fresh or queue
	tail        uint64  // records in queue numbered below are on the disk only
	done        deletes
	gap         Gap
	pace        pace
	ended       bool          // Run has returned
	wake        chan struct{} // closed when there is something for Next; nil if nobody waits
}

// An item is a record in memory.
type item struct {
	Record
	age     time.Duration
	durable func()
}

func (it *item) cost() int64 { return it.size() + itemOverhead }

// A waiting record has not been delivered.
type waiting struct {
	seq  uint64
	size int64
	item *item // nil if the record is on the disk only
	gone bool
}

func (w waiting) number() uint64 { return w.seq }
func (w waiting) left() bool     { return w.gone }

// OpenOutbox opens outbox.db in dir, which it creates if need be, and trims it
// to the quota. It returns ErrLocked within a second if another process holds
// the file.
func OpenOutbox(dir string, opts OutboxOptions, log *slog.Logger) (*Outbox, error) {
	if err := makeFolder(dir); err != nil && !opts.StayUp {
		return nil, err
	}
	if opts.Quota <= 0 {
		opts.Quota = defaultQuota
	}
	if opts.Memory <= 0 {
		opts.Memory = defaultMemory
	}
	o := &Outbox{path: filepath.Join(dir, "outbox.db"), opts: opts, log: log, kick: make(chan struct{}, 1)}
	if err := o.open(); err != nil {
		return nil, err
	}
	return o, nil
}

// Append gives encode the next sequence number and takes in the record it
// returns, in memory and at once. It calls encode under the lock of the outbox:
// encode must be quick and must not call the outbox. If encode fails, or the
// record alone is over the quota, the number goes to the next record.
//
// Run calls durable, unless nil, once the record needs its sender no more: after
// the commit that holds it, or once it was delivered. It is not called for a
// record that is lost before that, nor while the disk fails.
func (o *Outbox) Append(encode func(seq uint64) (Record, error), durable func()) (seq uint64, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.refusal(); err != nil {
		return 0, fmt.Errorf("append to outbox: %w", err)
	}
	r, err := encode(o.next)
	if err != nil {
		return 0, fmt.Errorf("append to outbox: %w", err)
	}
	if r.size() > o.opts.Quota {
		return 0, fmt.Errorf("append to outbox: record of %d bytes is over the quota of %d", r.size(), o.opts.Quota)
	}
	r.Seq = o.next
	o.next++
	o.add(&item{Record: r, age: o.age.now(), durable: durable})
	o.wakeReader()
	return r.Seq, nil
}

// refusal tells why no number can be given out.
func (o *Outbox) refusal() error {
	if o.ended {
		return errors.New("closed")
	}
	if o.next >= o.reserved {
		return fmt.Errorf("nothing was committed since record %d, and a number from %d on could be used twice after a "+
			"crash; see to the disk", o.reserved-reserve, o.reserved)
	}
	return nil
}

func (o *Outbox) add(it *item) {
	o.pace.begin(len(o.fresh) == 0 && o.done.empty())
	o.fresh = append(o.fresh, it)
	o.memory += it.cost()
	o.queue.push(waiting{seq: it.Seq, size: it.size(), item: it})
	o.count++
	o.bytes += it.size()
	if it.Job != "" {
		o.answers.add(it.Record, it.age)
	}
	o.trim()
	o.wakeWriter()
}

// Delivered tells that the broker acknowledged these records. One that is not
// committed yet will not be, but for the answer it may be.
func (o *Outbox) Delivered(seqs ...uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, seq := range seqs {
		if w := o.queue.find(seq); w != nil {
			o.leave(w)
		}
	}
	o.queue.first() // gives back the room
	o.wakeWriter()
}

// Next returns up to limit records numbered above after that wait for delivery,
// in order, from memory where it can. It blocks until there is one; its only
// error is ctx's.
func (o *Outbox) Next(ctx context.Context, after uint64, limit int) ([]Record, error) {
	for {
		records, wake := o.collect(after, limit)
		if len(records) > 0 {
			return records, nil
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Answer returns the record that answered the job, also while it is not
// committed. It is ErrNotFound if the job was not answered, or over an hour
// ago, or before the last 100,000 answers or 64 MiB of them. Only an answer
// that exists is read from the disk.
func (o *Outbox) Answer(job string) (Record, error) {
	return o.answer(job, func(r Record) bool { return r.Job == job })
}

// Answered tells whether Answer or Alias may find this name, and never waits for
// the disk: names are told apart by a hash, and the record may be damaged.
func (o *Outbox) Answered(name string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, ok := o.answers.find(name, o.age.now())
	return ok
}

// Alias returns the newest answer that OutboxOptions.Alias gives this name; else
// it is like Answer.
func (o *Outbox) Alias(name string) (Record, error) {
	return o.answer(name, func(r Record) bool { return o.opts.Alias != nil && o.opts.Alias(r) == name })
}

// answer looks a name up, and whether it is not another one with the same hash.
func (o *Outbox) answer(name string, is func(Record) bool) (Record, error) {
	o.mu.Lock()
	seq, ok := o.answers.find(name, o.age.now())
	it := o.freshItem(seq)
	f := o.file
	o.mu.Unlock()
	if !ok {
		return Record{}, ErrNotFound
	}
	found := Record{}
	if it != nil {
		found = it.Record
	} else if read, err := readRecords(f, []uint64{seq}); err != nil {
		return Record{}, fmt.Errorf("read answer of job %.80q: %w", name, err)
	} else if len(read) > 0 {
		found = read[0]
	}
	if found.Job == "" || !is(found) {
		return Record{}, ErrNotFound
	}
	return found, nil
}

// TakeGap returns what was lost since it was last asked.
func (o *Outbox) TakeGap() Gap {
	o.mu.Lock()
	defer o.mu.Unlock()
	gap := o.gap
	o.gap = Gap{}
	return gap
}

// Depth returns how many records wait for delivery, and their size in bytes.
func (o *Outbox) Depth() (records int, bytes int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.count, o.bytes
}

// Horizon is a number that this run will not reach, giving out less than 2^40. It
// stays the same over many runs.
func (o *Outbox) Horizon() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	const run = 40 // bits
	return (o.next>>run + 2) << run
}

// Fault returns why the last commit was not possible, nil if it was.
func (o *Outbox) Fault() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.pace.fault
}

// Quarantined returns the paths of damaged files set aside, at the start or
// later.
func (o *Outbox) Quarantined() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.quarantined)
}

// Damage says what else was found when the file was opened, in sentences: it was
// removed, or only an older commit of it could be read.
func (o *Outbox) Damage() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.file.damage)
}

// Close closes the file. Run must have returned.
func (o *Outbox) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
	return o.file.close()
}
