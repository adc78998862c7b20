package store

import (
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// SetFamily makes manifest the current family. Its blobs should be stored
// before it.
func (s *Store) SetFamily(manifest []byte) error { return s.put(bucketFamily, "current", manifest) }

// Family returns the manifest of the current family, ErrNotFound before the
// first SetFamily.
func (s *Store) Family() ([]byte, error) { return s.value(bucketFamily, "current") }

// A ProfileKey says what a profile was measured with.
type ProfileKey struct {
	Family   string // its digest, in hexadecimal
	Provider string // execution provider, "cpu"
	Threads  int    // intra-operator threads
}

func (k ProfileKey) String() string { return fmt.Sprintf("%s/%d/%s", k.Family, k.Threads, k.Provider) }

// SetProfile stores the profile measured under k.
func (s *Store) SetProfile(k ProfileKey, profile []byte) error {
	return s.put(bucketProfiles, k.String(), profile)
}

// Profile returns the profile measured under k, or ErrNotFound.
func (s *Store) Profile(k ProfileKey) ([]byte, error) { return s.value(bucketProfiles, k.String()) }

// A Cell is a small value under a name: the mode, the desired version.
type Cell struct {
	Name  string // not empty
	Value []byte
}

// SetCell stores a value under a name: see Cell.
func (s *Store) SetCell(name string, value []byte) error { return s.SetCells(Cell{name, value}) }

// SetCells stores cells in one commit: either all of them are on the disk, or none.
func (s *Store) SetCells(cells ...Cell) error {
	return s.update(bucketCells, func(tx *bolt.Tx) error { return putCells(tx, cells) })
}

// Cell returns the value of the cell, or ErrNotFound.
func (s *Store) Cell(name string) ([]byte, error) { return s.value(bucketCells, name) }
