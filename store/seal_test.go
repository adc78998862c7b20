package store

import (
	"errors"
	"path/filepath"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// mustAlter changes a file as bbolt does, and leaves all of ours around it out.
func mustAlter(tb testing.TB, path string, change func(*bolt.Tx) error) {
	tb.Helper()
	db := mustBolt(tb, path, bolt.Options{})
	if err := errors.Join(db.Update(change), db.Close()); err != nil {
		tb.Fatal(err)
	}
}

// What was changed behind our back is as after a flipped bit if it bears the seal of the
// commit, and of another version if not.
func TestS6_T6_AValueThatIsNotAsItWasStoredIsDroppedAndTold(t *testing.T) {
	for _, tt := range []struct {
		name   string
		commit int // that the seal is of, before the last
		change func(*bolt.Tx) error
		mode   string
		told   []string
	}{
		{"S6 another value", 0, func(tx *bolt.Tx) error {
			return tx.Bucket([]byte(bucketCells)).Put([]byte("mode"), []byte("balancee"))
		}, "", []string{`dropped, being damaged: "cells/mode"`}},
		{"S6 another name", 0, func(tx *bolt.Tx) error {
			b := tx.Bucket([]byte(bucketCells))
			return errors.Join(b.Delete([]byte("mode")), b.Put([]byte("modf"), []byte("balanced")))
		}, "", []string{`dropped, being damaged: "cells/mode", "cells/modf"`}},
		{"T6 written by the version before", 1, func(tx *bolt.Tx) error {
			return tx.Bucket([]byte(bucketCells)).Put([]byte("mode"), []byte("eco"))
		}, "eco", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			s := mustOpen(t, dir)
			err := errors.Join(s.SetCell("mode", []byte("balanced")), s.SetCell("other", []byte("sound")), s.Close())
			if err != nil {
				t.Fatal(err)
			}
			mustAlter(t, s.file.path, func(tx *bolt.Tx) error {
				meta := tx.Bucket([]byte(bucketMeta))
				return errors.Join(tt.change(tx), meta.Put([]byte(keySeal), sealOf(meta, uint64(tx.ID()-tt.commit))))
			})
			s = mustOpen(t, dir)
			wantCell(t, s, "mode", tt.mode)
			wantCell(t, s, "other", "sound")
			wantDamage(t, s.Damage(), tt.told...)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			wantDamage(t, mustOpen(t, dir).Damage()) // told once
		})
	}
}

func TestS6_NumbersDoNotGoBackWhereTheirCountIsDamaged(t *testing.T) {
	dir := t.TempDir()
	o := mustOpenOutbox(t, dir, OutboxOptions{Floor: 1 << 41})
	stop := mustRun(t, o)
	o.Delivered(mustAppend(t, o, 100, nil))
	stop()
	used := o.numbers.next
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	mustAlter(t, filepath.Join(dir, "outbox.db"), func(tx *bolt.Tx) error {
		meta := tx.Bucket([]byte(bucketMeta))
		seal := sealOf(meta, uint64(tx.ID()))
		return errors.Join(meta.Put([]byte(keyReserved), number(used&^(1<<41))), meta.Put([]byte(keySeal), seal))
	})
	o = mustOpenOutbox(t, dir, OutboxOptions{Floor: 1 << 41})
	wantDamage(t, o.Damage(), "the count of numbers and time")
	if o.numbers.next < used {
		t.Errorf("numbers begin at %d, want none below %d", o.numbers.next, used)
	}
}
