// Package store keeps what a device must remember through restarts and power
// cuts, in two bbolt files and a journal of one state folder, and what the controller
// of a fleet must, in a third:
//
//	limber.db           Store    blobs, family, profiles, cells, command ledger
//	limber.db.mark               one digest, which outlives the process, and mostly the machine
//	outbox.db           Outbox   what waits for the broker, answers of jobs, gaps, numbers
//	outbox.log                   its journal: groups that outbox.db has not taken over yet
//	*.db.compact                 a copy in the making, which is never read
//	controller.db       Documents  values under keys, of the controller alone
//	NAME.corrupt-TIME            a damaged file that was set aside; the last two stay
//
// A call of Store that writes returns when its transaction is on the disk, unless
// its Options leave that to the system. The Outbox never lets its caller wait for
// the disk: it is a log with a tail in memory, and one goroutine, Run, commits what
// gathered, a group at a time. A record is in one of these states:
//
//	            memory         outbox.log           outbox.db
//	Append ───→ fresh ──group──→ logged ──takeover──→ stored ──Delivered─→ gone
//	              ├───────────────takeover──────────────↑└────over a limit─→ gone, counted in a Gap
//	              ├──over the memory, or a limit───────────────────────────→ gone, counted in a Gap
//	              └──an event Delivered before its group───────────────────→ gone, never written
//
// A group goes into the journal, one write of mostly one block, a few hundredths of a
// second after the first record in it, and once a minute outbox.db takes over what is
// there: its own commit writes some 30 kB, and a card does not outlive that twenty times
// a second. What is logged stays in memory until then. A commit that takes over counts up
// the generation of the journal, which voids its frames; opening does the same with what
// it finds there. A journal that fails or is full is taken over at once, and without one
// every group goes to outbox.db.
//
// Who runs beside whom:
//
//	processes        one at a time: whoever has a file locked. Nothing is read before,
//	                 the journal neither, since the one before writes until it ends
//	callers          each other and all below; what they share is in memory, under one lock
//	                 that nobody holds while a disk, a channel or the log may let him wait
//	Collect, Answer  read outbox.db while it is written, and again where it was exchanged
//	Run              alone writes to the journal and outbox.db, and exchanges the file
//	a compaction     reads outbox.db while it is read; the next commit makes it useless; one of controller.db
//	                 is made when that is opened
//
// Records are of three classes, results, events and control, in one space of
// numbers, and wait in four streams, as results made with the link and without it do
// not wait for one another. Each class has limits of its own; of what they share the
// oldest results are lost first, then the oldest events. With too little room on the
// file system only control is written.
//
// The answer of a job is written though it was delivered, and outlives that by an
// hour, so that the same job gets the same bytes again.
//
// The one rule: whoever is told that something is stored is told after the
// commit that holds it. Everything else may be lost and is then counted, but for what a
// kill takes: a sequence number is never used twice, and what is missing between two
// numbers delivered is what the Gaps say. A Gap is written in the commit that deletes
// what was lost, and is there until the record that tells of it was delivered. At an
// orderly end with a full disk the journal, which has its room from the start, takes
// what it can, and the count of the rest.
//
// Damage is expected. All pages of a file are checked before bbolt maps it, see
// checkPages, in time and memory that its size bounds. A file with a page that makes
// no sense is set aside and replaced by an empty one, and so is a file that holds
// nothing. A record, a cell or a command whose checksum is wrong is skipped; a sector of
// the journal is had again from the others of its frame; a full or failing disk is retried
// while the newest records stay in memory. A file that is missing while the other one is
// there is told of. All of it is reported, none of it is fatal, because everything in
// limber.db can be fetched or measured again.
//
// A folder that cannot be used at the start does not end it either, see
// Options.StayUp: the file is in memory, with what it held on the disk, and is there
// again once that can be.
//
//	folder usable ──→ on the disk ←──land── in memory ←── folder not usable
//
// Store writes into memory meanwhile and Outbox waits, as it promises more. No lock
// keeps another process from the file on the disk then: one that wrote there keeps it.
//
// No deadline here trusts the wall clock, which on a board without a battery
// starts in 1970: ages are counted in running time (see ageClock).
package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

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
	bucketMeta     = "meta"     // running time, see keySeal
)

// A Store is limber.db. Its methods may be called from any goroutine.
type Store struct {
	file        *file
	quarantined string
	age         ageClock
	dropped     []string // what load found damaged
}

// Options of a Store. The zero value is right for a device.
type Options struct {
	// NoSync leaves it to the system when a commit reaches the disk: it then
	// outlives the process, and no power cut. For simulators and tests.
	NoSync bool

	// Sparse has the outbox's journal take room only as it is written, so that a disk
	// that becomes full may have none for it. For simulators, whose disk is memory.
	Sparse bool

	// StayUp has Open succeed also where the state folder cannot be made, read or
	// written: the file is in memory then, with what it held on the disk if that can
	// be read, and Fault says why. Run takes it to the disk. ErrLocked remains.
	StayUp bool

	// Intact has a damaged file be an error, and stay where it is: what cannot read it may
	// not be what wrote it, which is to find it as it was.
	Intact bool
}

// Open opens limber.db in dir, which it creates if need be. It returns
// ErrLocked within a second if another process holds the file.
func Open(dir string, opts Options, log *slog.Logger) (*Store, error) {
	if err := makeFolder(dir); err != nil && !opts.StayUp {
		return nil, err
	}
	s := &Store{}
	var err error
	how := fileOptions{noSync: opts.NoSync, stayUp: opts.StayUp, holds: true, intact: opts.Intact}
	if s.file, s.quarantined, err = openFile(filepath.Join(dir, stateName), how, log, s.load); err != nil {
		return nil, err
	}
	if len(s.dropped) > 0 {
		s.file.tell(fmt.Errorf("%s: dropped, being damaged: %s", s.file.path, strings.Join(s.dropped, ", ")))
	}
	s.file.missed(s.quarantined == "" && exists(filepath.Join(dir, outboxName))) // which is made after it
	return s, nil
}

// load makes the buckets, or looks whether what is in them is what was stored.
func (s *Store) load(tx *bolt.Tx) (err error) {
	trusted, age := trustOf(tx), time.Duration(0)
	judged := trusted != unsealed
	if err := makeBuckets(tx, bucketBlobs, bucketFamily, bucketProfiles, bucketCells, bucketLedger, bucketMeta); err != nil {
		return err
	}
	if judged && tx.Bucket([]byte(bucketSums)) == nil {
		return fmt.Errorf("%w: bucket %s is missing", errDamaged, bucketSums)
	}
	if judged {
		s.dropped, err = dropDamaged(tx)
	} else {
		err = sumAll(tx)
	}
	if err != nil {
		return err
	}
	if trusted != broken {
		age = duration(tx.Bucket([]byte(bucketMeta)).Get([]byte(keyAge)))
	}
	s.age = newAgeClock(age)
	return nil
}

// Quarantined returns the path of the damaged file that Open set aside, or "".
func (s *Store) Quarantined() string { return s.quarantined }

// Damage says what else was found when the file was opened, in sentences: it was
// removed, or only an older commit of it could be read.
func (s *Store) Damage() []string { return s.file.told() }

// Run takes a file that is in memory, see Options.StayUp, to the disk as soon as that
// can be, with all that was stored meanwhile. It returns then, or with ctx's error.
func (s *Store) Run(ctx context.Context) error { return s.file.keepTrying(ctx) }

// Close closes the file. Calls after it return an error. Run must have returned.
func (s *Store) Close() error {
	return errors.Join(s.file.land(), s.file.close())
}

// Fault says why what is written now would be gone at the next start, or nil: the
// file is damaged, and refuses it, or was removed or replaced, or is in memory.
func (s *Store) Fault() error { return errors.Join(s.refusal(), s.file.away()) }

// refusal says why nothing is stored any more.
func (s *Store) refusal() error {
	switch {
	case s.file.broken.Load():
		return fmt.Errorf("%s is %w; restart the agent, which sets it aside and builds its state anew", s.file.path,
			errDamaged)
	case !s.file.inPlace() && occupied(s.file.path) != nil:
		return fmt.Errorf("%s was removed while in use, and a folder is in its place; move the folder away and restart "+
			"the agent, which builds its state anew", s.file.path)
	case !s.file.inPlace():
		return fmt.Errorf("%s was removed while in use; restart the agent, which builds its state anew", s.file.path)
	}
	return nil
}

// put stores value under key.
func (s *Store) put(bucket, key string, value []byte) error {
	return s.update(bucket, func(tx *bolt.Tx) error {
		return putSummed(tx, bucket, []byte(key), value)
	})
}

// update writes into a bucket in one commit.
func (s *Store) update(bucket string, write func(*bolt.Tx) error) error {
	err := s.refusal()
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
