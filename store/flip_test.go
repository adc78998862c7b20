package store

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
)

// A stateFile is a file of the store with something in it.
type stateFile struct {
	name    string // limber.db or outbox.db
	content []byte
}

// mustStateFiles makes files of several shapes: small, with trees, with pages that are
// free.
func mustStateFiles(tb testing.TB) map[string]stateFile {
	files := map[string]stateFile{}
	add := func(shape, name string, fill func(dir string)) {
		dir := tb.TempDir()
		fill(dir)
		files[shape] = stateFile{name, mustRead(tb, filepath.Join(dir, name))}
	}
	add("a new store", "limber.db", func(dir string) { mustOpen(tb, dir).Close() })
	add("a store of cells", "limber.db", func(dir string) { mustFillStore(tb, dir, 5, 0) })
	add("a store with trees", "limber.db", func(dir string) { mustFillStore(tb, dir, 300, 30) })
	add("a new outbox", "outbox.db", func(dir string) { mustFillOutbox(tb, dir, 0, 0) })
	add("an outbox", "outbox.db", func(dir string) { mustFillOutbox(tb, dir, 40, 0) })
	add("an outbox with trees", "outbox.db", func(dir string) { mustFillOutbox(tb, dir, 1000, 0) })
	add("an outbox in use", "outbox.db", func(dir string) { mustFillOutbox(tb, dir, 1000, 700) })
	return files
}

func mustFillStore(tb testing.TB, dir string, cells, blobs int) {
	tb.Helper()
	s, err := Open(dir, Options{NoSync: true}, quiet())
	for i := range cells {
		err = errors.Join(err, s.SetCell(fmt.Sprint("cell", i), bytes.Repeat([]byte{1}, 10+i)))
	}
	for i := range blobs {
		_, e := s.PutBlob(bytes.Repeat([]byte{byte(i) + 1}, 100*i*i+1))
		err = errors.Join(err, e, s.SetCommand(Command{ID: fmt.Sprint("mode/", i), Expires: time.Now()}))
	}
	_, e := s.Prune(func(d Digest) bool { return d[0]%3 > 0 })
	if err = errors.Join(err, e, s.Close()); err != nil {
		tb.Fatal(err)
	}
}

func mustFillOutbox(tb testing.TB, dir string, records, delivered int) {
	tb.Helper()
	o := mustOpenOutbox(tb, dir, OutboxOptions{NoSync: true})
	stop := mustRun(tb, o)
	for i := range records {
		if i%10 == 0 {
			mustAnswer(tb, o, fmt.Sprint("job", i), 3000, nil)
		} else if seq := mustAppend(tb, o, 200, nil); i < delivered {
			o.Delivered(seq)
		}
		if i == records/2 { // so that there is more than one commit
			mustAppendDurable(tb, o, 10)
		}
	}
	stop()
	if err := o.Close(); err != nil {
		tb.Fatal(err)
	}
}

// targets are the bytes of a file that are its structure: what says where pages,
// elements, keys and values lie.
func targets(content []byte) (at []int) {
	page := os.Getpagesize()
	span := func(from, length int) {
		for i := range length {
			at = append(at, from+i)
		}
	}
	meta, _, _ := findMeta(bytes.NewReader(content))
	for id := 0; id < int(meta.pages); id++ {
		head := content[id*page:]
		switch flags, count := binary.NativeEndian.Uint16(head[8:]), int(binary.NativeEndian.Uint16(head[10:])); {
		case id < 2:
			span(id*page, pageHeader+metaSize)
		case uint64(id) == meta.root:
			span(id*page, page/2) // with buckets that lie in it
		case flags == flagFreelist:
			span(id*page, pageHeader+8*count)
		case (flags == flagLeaf || flags == flagBranch) && binary.NativeEndian.Uint64(head) == uint64(id):
			span(id*page, min(pageHeader+elementSize*count, page))
		}
	}
	return at
}

// stored is all that is in a file: value by bucket and key. Running time and what is
// reserved are left out.
func stored(tb testing.TB, f *file) map[string]string {
	tb.Helper()
	all := map[string]string{}
	err := f.view(func(tx *bolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
			return b.ForEach(func(key, value []byte) error {
				if string(name) != bucketMeta {
					all[string(name)+"/"+hex.EncodeToString(key)] = string(value)
				}
				return nil
			})
		})
	})
	if err != nil {
		tb.Errorf("read what is stored: %v", err)
	}
	return all
}

// A look is what opening a file leads to.
type look struct {
	content map[string]string
	told    bool   // that something is wrong
	next    uint64 // number of an outbox
}

// mustLook opens a file of this content, and writes to it.
func mustLook(tb testing.TB, name string, content []byte) look {
	tb.Helper()
	dir := tb.TempDir()
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
		tb.Fatal(err)
	}
	if name == "limber.db" {
		return mustLookStore(tb, dir)
	}
	o := mustOpenOutbox(tb, dir, OutboxOptions{NoSync: true, Memory: 1})
	defer o.Close()
	l := look{content: stored(tb, o.file), next: o.numbers.next}
	l.told = len(o.Quarantined())+len(o.Damage()) > 0 || o.Gaps()
	stop := mustRun(tb, o)
	mustAppendDurable(tb, o, 1000)
	stop()
	return l
}

func mustLookStore(tb testing.TB, dir string) look {
	tb.Helper()
	s, err := Open(dir, Options{NoSync: true}, quiet())
	if err != nil {
		tb.Fatal(err)
	}
	defer s.Close()
	l := look{content: stored(tb, s.file), told: s.Quarantined() != "" || len(s.Damage()) > 0}
	for key := range l.content {
		if d, ok := strings.CutPrefix(key, bucketBlobs+"/"); ok && len(d) == 2*len(Digest{}) {
			digest, _ := ParseDigest(d)
			_, err := s.Blob(digest)
			l.told = l.told || err != nil // to whoever reads it
		}
	}
	if err := s.SetCell("mode", []byte("balanced")); err != nil {
		tb.Error(err)
	}
	return l
}

// difference is what one of two has and the other has not.
func difference(got, want map[string]string) (all []string) {
	for key, value := range got {
		if was, ok := want[key]; !ok || was != value {
			all = append(all, fmt.Sprintf("got %s: %x", key, value))
		}
	}
	for key, value := range want {
		if is, ok := got[key]; !ok || is != value {
			all = append(all, fmt.Sprintf("want %s: %x", key, value))
		}
	}
	return all
}

// flips changes single bits of the structure of files and looks at what comes of it.
func flips(t *testing.T, times int) {
	files := mustStateFiles(t)
	random := rand.New(rand.NewPCG(14, 0))
	shapes := slices.Sorted(maps.Keys(files))
	whole := map[string]look{}
	for _, shape := range shapes {
		if whole[shape] = mustLook(t, files[shape].name, files[shape].content); whole[shape].told {
			t.Fatalf("%s: is not sound", shape)
		}
	}
	var told, same int
	for i := range times {
		shape := shapes[i%len(shapes)]
		f := files[shape]
		damaged := bytes.Clone(f.content)
		where := targets(f.content)
		at, bit := where[random.IntN(len(where))], random.IntN(8)
		damaged[at] ^= 1 << bit

		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		got := mustLook(t, f.name, damaged)
		runtime.ReadMemStats(&after)
		what := fmt.Sprintf("%s: bit %d of byte %d of page %d", shape, bit, at%os.Getpagesize(), at/os.Getpagesize())
		if took, most := after.TotalAlloc-before.TotalAlloc, uint64(16<<20+20*len(f.content)); took > most {
			t.Errorf("%s: %d bytes were allocated, want at most %d", what, took, most)
		}
		switch want := whole[shape]; {
		case got.told:
			told++
		case !maps.Equal(got.content, want.content):
			t.Errorf("%s: another content, and nothing told: %.300v", what, difference(got.content, want.content))
		case got.next < want.next:
			t.Errorf("%s: numbers begin at %d, want at least %d", what, got.next, want.next)
		default:
			same++
		}
	}
	t.Logf("of %d flips %d were told, %d changed nothing", times, told, same)
}

func TestS6_FlippedBitsOfTheStructureAreNeverFatalNorSilent(t *testing.T) {
	flips(t, flipTimes) // not beside others, as what it allocates is measured
}
