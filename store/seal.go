package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// bbolt has no checksums but of its first two pages. Records and blobs have their own;
// the rest gets some here, which a version that does not know them may leave behind:
// they count only as of the very commit that they were written in.
const (
	// keySeal holds, in the meta bucket of either file, the number of the commit and
	// the CRC32C of what else is in the bucket.
	keySeal = "seal"

	// bucketSums holds the CRC32C of each value of limber.db: bucket/key → 4 bytes.
	bucketSums = "sums"
)

// A trust says what the seal of a file is worth.
type trust int

const (
	unsealed trust = iota // by the last commit, or never
	sound
	broken
)

// sealed has a transaction that writes end with the seal.
func sealed(fn func(*bolt.Tx) error) func(*bolt.Tx) error {
	return func(tx *bolt.Tx) error {
		if err := fn(tx); err != nil {
			return err
		}
		meta := tx.Bucket([]byte(bucketMeta))
		if meta == nil {
			return nil
		}
		return meta.Put([]byte(keySeal), sealOf(meta, uint64(tx.ID())))
	}
}

func sealOf(meta *bolt.Bucket, commit uint64) []byte {
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	_ = meta.ForEach(func(key, value []byte) error { // which fails as the function does
		if string(key) != keySeal {
			fmt.Fprintf(sum, "%x=%x ", key, value)
		}
		return nil
	})
	return binary.BigEndian.AppendUint32(number(commit), sum.Sum32())
}

// trustOf judges a file in the first transaction that writes to it.
func trustOf(tx *bolt.Tx) trust {
	meta, last := tx.Bucket([]byte(bucketMeta)), uint64(tx.ID()-1)
	if meta == nil {
		return unsealed
	}
	seal := meta.Get([]byte(keySeal))
	switch {
	case !bytes.HasPrefix(seal, number(last)):
		return unsealed
	case !bytes.Equal(seal, sealOf(meta, last)):
		return broken
	}
	return sound
}

// summed are the buckets of limber.db with values that have no other checksum.
func summed() []string { return []string{bucketFamily, bucketProfiles, bucketCells, bucketLedger} }

func sumKey(bucket string, key []byte) []byte { return append([]byte(bucket+"/"), key...) }

func sumOf(value []byte) []byte {
	return binary.BigEndian.AppendUint32(nil, checksum(value))
}

// putSummed stores a value and its sum.
func putSummed(tx *bolt.Tx, bucket string, key, value []byte) error {
	if err := tx.Bucket([]byte(bucket)).Put(key, value); err != nil {
		return err
	}
	return tx.Bucket([]byte(bucketSums)).Put(sumKey(bucket, key), sumOf(value))
}

// removeSummed removes a value and its sum.
func removeSummed(tx *bolt.Tx, bucket string, key []byte) error {
	if err := tx.Bucket([]byte(bucket)).Delete(key); err != nil {
		return err
	}
	return tx.Bucket([]byte(bucketSums)).Delete(sumKey(bucket, key))
}

// sumAll makes the sums anew.
func sumAll(tx *bolt.Tx) error {
	if err := tx.DeleteBucket([]byte(bucketSums)); err != nil && !errors.Is(err, bolterrors.ErrBucketNotFound) {
		return err
	}
	sums, err := tx.CreateBucket([]byte(bucketSums))
	for _, bucket := range summed() {
		if err == nil {
			err = tx.Bucket([]byte(bucket)).ForEach(func(key, value []byte) error {
				return sums.Put(sumKey(bucket, key), sumOf(value))
			})
		}
	}
	return err
}

// dropDamaged removes what is not as its sum says, and returns the names.
func dropDamaged(tx *bolt.Tx) (damaged []string, err error) {
	sums := tx.Bucket([]byte(bucketSums))
	_, err = prune(tx.Bucket([]byte(bucketBlobs)), func(key, _ []byte) bool {
		if len(key) != len(Digest{}) { // another value is found out when it is read
			damaged = append(damaged, fmt.Sprintf("%q", sumKey(bucketBlobs, key)))
		}
		return len(key) == len(Digest{})
	})
	if err != nil {
		return nil, err
	}
	for _, bucket := range summed() {
		_, err := prune(tx.Bucket([]byte(bucket)), func(key, value []byte) bool {
			if bytes.Equal(sums.Get(sumKey(bucket, key)), sumOf(value)) {
				return true
			}
			damaged = append(damaged, fmt.Sprintf("%q", sumKey(bucket, key)))
			return false
		})
		if err != nil {
			return nil, err
		}
	}
	_, err = prune(sums, func(key, _ []byte) bool {
		bucket, name, _ := bytes.Cut(key, []byte("/"))
		b := tx.Bucket(bucket)
		if b != nil && b.Get(name) != nil {
			return true
		}
		damaged = append(damaged, fmt.Sprintf("%q", key))
		return false
	})
	slices.Sort(damaged)
	return slices.Compact(damaged), err
}
