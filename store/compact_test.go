package store

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	bolt "go.etcd.io/bbolt"
)

// mustSwell makes an outbox whose file is large and mostly free: of n records of 600
// bytes, about what a result has, the last tenth waits, and is returned.
func mustSwell(tb testing.TB, o *Outbox, n int) (left []uint64) {
	tb.Helper()
	for i := range n {
		mustAppendTo(tb, o, 599, Late)
		if i%groupRecords == groupRecords-1 {
			mustCommit(tb, o)
		}
	}
	all := backlog(tb, o)
	o.Delivered(all[:n*9/10]...)
	if err := errors.Join(o.commit(false), o.commit(false)); err != nil {
		tb.Fatal(err)
	}
	return all[n*9/10:]
}

func size(tb testing.TB, path string) int64 {
	tb.Helper()
	info, err := os.Stat(path)
	if err != nil {
		tb.Fatal(err)
	}
	return info.Size()
}

// liveBytes is what the records that wait take in the file: keys and values.
func liveBytes(tb testing.TB, o *Outbox) (n int64) {
	tb.Helper()
	mustView(tb, o, func(tx *bolt.Tx) {
		tx.ForEach(func(_ []byte, b *bolt.Bucket) error {
			return b.ForEach(func(k, v []byte) error { n += int64(len(k) + len(v)); return nil })
		})
	})
	return n
}

func TestAFileMostlyFreeIsCompactedWhenIdle(t *testing.T) {
	for _, tt := range []struct {
		name    string
		records int // of 600 bytes
		after   time.Duration
		want    bool
	}{
		{"after a minute", swollen, compactIdle, true},
		{"not before", swollen, compactIdle - time.Second, false},
		{"not under 8 MiB", 9000, time.Hour, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{NoSync: true, Memory: 1 << 20})
				left := mustSwell(t, o, tt.records)
				before := size(t, o.path)
				stop := mustRun(t, o)
				pass(tt.after)
				after := size(t, o.path)
				if got := after < before; got != tt.want {
					t.Errorf("%d bytes, then %d; want it smaller: %v", before, after, tt.want)
				}
				if live := liveBytes(t, o); tt.want && float64(after) > 1.1*float64(live)+128<<10 {
					t.Errorf("%d bytes for %d that live, want at most 1.10 of them and 128 KiB", after, live)
				}
				next := mustAppendTo(t, o, 99, Control)[0]
				pass(groupAge)
				if got := mustList(t, filepath.Dir(o.path)); !slices.Equal(got, []string{"outbox.db", "outbox.log"}) {
					t.Errorf("the folder has %v", got)
				}
				o = restart(t, o, stop)
				wantWaiting(t, o, append(left, next)...)
			})
		})
	}
}

// mustCompact does at once what Run does when it is idle.
func mustCompact(tb testing.TB, o *Outbox) {
	tb.Helper()
	var c compaction
	before := o.current()
	c.begin(before)
	o.exchange(&c, <-c.done)
	if o.current() == before {
		tb.Fatal("not compacted")
	}
}

func TestReadersDoNotNoticeACompaction(t *testing.T) {
	o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{NoSync: true, Memory: 100 << 10})
	answer := mustAnswer(t, o, "job", 500, nil)
	mustAppendTo(t, o, 500, slices.Repeat([]Stream{Late}, 500)...)
	mustCommit(t, o)
	done, read := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		for ; ; n++ {
			if records, _ := o.Collect(Late, uint64(n%500), 10); len(records) != min(10, 501-n%500) {
				t.Errorf("collected %d records after %d", len(records), n%500)
			}
			if r, err := o.Answer("job"); err != nil || r.Seq != answer {
				t.Errorf("answer %d, %v", r.Seq, err)
			}
			select {
			case <-done:
				read <- n
				return
			default:
			}
		}
	}()
	for range 10 {
		mustCompact(t, o)
	}
	close(done)
	if n := <-read; n == 0 || o.Fault() != nil || len(gapsOf(o)) > 0 {
		t.Errorf("read %d times, fault %v, gaps %+v", n, o.Fault(), gapsOf(o))
	}
}

func TestACommitOutdatesACompaction(t *testing.T) {
	o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{NoSync: true})
	mustAppendTo(t, o, 500, Late)
	var c compaction
	c.begin(o.file)
	r := <-c.done
	c.outdate()
	mustCommit(t, o)
	o.exchange(&c, r)
	if got := mustList(t, filepath.Dir(o.path)); !slices.Equal(got, []string{"outbox.db", "outbox.log"}) {
		t.Errorf("the folder has %v, want the outbox alone", got)
	}
	c.begin(o.file)
	c.end()
	if got := mustList(t, filepath.Dir(o.path)); !slices.Equal(got, []string{"outbox.db", "outbox.log"}) {
		t.Errorf("after the end the folder has %v, want the outbox alone", got)
	}
	o = restart(t, o, mustRun(t, o))
	wantWaiting(t, o, 1)
}

func TestS3_AFullDiskLeavesTheFileThatWasToBeCompacted(t *testing.T) {
	if !inChild(t) {
		return // the limit would hold for other tests, too
	}
	o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{})
	mustAppendTo(t, o, 100<<10, slices.Repeat([]Stream{Late}, 20)...)
	mustCommit(t, o)
	before := o.file
	for _, limit := range []uint64{1, 100 << 10, 1 << 20} {
		lift := mustLimitFiles(t, limit)
		var c compaction
		c.begin(o.file)
		o.exchange(&c, <-c.done)
		lift()
		got := mustList(t, filepath.Dir(o.path))
		if o.file != before || !slices.Equal(got, []string{"outbox.db", "outbox.log"}) {
			t.Errorf("with files of at most %d bytes the folder has %v, want the old outbox alone", limit, got)
		}
	}
	if at := o.pace.compact; time.Until(at) < compactRetry/2 {
		t.Errorf("tried again in %v", time.Until(at))
	}
	mustCompact(t, o)
	o = restart(t, o, mustRun(t, o))
	wantWaiting(t, o, upTo(20)...)
}

func TestWhatAKilledCompactionLeftIsRemovedUnread(t *testing.T) {
	o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{})
	mustAppendTo(t, o, 9, Late)
	litter := o.path + compactSuffix
	for _, content := range []string{"", "not a database"} {
		mustPut(t, litter, content)
		o = restart(t, o, mustRun(t, o))
		wantWaiting(t, o, 1)
		if exists(litter) || len(o.Quarantined()) > 0 {
			t.Errorf("%q is still there: %v; set aside %v", content, exists(litter), o.Quarantined())
		}
	}
}

// Who waits for the lock of a file that is no more must not work on that.
func TestS7_AFileThatWasReplacedIsLocked(t *testing.T) {
	o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{})
	f := &file{path: o.path}
	mustPut(t, o.path+".other", "")
	mustAppendTo(t, o, 9, Late)
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := openHandle(o.path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.handle.Close()
	if err := os.Rename(o.path+".other", o.path); err != nil {
		t.Fatal(err)
	}
	if err := f.check(db); !errors.Is(err, ErrLocked) {
		t.Errorf("got %v, want %v", err, ErrLocked)
	}
}

// TestCompactingChild appends, delivers and compacts until it is killed. It tells what it does.
func TestCompactingChild(t *testing.T) {
	dir := os.Getenv(crashEnv)
	if dir == "" {
		t.Skip("runs only as the child of TestS1")
	}
	o := mustOpenOutbox(t, dir, OutboxOptions{Memory: 8 << 10})
	for {
		for range 5 {
			seq := crashAppend(o, nil)
			if seq%3 == 0 {
				crashDeliver(o, seq)
			}
		}
		mustCommit(t, o)
		mustCompact(t, o)
	}
}

func TestS1_AKilledCompactionLosesNothing(t *testing.T) {
	dir, all := t.TempDir(), newTold()
	for range 6 {
		all.add(killedAfter(t, "TestCompactingChild", dir, 1+rand.IntN(200)))
		checkSurvivors(t, dir, OutboxOptions{}, all)
	}
}
