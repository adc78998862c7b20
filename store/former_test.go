package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	bolt "go.etcd.io/bbolt"
)

// The outbox of the version before streams was written by that version: six records of
// 40 bytes, of which 1, 2, 4 and 5 answer job1 and so on. 1 and 3 were delivered.
const formerOutbox = "testdata/outbox-before-streams.db"

func mustFormer(tb testing.TB) (dir string) {
	tb.Helper()
	b, err := os.ReadFile(formerOutbox)
	if err != nil {
		tb.Fatal(err)
	}
	dir = tb.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "outbox.db"), b, 0o600); err != nil {
		tb.Fatal(err)
	}
	return dir
}

func TestT6_TheOutboxOfTheVersionBeforeIsOpened(t *testing.T) {
	o := mustOpenOutbox(t, mustFormer(t), OutboxOptions{})
	if got, want := inStream(t, o, Late), []uint64{2, 4, 5, 6}; !slices.Equal(got, want) || len(backlog(t, o)) != 4 {
		t.Errorf("late %d, waiting %d; want %d", got, backlog(t, o), want)
	}
	for _, seq := range []uint64{1, 2, 4, 5} {
		wantAnswer(t, o, fmt.Sprint("job", seq), seq, 40)
	}
	if gaps := gapsOf(o); len(gaps) > 0 || len(o.Quarantined()) > 0 {
		t.Errorf("gaps %+v, set aside %q; want neither", gaps, o.Quarantined())
	}
	next := mustAppendTo(t, o, 40, Live)[0]
	if next != 7 {
		t.Errorf("number %d, want 7", next)
	}
	o.Delivered(2)
	o = restart(t, o, mustRun(t, o))
	wantWaiting(t, o, 4, 5, 6, next)
}

// The version before looks at the keys of the queue, at the records, and in the meta
// bucket at two values. What it delivers it deletes there, and knows nothing of gaps.
func TestT6_TheVersionBeforeOpensOurs(t *testing.T) {
	o := mustOpenOutbox(t, mustFormer(t), OutboxOptions{Count: 4})
	stop := mustRun(t, o)
	mustAppendTo(t, o, 40, Live, Event, Control) // one pushes out record 2
	_, told := announced(t, o)
	mustAppendTo(t, o, 40, Live) // another record 4
	stop()
	want := backlog(t, o)
	if got := onDisk(t, o, bucketQueue); !slices.Equal(got, want) {
		t.Errorf("queue %d, want %d", got, want)
	}
	mustView(t, o, func(tx *bolt.Tx) {
		for _, seq := range want {
			if _, _, err := decodeRecord(seq, tx.Bucket([]byte(bucketRecords)).Get(number(seq))); err != nil {
				t.Errorf("record %d: %v", seq, err)
			}
		}
	})
	err := o.file.update(func(tx *bolt.Tx) error { // as it delivers
		for _, seq := range []uint64{told[0], want[0]} {
			if err := tx.Bucket([]byte(bucketQueue)).Delete(number(seq)); err != nil {
				return err
			}
		}
		if err := tx.Bucket([]byte(bucketRecords)).Delete(number(told[0])); err != nil {
			return err
		}
		return tx.Bucket([]byte(bucketQueue)).Put(number(100), nil) // and appends
	})
	if err != nil {
		t.Fatal(err)
	}
	o = restart(t, o, stop)
	if gaps := gapsOf(o); len(gaps) != 2 || gaps[0].First != 4 || gaps[1].First != 100 || gaps[1].Reason != Damage {
		t.Errorf("gaps %+v, want record 4 alone beside the one that was never there: that of 2 was told", gaps)
	}
}

// After a kill the version before does not see what the journal has; it goes on behind its
// numbers, and the next version to know the journal has both.
func TestT6_AJournalOutlivesTheVersionBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{})
		mustRun(t, o)
		mustAppend(t, o, 40, nil)
		pass(2 * takeOverEvery)
		journaled := mustAnswer(t, o, "job", 40, nil)
		pass(groupAge)
		dir := t.TempDir()
		mustCopyFiles(t, o, dir)
		var theirs uint64
		mustAlter(t, filepath.Join(dir, "outbox.db"), func(tx *bolt.Tx) error {
			meta, r := tx.Bucket([]byte(bucketMeta)), Record{Topic: "t"}
			theirs = parseNumber(meta.Get([]byte(keyReserved)))
			r.Seq = theirs
			return errors.Join(tx.Bucket([]byte(bucketRecords)).Put(number(theirs), encodeRecord(r, time.Hour)),
				tx.Bucket([]byte(bucketQueue)).Put(number(theirs), nil), tx.Bucket([]byte(bucketQueue)).Delete(number(1)),
				tx.Bucket([]byte(bucketRecords)).Delete(number(1)), meta.Put([]byte(keyReserved), number(theirs+1)))
		})
		k := mustOpenOutbox(t, dir, OutboxOptions{})
		if got, want := backlog(t, k), []uint64{journaled, theirs}; !slices.Equal(got, want) || len(k.Damage()) > 0 {
			t.Errorf("waiting %d, want %d; told %q", got, want, k.Damage())
		}
		wantAnswer(t, k, "job", journaled, 40)
		if got := mustAppend(t, k, 40, nil); got <= theirs {
			t.Errorf("number %d, want one over %d", got, theirs)
		}
	})
}
