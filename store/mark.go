package store

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// A mark is a note beside limber.db that is there for the next process at once and
// costs no commit. It may be gone, or torn, after the machine ended: it is for what can
// be told without it, at some cost.
const markSuffix = ".mark"

// SetMark replaces the mark by a digest. Where limber.db is in memory that is an error.
func (s *Store) SetMark(d Digest) error {
	if err := s.file.away(); err != nil {
		return fmt.Errorf("mark: %w", err)
	}
	f, err := os.OpenFile(s.file.path+markSuffix, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("mark: %w", err)
	}
	_, err = f.WriteAt(d[:], 0)
	return errors.Join(err, f.Close())
}

// Mark returns the mark; the zero Digest if there is none.
func (s *Store) Mark() (d Digest) {
	f, err := os.Open(s.file.path + markSuffix)
	if err != nil {
		return Digest{}
	}
	defer f.Close()
	if _, err := io.ReadFull(f, d[:]); err != nil {
		return Digest{}
	}
	return d
}
