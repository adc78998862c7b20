package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// A Digest names a blob: the SHA-256 of its bytes.
type Digest [sha256.Size]byte

// DigestOf returns the digest of b.
func DigestOf(b []byte) Digest { return sha256.Sum256(b) }

// ParseDigest reads the 64 hexadecimal digits that String writes.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	if len(s) != hex.EncodedLen(len(d)) {
		return Digest{}, fmt.Errorf("digest %.80q has %d characters, not %d", s, len(s), hex.EncodedLen(len(d)))
	}
	if _, err := hex.Decode(d[:], []byte(s)); err != nil {
		return Digest{}, fmt.Errorf("digest %q: %w", s, err)
	}
	return d, nil
}

// String returns d in lower-case hexadecimal.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// PutBlob stores b and returns its name. A blob already there is not written
// again.
func (s *Store) PutBlob(b []byte) (Digest, error) {
	d := DigestOf(b)
	if _, err := s.Blob(d); err == nil {
		return d, nil
	}
	err := s.update(bucketBlobs, func(tx *bolt.Tx) error { return tx.Bucket([]byte(bucketBlobs)).Put(d[:], b) })
	if err != nil {
		return Digest{}, fmt.Errorf("blob %s: %w", d, err)
	}
	return d, nil
}

// Blob returns the bytes named d, checked against their name. The error is
// ErrNotFound if there are none.
func (s *Store) Blob(d Digest) ([]byte, error) {
	b, err := s.value(bucketBlobs, string(d[:]))
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", d, err)
	}
	if DigestOf(b) != d {
		return nil, fmt.Errorf("blob %s is damaged on disk; fetch it again", d)
	}
	return b, nil
}

// Prune removes the blobs that keep has no use for, and returns how many it
// removed. The file does not shrink; the space is used again.
func (s *Store) Prune(keep func(Digest) bool) (removed int, err error) {
	err = s.update(bucketBlobs, func(tx *bolt.Tx) (err error) {
		removed, err = prune(tx.Bucket([]byte(bucketBlobs)), func(key, _ []byte) bool {
			return len(key) == len(Digest{}) && keep(Digest(key))
		})
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("prune blobs: %w", err)
	}
	return removed, nil
}

// prune deletes the keys that keep refuses. They are gathered first: a bbolt
// cursor may skip a key after a delete.
func prune(b *bolt.Bucket, keep func(key, value []byte) bool) (int, error) {
	var useless [][]byte
	err := b.ForEach(func(key, value []byte) error {
		if !keep(key, value) {
			useless = append(useless, bytes.Clone(key))
		}
		return nil
	})
	for _, key := range useless {
		if err == nil {
			err = b.Delete(key)
		}
	}
	return len(useless), err
}
