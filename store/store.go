// Package store keeps what a device must remember through restarts and power
// cuts, in two bbolt files of one state folder:
//
//	limber.db   Store    blobs, family, profiles, cells, command ledger
//	outbox.db   Outbox   results and events that wait for the broker, answers of jobs
//
// A call of Store that writes returns when its transaction is on the disk, unless
// its Options leave that to the system. The Outbox never lets its caller wait for
// the disk: it is a log with a tail in memory, and one goroutine commits what
// gathered, a group at a time.
//
//	Append → fresh ──commit──→ stored ──Delivered──→ gone
//	           │                  └──over a limit──→ gone, counted in a Gap
//	           └──Delivered before the commit──────→ gone, never written
//
// Records are of three classes, results, events and control, in one space of
// numbers, and wait in four streams, as results made with the link and without it do
// not wait for one another. Each class has limits of its own; of what they share the
// oldest results are lost first, then the oldest events. With too little room on the
// file system only control is written.
//
// The answer of a job outlives its delivery by an hour, so that the same job
// gets the same bytes again.
//
// The one rule: whoever is told that something is stored is told after the
// commit that holds it. Everything else may be lost and is then counted: a
// sequence number is never used twice, and what is missing between two numbers
// delivered is what the Gaps say. A Gap is written in the commit that deletes what was
// lost, and is there until the record that tells of it was delivered.
//
// Damage is expected. A file that bbolt cannot read is renamed to
// NAME.corrupt-<unix time> and replaced by an empty one, and so is a file that
// holds nothing; the two newest such copies are kept. A record whose checksum is
// wrong is skipped; a full or failing disk is retried while the newest records
// stay in memory. All of it is reported, none of it is fatal, because everything
// in limber.db can be fetched or measured again.
//
// No deadline here trusts the wall clock, which on a board without a battery
// starts in 1970: ages are counted in running time (see ageClock).
package store

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	bolt "go.etcd.io/bbolt"
)

// ErrLocked says that another process has the state folder open.
var ErrLocked = errors.New("in use by another process; stop it or choose another --state")

// ErrNotFound says that nothing is stored under the name asked for.
var ErrNotFound = errors.New("not in the store")

// The buckets of limber.db.
const (
	bucketBlobs    = "blobs"    // SHA-256 → bytes
	bucketFamily   = "family"   // "current" → manifest
	bucketProfiles = "profiles" // ProfileKey → profile
	bucketCells    = "cells"    // name → value
	bucketLedger   = "ledger"   // command id → entry
	bucketMeta     = "meta"     // running time
)

// A Store is limber.db. Its methods may be called from any goroutine.
type Store struct {
	file        *file
	quarantined string
	age         ageClock
}

// Options of a Store. The zero value is right for a device.
type Options struct {
	// NoSync leaves it to the system when a commit reaches the disk: it then
	// outlives the process, and no power cut. For simulators and tests.
	NoSync bool
}

// Open opens limber.db in dir, which it creates if need be. It returns
// ErrLocked within a second if another process holds the file.
func Open(dir string, opts Options, log *slog.Logger) (*Store, error) {
	if err := makeFolder(dir); err != nil {
		return nil, err
	}
	s := &Store{}
	var err error
	s.file, s.quarantined, err = openFile(filepath.Join(dir, "limber.db"), opts.NoSync, log, s.load)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// load makes the buckets.
func (s *Store) load(tx *bolt.Tx) error {
	for _, name := range []string{bucketBlobs, bucketFamily, bucketProfiles, bucketCells, bucketLedger, bucketMeta} {
		if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
			return fmt.Errorf("create bucket %s: %w", name, err)
		}
	}
	s.age = newAgeClock(duration(tx.Bucket([]byte(bucketMeta)).Get([]byte(keyAge))))
	return nil
}

// Quarantined returns the path of the damaged file that Open set aside, or "".
func (s *Store) Quarantined() string { return s.quarantined }

// Close closes the file. Calls after it return an error.
func (s *Store) Close() error { return s.file.close() }

// Fault says why nothing can be stored any more, or nil: the file is damaged, or
// was removed or replaced, and what is written to it now would be gone at the next
// start.
func (s *Store) Fault() error {
	switch {
	case s.file.broken.Load():
		return fmt.Errorf("%s is %w; restart the agent, which sets it aside and builds its state anew", s.file.path,
			errDamaged)
	case !s.file.inPlace():
		return fmt.Errorf("%s was removed while in use; restart the agent, which builds its state anew", s.file.path)
	}
	return nil
}

// put stores value under key.
func (s *Store) put(bucket, key string, value []byte) error {
	return s.update(bucket, func(tx *bolt.Tx) error {
		return tx.Bucket([]byte(bucket)).Put([]byte(key), value)
	})
}

// update writes into a bucket in one commit.
func (s *Store) update(bucket string, write func(*bolt.Tx) error) error {
	err := s.Fault()
	if err == nil {
		err = s.file.update(write)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", bucket, err)
	}
	return nil
}

// value returns a copy of what is stored under key. The error does not say the
// key, which may be no text; the caller knows what it asked for.
func (s *Store) value(bucket, key string) ([]byte, error) {
	var value []byte
	err := s.file.view(func(tx *bolt.Tx) error {
		v := tx.Bucket([]byte(bucket)).Get([]byte(key))
		if v == nil {
			return ErrNotFound
		}
		value = append([]byte{}, v...) // v dies with the transaction
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", bucket, err)
	}
	return value, nil
}
