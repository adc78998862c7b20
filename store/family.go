package store

import (
	"fmt"
	"strings"
)

// SetFamily makes manifest the current family. Its blobs should be stored
// before it.
func (s *Store) SetFamily(manifest []byte) error {
	return s.put(bucketFamily, "current", manifest)
}

// Family returns the manifest of the current family, ErrNotFound before the
// first SetFamily.
func (s *Store) Family() ([]byte, error) { return s.value(bucketFamily, "current") }

// A ProfileKey says what a profile was measured with.
type ProfileKey struct {
	Family   Digest
	Provider string // execution provider, "cpu"
	Threads  int    // intra-operator threads
}

func (k ProfileKey) String() string {
	return fmt.Sprintf("%s/%d/%s", k.Family, k.Threads, k.Provider)
}

// SetProfile stores the profile measured under k.
func (s *Store) SetProfile(k ProfileKey, profile []byte) error {
	return s.put(bucketProfiles, k.String(), profile)
}

// Profile returns the profile measured under k, or ErrNotFound.
func (s *Store) Profile(k ProfileKey) ([]byte, error) { return s.value(bucketProfiles, k.String()) }

// A BuildKey says what an optimised model was built from and for.
type BuildKey struct {
	Member  Digest
	Runtime string // version of ONNX Runtime and features of the processor
}

func (k BuildKey) String() string { return k.Member.String() + "/" + k.Runtime }

func parseBuildKey(s string) (BuildKey, error) {
	member, runtime, _ := strings.Cut(s, "/")
	d, err := ParseDigest(member)
	return BuildKey{Member: d, Runtime: runtime}, err
}

// SetBuild stores the model built for k.
func (s *Store) SetBuild(k BuildKey, model []byte) error {
	d := DigestOf(model)
	return s.put(bucketBuilds, k.String(), append(d[:], model...))
}

// Build returns the model built for k, checked against the digest stored with
// it. The error is ErrNotFound if there is none, or none that is intact: either
// way it has to be built.
func (s *Store) Build(k BuildKey) ([]byte, error) {
	b, err := s.value(bucketBuilds, k.String())
	if err != nil {
		return nil, err
	}
	n := len(Digest{})
	if len(b) < n || DigestOf(b[n:]) != Digest(b[:n]) {
		return nil, fmt.Errorf("build %s is damaged on disk: %w", k, ErrNotFound)
	}
	return b[n:], nil
}

// SetCell stores a small value under a name: the mode, the desired version.
func (s *Store) SetCell(name string, value []byte) error { return s.put(bucketCells, name, value) }

// Cell returns the value of the cell, or ErrNotFound.
func (s *Store) Cell(name string) ([]byte, error) { return s.value(bucketCells, name) }
