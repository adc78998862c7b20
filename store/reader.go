package store

import (
	"bytes"

	bolt "go.etcd.io/bbolt"
)

// Collect returns up to limit records of a stream numbered above after, in order,
// from memory where it can; it never waits for new ones. Where there is none, more is
// closed when a record comes or the disk writes again.
func (o *Outbox) Collect(s Stream, after uint64, limit int) (records []Record, more <-chan struct{}) {
	for {
		o.mu.Lock()
		onDisk, inMemory := o.peek(s, after, limit)
		if len(onDisk)+len(inMemory) == 0 {
			defer o.mu.Unlock()
			return nil, o.waker()
		}
		o.queue.lines[s].collected(onDisk, inMemory)
		o.mu.Unlock()
		if len(onDisk) == 0 {
			return inMemory, nil
		}
		found, f, err := o.read(onDisk...)
		if err != nil {
			return nil, o.unreadable(f, err)
		}
		o.loseMissing(onDisk, found)
		for i := range found {
			found[i].Stream = s
		}
		if records := append(found, inMemory...); len(records) > 0 {
			return records, nil
		}
	}
}

// peek returns the numbers of the next records of a stream that are to be read from
// the disk, and those after them that are in memory.
func (o *Outbox) peek(s Stream, after uint64, limit int) (onDisk []uint64, inMemory []Record) {
	var size int64
	l := &o.queue.lines[s]
	for i := l.search(after + 1); i < len(l.elems); i++ {
		w := l.elems[i]
		if w.gone {
			continue
		}
		size += int64(w.size)
		n := len(onDisk) + len(inMemory)
		if n == limit || n > 0 && size > readBytes || w.item != nil && w.item.held {
			break
		}
		if w.item == nil {
			onDisk = append(onDisk, w.seq)
		} else {
			inMemory = append(inMemory, w.item.Record)
		}
	}
	return onDisk, inMemory
}

// collected notes which records are on their way from now on.
func (l *line) collected(onDisk []uint64, inMemory []Record) {
	if n := len(onDisk); n > 0 {
		l.sent = max(l.sent, onDisk[n-1])
	}
	if n := len(inMemory); n > 0 {
		l.sent = max(l.sent, inMemory[n-1].Seq)
	}
}

// read reads records from the file, and once more if another took its place meanwhile.
// It returns the file it read last.
func (o *Outbox) read(seqs ...uint64) ([]Record, *file, error) {
	for f := o.current(); ; {
		records, err := readRecords(f, seqs)
		now := o.current()
		if err == nil || f == now {
			return records, f, err
		}
		f = now
	}
}

func (o *Outbox) current() *file {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.file
}

// readRecords reads the records with these numbers and leaves out those that
// are missing or damaged.
func readRecords(f *file, seqs []uint64) ([]Record, error) {
	records := make([]Record, 0, len(seqs))
	err := f.view(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte(bucketRecords))
		for _, seq := range seqs {
			v := bytes.Clone(b.Get(number(seq))) // dies with the transaction
			if r, _, err := decodeRecord(seq, v); err == nil {
				records = append(records, r)
			}
		}
		return nil
	})
	return records, err
}

// loseMissing gives up the records that wait, but are not among those found on
// the disk.
func (o *Outbox) loseMissing(seqs []uint64, found []Record) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, seq := range seqs {
		if len(found) > 0 && found[0].Seq == seq {
			found = found[1:]
		} else if s, w := o.queue.find(seq); w != nil {
			o.lose(s, w, Damage)
		}
	}
	o.wakeWriter()
}

// unreadable has Run open the file again, unless it just did, and returns what
// to wait for.
func (o *Outbox) unreadable(f *file, err error) <-chan struct{} {
	defer o.report()
	o.mu.Lock()
	defer o.mu.Unlock()
	wake := o.waker()
	if o.file != f {
		o.wakeReader()
		return wake
	}
	if o.pace.suspect && o.pace.fault != nil {
		return wake // Run will try; to count each look as a fault would put that off for ever
	}
	o.pace.suspect = true
	o.fail(err)
	o.wakeWriter()
	return wake
}

// waker returns a channel that wakeReader closes.
func (o *Outbox) waker() <-chan struct{} {
	if o.pace.wake == nil {
		o.pace.wake = make(chan struct{})
	}
	return o.pace.wake
}

func (o *Outbox) wakeReader() {
	if o.pace.wake != nil {
		close(o.pace.wake)
		o.pace.wake = nil
	}
}
