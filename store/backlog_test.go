package store

import (
	"runtime"
	"testing"
	"time"
)

// heapBytes is what lives on the heap.
func heapBytes() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// mustBacklog makes an outbox with records of 100 bytes, late ones and some events.
func mustBacklog(tb testing.TB, dir string, opts OutboxOptions, records int) {
	tb.Helper()
	o := mustOpenOutbox(tb, dir, opts)
	stop := mustRun(tb, o)
	for range records / 10 {
		mustAppendTo(tb, o, 99, Late, Late, Late, Late, Late, Late, Late, Late, Event)
		if n := o.numbers.next; n%1000 < 10 { // so that the disk keeps up
			mustAppendDurable(tb, o, 99)
		} else {
			mustAppendTo(tb, o, 99, Late)
		}
	}
	stop()
	if err := o.Close(); err != nil {
		tb.Fatal(err)
	}
}

// mustCommit commits to outbox.db: the journal takes nothing.
func mustCommit(tb testing.TB, o *Outbox) {
	tb.Helper()
	o.journal.abandon()
	if err := o.commit(false); err != nil {
		tb.Fatal(err)
	}
}

func TestS11_ABacklogDrainsInOrderInBoundedMemory(t *testing.T) {
	dir := t.TempDir()
	opts := OutboxOptions{NoSync: true, Quota: 1 << 40, Memory: 1 << 20}
	mustBacklog(t, dir, opts, backlogRecords)
	before := heapBytes()
	start := time.Now()
	o := mustOpenOutbox(t, dir, opts)
	opened := time.Since(start)
	records, _ := o.Depth()
	most := heapBytes() - before

	start = time.Now()
	drained := 0
	for _, s := range []Stream{Event, Late} {
		last := uint64(0)
		for {
			batch, more := o.Collect(s, last, 32)
			if more != nil {
				break
			}
			for _, r := range batch {
				if r.Seq <= last {
					t.Fatalf("record %d after %d", r.Seq, last)
				}
				last = r.Seq
				o.Delivered(r.Seq)
				if drained%groupDeletes == 0 { // no link outruns the disk as this loop would
					mustCommit(t, o)
				}
				if drained++; drained%(records/10) == 0 {
					most = max(most, heapBytes()-before)
				}
			}
		}
	}
	mustCommit(t, o)
	took := time.Since(start)
	t.Logf("%d records: opened in %v, drained at %.0f a second, at most %d bytes of memory", records, opened,
		float64(records)/took.Seconds(), most)
	if drained != records || len(onDisk(t, o, bucketQueue)) > 0 {
		t.Errorf("%d of %d records came, %d are left on the disk", drained, records, len(onDisk(t, o, bucketQueue)))
	}
	if bound := int64(records)*48 + 16<<20; most > bound {
		t.Errorf("%d bytes of memory, want at most %d", most, bound)
	}
}
