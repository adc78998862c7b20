package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// mustBolt opens a bbolt file as it is, without any of ours around it.
func mustBolt(tb testing.TB, path string, opts bolt.Options) *bolt.DB {
	tb.Helper()
	opts.NoSync, opts.NoGrowSync, opts.FreelistType = true, true, bolt.FreelistMapType
	db, err := bolt.Open(path, 0o600, &opts)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { db.Close() })
	return db
}

func mustRead(tb testing.TB, path string) []byte {
	tb.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func checkBytes(b []byte) (older, err error) { return checkPages(bytes.NewReader(b), int64(len(b))) }

// shuffle changes a file at random: keys and values of all lengths, deletes, buckets in
// buckets.
func shuffle(random *rand.Rand) func(*bolt.Tx) error {
	return func(tx *bolt.Tx) error {
		for range 1 + random.IntN(200) {
			b, err := tx.CreateBucketIfNotExists([]byte{'a' + byte(random.IntN(4))})
			if err == nil && random.IntN(4) == 0 {
				b, err = b.CreateBucketIfNotExists([]byte("inner"))
			}
			if err != nil {
				return err
			}
			key := binary.BigEndian.AppendUint32(nil, uint32(random.IntN(2000)))
			key = append(key, make([]byte, []int{0, 0, 0, 10, 3000}[random.IntN(5)])...)
			if random.IntN(3) == 0 {
				err = b.Delete(key)
			} else {
				err = b.Put(key, make([]byte, []int{0, 1, 100, 1000, 20_000}[random.IntN(5)]))
			}
			if err != nil {
				return err
			}
		}
		if random.IntN(20) == 0 {
			return tx.DeleteBucket([]byte{'a' + byte(random.IntN(4))})
		}
		return nil
	}
}

func TestWhatBoltWritesPassesTheCheck(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		opts bolt.Options
	}{
		{"pages of the system", bolt.Options{}},
		{"pages of 1 KiB", bolt.Options{PageSize: 1 << 10}},
		{"pages of 64 KiB", bolt.Options{PageSize: 1 << 16}},
		{"no free list", bolt.Options{NoFreelistSync: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(14, 1))
			path := filepath.Join(t.TempDir(), "db")
			db := mustBolt(t, path, tt.opts)
			for commit := range 150 {
				if err := db.Update(shuffle(random)); err != nil && !errors.Is(err, bolt.ErrBucketNotFound) {
					t.Fatal(err)
				}
				if older, err := checkBytes(mustRead(t, path)); older != nil || err != nil {
					t.Fatalf("commit %d: %v, %v; want a sound file", commit, older, err)
				}
			}
		})
	}
}
