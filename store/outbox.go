package store

import (
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
	// broker; 64 MiB. A twentieth of it is for the class Controls alone. Over
	// it the oldest results are lost, then the oldest events.
	Quota int64

	// Results and Events are how many of these bytes may be of that class; as
	// many as there are.
	Results, Events int64

	// Count is how many results may wait; as many as find room.
	Count int

	// ResultsAge and EventsAge are how long one of that class may wait, in
	// running time; for ever.
	ResultsAge, EventsAge time.Duration

	// Free is how many bytes of the file system are to stay free; 0. With less,
	// nothing but the class Controls is written while Run works: the rest
	// stays in memory until there is room, at most as if the disk were full.
	Free int64

	// Memory is how many bytes of committed records stay in memory, so that
	// they need not be read back; 4 MiB. Records that are not committed yet
	// may take four times as much; over it, the disk being slow or full, the
	// oldest of them are lost, results first, then events.
	Memory int64

	// Floor is what an earlier run's Horizon said, kept in another file. Numbers
	// begin there if the outbox was damaged and the clock is not ahead of it.
	Floor uint64

	// Lost was counted by an earlier version, which kept it in another file: it
	// is in this one when OpenOutbox returns.
	Lost Gap

	// Alias gives an answer a second name, "" for none, which Alias finds it
	// under. No alias may be the ID of a job, and it must not depend on when it
	// is asked for. nil: no answer has one.
	Alias func(Record) string

	// DurableFirst holds an answer back from Collect until it is on the disk, so that
	// no job can ever have two; not while answers are not written.
	DurableFirst bool

	// NoSync is that of Options. What Append calls durable is then what the
	// process may lose no more, and a power cut may.
	NoSync bool

	// Sparse is that of Options.
	Sparse bool

	// StayUp is that of Options. In memory the file holds what it held on the disk,
	// and is not written: records wait as they do while a disk is full.
	StayUp bool

	// Intact is that of Options.
	Intact bool

	uncounted bool // another version added records since, see PutBack
}

func (o OutboxOptions) file() fileOptions {
	return fileOptions{noSync: o.NoSync, stayUp: o.StayUp, intact: o.Intact}
}

const (
	defaultQuota  = 64 << 20
	defaultMemory = 4 << 20

	// freshShare times OutboxOptions.Memory bounds what is not committed.
	freshShare = 4

	// journalShare is the part of OutboxOptions.Memory that the journal may fill: what
	// it has is in memory until outbox.db has it.
	journalShare = 4

	// itemOverhead is what a record in memory takes beside its bytes.
	itemOverhead = 256

	// readBytes ends a batch of Collect, so that draining does not bring the
	// whole backlog into memory.
	readBytes = 1 << 20

	// maxRecord is more bytes than a packet of MQTT has.
	maxRecord = 1 << 28
)

// An Outbox is outbox.db, its journal and their tail in memory. Its methods may be called from
// any goroutine, before and while Run works; none but Run waits for a write.
type Outbox struct {
	path    string
	opts    OutboxOptions
	log     *slog.Logger
	journal *journal // of Run

	mu          sync.Mutex
	file        *file
	age         ageClock
	quarantined []string
	numbers     numbers
	queue       queue
	answers     answers
	memory      memory
	done        dueDeletes
	gaps        gaps
	pace        pace
	space       space
}

// numbers are those that may be given out.
type numbers struct {
	next     uint64 // of the next record
	reserved uint64 // from here on they are not to be used yet
}

// few tells whether a commit should reserve more.
func (n numbers) few() bool { return n.reserved-n.next <= reserve/2 }

// An item is a record in memory.
type item struct {
	Record
	age     time.Duration
	durable func()
	held    bool // not to be collected before its commit
}

func (it *item) cost() int64 { return it.size() + itemOverhead }

// OpenOutbox opens outbox.db in dir, which it creates if need be, and trims it
// to its limits. It returns ErrLocked within a second if another process holds
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
	o := &Outbox{path: filepath.Join(dir, outboxName), opts: opts, log: log, space: space{free: FreeBytes},
		pace: pace{kick: make(chan struct{}, 1)}}
	o.journal = &journal{path: filepath.Join(dir, journalName), noSync: opts.NoSync, sparse: opts.Sparse,
		size: min(journalSize, opts.Memory/journalShare/journalBlock*journalBlock)}
	if err := o.open(); err != nil {
		return nil, err
	}
	return o, nil
}

// Append gives encode the next sequence number and takes in the record it
// returns, in memory and at once. It calls encode under the lock of the outbox:
// encode must be quick and must not call the outbox. If encode fails, or the
// record alone is over its limit, the number goes to the next record.
//
// Run calls durable, unless nil, after the commit that holds the record. It is not
// called for a record that is lost before that, nor for one that was delivered
// before and answers no job: that is never written.
func (o *Outbox) Append(encode func(seq uint64) (Record, error), durable func()) (seq uint64, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.append(&item{durable: durable}, encode)
}

// append is Append; it is an item of what encode returns.
func (o *Outbox) append(it *item, encode func(seq uint64) (Record, error)) (seq uint64, err error) {
	if err := o.refusal(); err != nil {
		return 0, fmt.Errorf("append to outbox: %w", err)
	}
	r, err := encode(o.numbers.next)
	if err != nil {
		return 0, fmt.Errorf("append to outbox: %w", err)
	}
	if most := min(o.opts.room(r.Stream.Class()), maxRecord); r.size() > most {
		return 0, fmt.Errorf("append to outbox: record of %d bytes is over the %d that a %s may have", r.size(), most,
			r.Stream.Class())
	}
	r.Seq = o.numbers.next
	o.numbers.next++
	it.Record, it.age = r, o.age.now()
	it.held = it.held || o.opts.DurableFirst && r.Job != "" && o.pace.fault == nil && o.written(r.Stream.Class())
	o.add(it)
	o.wakeReader()
	return r.Seq, nil
}

// refusal tells why no number can be given out.
func (o *Outbox) refusal() error {
	if o.pace.ended {
		return errors.New("closed")
	}
	if n := o.numbers; n.next >= n.reserved {
		return fmt.Errorf("nothing was committed since record %d, and a number from %d on could be used twice after a "+
			"crash; see to the disk", n.reserved-reserve, n.reserved)
	}
	return nil
}

func (o *Outbox) add(it *item) {
	c := it.Stream.Class()
	o.memory.fresh[c] = append(o.memory.fresh[c], it)
	o.memory.bytes += it.cost()
	o.queue.lines[it.Stream].push(waiting{seq: it.Seq, item: it, size: uint32(it.size()), age: uint32(it.age / ageUnit),
		back: o.queue.follow(c, it.Seq)})
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
		s, w := o.queue.find(seq)
		if w == nil {
			continue
		}
		o.leave(s, w)
		if s == Control {
			o.begin()
			o.gaps.settle(seq)
		}
		o.queue.lines[s].first() // gives back the room
	}
	o.wakeWriter()
}

// Waits tells whether the record has not been delivered, nor lost.
func (o *Outbox) Waits(seq uint64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.queue.holds(seq)
}

// Unwritten tells whether answers are not being written now: the disk fails, or its
// file system has no room to spare.
func (o *Outbox) Unwritten() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.unwritten() != nil
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
	it := o.memory.find(seq)
	o.mu.Unlock()
	if !ok {
		return Record{}, ErrNotFound
	}
	found := Record{}
	if it != nil {
		found = it.Record
	} else if read, _, err := o.read(seq); err != nil {
		return Record{}, fmt.Errorf("read answer of job %.80q: %w", name, err)
	} else if len(read) > 0 {
		found = read[0]
	}
	if found.Job == "" || !is(found) {
		return Record{}, ErrNotFound
	}
	return found, nil
}

// A Depth is how much of a class waits for delivery.
type Depth struct {
	Records int
	Bytes   int64
	Oldest  time.Duration // running time since the oldest of them was appended; 0 if there is none
}

// Depths returns how much waits of each class.
func (o *Outbox) Depths() (all [Classes]Depth) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for c := range Class(Classes) {
		all[c] = Depth{Records: o.queue.count(c), Bytes: o.queue.bytes(c)}
		if _, w := o.queue.oldest(c); w != nil {
			all[c].Oldest = o.age.now() - time.Duration(w.age)*ageUnit
		}
	}
	return all
}

// Depth returns how many records wait for delivery, and their size in bytes.
func (o *Outbox) Depth() (records int, bytes int64) {
	for _, d := range o.Depths() {
		records += d.Records
		bytes += d.Bytes
	}
	return records, bytes
}

// Horizon is a number that this run will not reach, giving out less than 2^40. It
// stays the same over many runs.
func (o *Outbox) Horizon() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return horizon(o.numbers.next)
}

func horizon(next uint64) uint64 {
	const run = 40 // bits
	return (next>>run + 2) << run
}

// Fault returns why results and events are not written now, nil if they are.
func (o *Outbox) Fault() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.unwritten()
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
	return o.file.told()
}

// Close closes the file. Run must have returned.
func (o *Outbox) Close() error {
	o.mu.Lock()
	o.pace.ended = true
	f := o.file
	o.mu.Unlock()
	o.journal.abandon()
	return f.close()
}
