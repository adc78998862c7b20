package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
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

func mustCheckFile(tb testing.TB, path string) (older, err error) {
	tb.Helper()
	f, err := os.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	return checkPages(f, size(tb, path))
}

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
			for commit := range shuffles {
				if err := db.Update(shuffle(random)); err != nil && !errors.Is(err, bolterrors.ErrBucketNotFound) {
					t.Fatal(err)
				}
				if older, err := mustCheckFile(t, path); older != nil || err != nil {
					t.Fatalf("commit %d: %v, %v; want a sound file", commit, older, err)
				}
			}
		})
	}
}

// mustFillTree makes a file with a tree of two levels in bucket "b", where record i has
// the number i for a key, and returns it with the page of its root.
func mustFillTree(tb testing.TB) (content []byte, branch int) {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "db")
	db := mustBolt(tb, path, bolt.Options{})
	for range 2 {
		err := db.Update(func(tx *bolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("b"))
			for i := range uint64(500) {
				if err == nil {
					err = b.Put(number(i), bytes.Repeat([]byte{7}, 100))
				}
			}
			branch = int(b.Root())
			return err
		})
		if err != nil {
			tb.Fatal(err)
		}
	}
	err := db.View(func(tx *bolt.Tx) error {
		branch = int(tx.Bucket([]byte("b")).Root())
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	return mustRead(tb, path), branch
}

func TestS6_TheCheckTellsThePageAndWhatIsWrong(t *testing.T) {
	t.Parallel()
	whole, branch := mustFillTree(t)
	page := os.Getpagesize()
	meta, _, err := findMeta(bytes.NewReader(whole))
	if err != nil {
		t.Fatal(err)
	}
	at := func(page, offset int) int { return page*os.Getpagesize() + offset }
	leaf := int(binary.NativeEndian.Uint64(whole[at(branch, pageHeader+8):]))
	newest := int(meta.commit % 2)
	for _, tt := range []struct {
		name   string
		damage func(b []byte) []byte
		says   string
	}{
		{"the overflow of a leaf", func(b []byte) []byte { b[at(leaf, 15)] = 1; return b }, "are beyond the last of"},
		{"the overflow by one", func(b []byte) []byte { b[at(leaf, 12)] = 1; return b }, "is used twice|bytes of"},
		{"the count of a leaf", func(b []byte) []byte {
			b[at(leaf, 10)]--
			return b
		}, "element 0 of 8 and 100 bytes lies at"},
		{"no count at all", func(b []byte) []byte { clear(b[at(leaf, 10):at(leaf, 12)]); return b }, "has no elements"},
		{"the kind of a page", func(b []byte) []byte { b[at(leaf, 8)] ^= 0x20; return b }, "has flags 0x22"},
		{"its number", func(b []byte) []byte { b[at(leaf, 0)] ^= 1; return b }, "says that it is page"},
		{"the position of a key", func(b []byte) []byte {
			b[at(branch, pageHeader+1)] ^= 1
			return b
		}, "element 0 of 8 and 0"},
		{"the length of a key", func(b []byte) []byte { b[at(branch, pageHeader+7)] ^= 1; return b }, "element 0 of"},
		{"the page of a branch", func(b []byte) []byte {
			copy(b[at(branch, pageHeader+8):], b[at(branch, pageHeader+elementSize+8):][:8])
			return b
		}, "element 0 is out of order"},
		{"the free list", func(b []byte) []byte { b[at(int(meta.freelist), pageHeader)] ^= 1; return b }, "free"},
		{"its count", func(b []byte) []byte {
			b[at(int(meta.freelist), 10)]--
			return b
		}, "is neither in use nor free"},
		{"both first pages", func(b []byte) []byte { b[20] ^= 1; b[page+20] ^= 1; return b }, "page 1 "},
		{"cut short", func(b []byte) []byte { return b[:5*page] }, "cut short to 5 of"},
		{"next to nothing", func(b []byte) []byte { return b[:100] }, "100 bytes are no file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			older, err := checkBytes(tt.damage(bytes.Clone(whole)))
			fits := false
			for want := range strings.SplitSeq(tt.says, "|") {
				fits = fits || err != nil && errors.Is(err, errDamaged) && strings.Contains(err.Error(), want)
			}
			if older != nil || !fits && tt.says != "" {
				t.Errorf("got %v, %v; want damage that says %q", older, err, tt.says)
			}
		})
	}
	t.Run("one first page", func(t *testing.T) {
		b := bytes.Clone(whole)
		b[at(newest, 70)] ^= 1
		older, err := checkBytes(b)
		if err != nil || older == nil || !strings.Contains(older.Error(), "has a wrong checksum") {
			t.Errorf("got %v, %v; want that the older commit can be used", older, err)
		}
	})
}

// What passes the check bbolt reads and writes without a fault, and finds nothing wrong
// with either.
func FuzzWhatPassesTheCheckOpens(f *testing.F) {
	for _, keys := range []uint64{0, 1, 20, 200} {
		path := filepath.Join(f.TempDir(), "db")
		db := mustBolt(f, path, bolt.Options{PageSize: 1 << 10, NoFreelistSync: keys == 20})
		for range 2 {
			if err := db.Update(few(keys)); err != nil {
				f.Fatal(err)
			}
		}
		db.Close()
		f.Add(mustRead(f, path), uint32(5000), byte(1))
	}
	f.Fuzz(func(t *testing.T, b []byte, at uint32, bits byte) {
		b = bytes.Clone(b)
		if int(at) < len(b) {
			b[at] ^= bits
		}
		if _, err := checkBytes(b); err != nil {
			if !errors.Is(err, errDamaged) {
				t.Errorf("got %v, want damage", err)
			}
			return
		}
		path := filepath.Join(t.TempDir(), "db")
		mustPut(t, path, string(b))
		db := mustBolt(t, path, bolt.Options{})
		if err := db.Update(few(20)); err != nil && !errors.Is(err, bolterrors.ErrIncompatibleValue) {
			t.Errorf("a sound file: %v", err)
		}
		if _, err := checkBytes(mustRead(t, path)); err != nil {
			t.Errorf("after a commit: %v", err)
		}
	})
}

// few stores a few keys in two buckets, of which one lies in the page of the other.
func few(keys uint64) func(*bolt.Tx) error {
	return func(tx *bolt.Tx) error {
		for i := range keys {
			for _, name := range []string{"one", "other"} {
				b, err := tx.CreateBucketIfNotExists([]byte(name))
				if err == nil && (i == 0 || name == "one") {
					err = b.Put(number(i), make([]byte, 20))
				}
				if err != nil {
					return err
				}
			}
		}
		return nil
	}
}
