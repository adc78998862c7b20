package store

import (
	"errors"
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
			if err := o.commit(false); err != nil {
				tb.Fatal(err)
			}
		}
	}
	all := backlog(tb, o)
	o.Delivered(all[:n*9/10]...)
	if err := errors.Join(o.commit(true), o.commit(true)); err != nil { // also what the journal has
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
		{"after a minute", 80_000, compactIdle, true},
		{"not before", 80_000, compactIdle - time.Second, false},
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
				if live := liveBytes(t, o); tt.want && float64(after) > 1.1*float64(live) {
					t.Errorf("%d bytes for %d that live, want at most 1.10 of them", after, live)
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
