package resident_test

import (
	"bytes"
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/familytest"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/ort/orttest"
	"github.com/limber-edge/limber/family/resident"
	"github.com/limber-edge/limber/family/stock"
)

// blobs are the stock family's, some of them replaced.
type blobs struct {
	family.Blobs
	instead map[family.Digest][]byte
	err     error // for every blob
}

func (b blobs) Blob(d family.Digest) ([]byte, error) {
	if b.err != nil {
		return nil, b.err
	}
	if v, ok := b.instead[d]; ok {
		return v, nil
	}
	return b.Blobs.Blob(d)
}

func mustStock(t *testing.T) *family.Folder {
	t.Helper()
	f, err := stock.Family()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func mustSession(t *testing.T, s *resident.Shelf, i int) family.Session {
	t.Helper()
	session, err := s.Session(i)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := session.Close(); err != nil {
			t.Error(err)
		}
	})
	return session
}

func TestM19_CacheIsBuiltOnceAndAgainWhenDamaged(t *testing.T) {
	rt, f, cache := orttest.Open(t), mustStock(t), t.TempDir()
	shelf := func(b family.Blobs) *resident.Shelf {
		return resident.New(rt, &f.Family, b, cache, ort.DefaultOptions(), nil)
	}
	mustSession(t, shelf(f), 0)
	path := mustOnly(t, cache)
	built := mustStat(t, path)

	// A second start finds the file: the supernet is not even there.
	canary, err := f.Blob(f.Members[0].Canary)
	if err != nil {
		t.Fatal(err)
	}
	alone := blobs{Blobs: f, instead: map[family.Digest][]byte{f.Supernet: nil, f.Members[0].Canary: canary}}
	mustSession(t, shelf(alone), 0)
	if again := mustStat(t, mustOnly(t, cache)); !os.SameFile(again, built) || again.ModTime() != built.ModTime() {
		t.Error("the second start wrote the file again")
	}

	for _, name := range []string{"model.onnx", "model.onnx.data"} {
		whole := familytest.Read(t, filepath.Join(mustOnly(t, cache), name))
		for _, damage := range []func([]byte) []byte{
			func(b []byte) []byte { b[0] ^= 1; return b },
			func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
			func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
			func(b []byte) []byte { return b[:len(b)/2] },
			func([]byte) []byte { return nil },
		} {
			damaged := damage(slices.Clone(whole))
			mustWrite(t, filepath.Join(mustOnly(t, cache), name), damaged)
			mustSession(t, shelf(f), 0)
			if again := familytest.Read(t, filepath.Join(mustOnly(t, cache), name)); len(again) != len(whole) ||
				bytes.Equal(again, damaged) {
				t.Errorf("%s damaged, %d of %d bytes: it is still there", name, len(damaged), len(whole))
			}
		}
	}
	if err := os.Remove(filepath.Join(mustOnly(t, cache), "model.onnx.data")); err != nil {
		t.Fatal(err)
	}
	mustSession(t, shelf(f), 0)
	mustOnly(t, cache)
}

// openAtOnce opens a session of each of the members named, all at the same time, and
// closes it.
func openAtOnce(t *testing.T, s *resident.Shelf, members ...int) {
	t.Helper()
	var all sync.WaitGroup
	for _, member := range members {
		all.Go(func() {
			session, err := s.Session(member)
			if err != nil {
				t.Error(err)
				return
			}
			if err := session.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

func TestStaleFilesGoOnceEveryMemberHasItsOwn(t *testing.T) {
	rt, f, cache := orttest.Open(t), mustStock(t), t.TempDir()
	two := f.Family
	two.Members = two.Members[:2]
	s := resident.New(rt, &two, f, cache, ort.DefaultOptions(), nil)
	stale := []string{"0123456789ab-" + string(family.DigestOf(nil)), "0123456789ab-" + string(family.DigestOf(nil)) +
		".onnx", "0123456789ab.part"}
	for _, name := range append(stale, "notes-of-a-human.txt") {
		mustWrite(t, filepath.Join(cache, name), nil)
	}
	mustSession(t, s, 0)
	if got := mustNames(t, cache); len(got) != 5 {
		t.Errorf("one of two members: got %v, want its file beside all that was there", got)
	}
	openAtOnce(t, s, 0, 1, 0, 1)
	got := mustNames(t, cache)
	if len(got) != 3 || slices.ContainsFunc(got, func(name string) bool { return slices.Contains(stale, name) }) {
		t.Errorf("both members: got %v, want their two folders and what no shelf made", got)
	}
}

func TestCacheMayLieInAFolderOfAnyName(t *testing.T) {
	rt, f := orttest.Open(t), mustStock(t)
	cache := filepath.Join(t.TempDir(), "a [b] *?")
	if err := os.Mkdir(cache, 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		mustSession(t, resident.New(rt, &f.Family, f, cache, ort.DefaultOptions(), nil), 0)
	}
	mustOnly(t, cache)
}

func TestMemberIsBuiltOnceByManyAtATime(t *testing.T) {
	rt, f, cache := orttest.Open(t), mustStock(t), t.TempDir()
	s := resident.New(rt, &f.Family, f, cache, ort.DefaultOptions(), nil)
	openAtOnce(t, s, 0, 0, 0, 0)
	mustOnly(t, cache)
}

func TestM14_MemberThatFailsItsCanaryIsNotHandedOut(t *testing.T) {
	f := mustStock(t)
	m := f.Members[0]
	good, err := f.Blob(m.Canary)
	if err != nil {
		t.Fatal(err)
	}
	pixels := 3 * m.Arch.R * m.Arch.R
	changed := func(change func(v []float32)) []byte {
		v, err := family.Floats(good)
		if err != nil {
			t.Fatal(err)
		}
		change(v)
		return family.FloatBytes(v)
	}
	rt, cache := orttest.Open(t), t.TempDir()
	for _, tt := range []struct {
		name   string
		canary []byte
		says   string
	}{
		{"another logit", changed(func(v []float32) { v[pixels] += 1 }), "standard deviations"},
		{"a little off", changed(func(v []float32) { v[pixels] *= 1.1 }), "standard deviations"},
		{"classes turned round", changed(func(v []float32) { v[pixels], v[pixels+1] = v[pixels+1], v[pixels] }),
			"standard deviations"},
		{"logit that is no number", changed(func(v []float32) { v[len(v)-1] = float32(math.NaN()) }), "NaN"},
		{"input that is no number", changed(func(v []float32) { v[0] = float32(math.NaN()) }), "NaN"},
		{"constant logits", changed(func(v []float32) { clear(v[pixels:]) }), "Inf"},
		{"too short", good[:len(good)-4], "are not an input of"},
		{"empty", nil, "are not an input of"},
		{"no whole number", good[:len(good)-1], "not a whole number of float32"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := blobs{Blobs: f, instead: map[family.Digest][]byte{m.Canary: tt.canary}}
			refused(t, resident.New(rt, &f.Family, b, cache, ort.DefaultOptions(), nil), m.Name, "canary", tt.says)
		})
	}
}

func TestM10_DamagedBlobIsNamedAndNothingHandedOut(t *testing.T) {
	rt, f := orttest.Open(t), mustStock(t)
	m := f.Members[0]
	stats, err := f.Blob(m.Stats)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		blobs blobs
		says  []string
	}{
		{"supernet is text", blobs{instead: map[family.Digest][]byte{f.Supernet: []byte("text")}},
			[]string{"supernet", "not a PyTorch checkpoint"}},
		{"statistics cut off", blobs{instead: map[family.Digest][]byte{m.Stats: stats[:len(stats)-4]}},
			[]string{"BN statistics", "do not fit"}},
		{"statistics that are no numbers", blobs{instead: map[family.Digest][]byte{m.Stats: stats[:len(stats)-1]}},
			[]string{"BN statistics", "not a whole number"}},
		{"statistics of nothing", blobs{instead: map[family.Digest][]byte{m.Stats: make([]byte, len(stats))}},
			[]string{"canary"}},
		{"no blobs", blobs{err: errors.New("blob store is gone")}, []string{"blob store is gone"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.blobs.Blobs = f
			refused(t, resident.New(rt, &f.Family, tt.blobs, t.TempDir(), ort.DefaultOptions(), nil), append(tt.says, m.Name)...)
		})
	}
}

func TestCacheFolderThatIsNotThereIsNamed(t *testing.T) {
	rt, f := orttest.Open(t), mustStock(t)
	refused(t, resident.New(rt, &f.Family, f, filepath.Join(t.TempDir(), "none"), ort.DefaultOptions(), nil), "cache",
		"none")
}

func TestProfileIsPlausibleAndFits(t *testing.T) {
	rt, f := orttest.Open(t), mustStock(t)
	s := resident.New(rt, &f.Family, f, t.TempDir(), ort.DefaultOptions(), nil)
	var sessions []family.Session
	for i := range f.Members {
		sessions = append(sessions, mustSession(t, s, i))
	}
	p, err := s.Profile(t.Context(), sessions, func() {})
	if err != nil {
		t.Fatal(err)
	}
	if !p.Fits(&f.Family, rt.Version(), s.Variant().String()) {
		t.Errorf("got a profile that does not fit: %+v", p)
	}
	for i, m := range p.Members {
		if !(m.P50ms > 0 && m.P50ms <= m.P95ms && m.CV >= 0 && m.Batch > 0) ||
			m.Name != f.Members[i].Name {
			t.Errorf("member %d: got %+v", i, m)
		}
	}
	front := p.Front(&f.Family)
	if len(front) == 0 || front[len(front)-1] != len(f.Members)-1 {
		t.Errorf("got front %v, want it to end with the most accurate member", front)
	}
}

// paced is a session that takes 2ms, and 1ms for each image.
type paced struct{ family.Session }

func (paced) Run(_ []float32, in ...[]float32) error {
	<-time.After(time.Duration(2+len(in)) * time.Millisecond)
	return nil
}

func TestProfileTellsTheMillisecondsOfOneImageAndOfABatch(t *testing.T) {
	rt, f := orttest.Open(t), mustStock(t)
	s := resident.New(rt, &f.Family, f, t.TempDir(), ort.DefaultOptions(), nil)
	synctest.Test(t, func(t *testing.T) {
		sessions := make([]family.Session, len(f.Members))
		sessions[0] = paced{}
		p, err := s.Profile(t.Context(), sessions, func() {})
		if err != nil {
			t.Fatal(err)
		}
		want := family.MemberProfile{Name: f.Members[0].Name, P50ms: 3, P95ms: 3, Batch: 2 + family.Batch}
		if got := p.Members[0]; got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})
}

func TestPausesOfAProfileAreNotMeasured(t *testing.T) {
	rt, f := orttest.Open(t), mustStock(t)
	s := resident.New(rt, &f.Family, f, t.TempDir(), ort.DefaultOptions(), nil)
	synctest.Test(t, func(t *testing.T) {
		sessions, pauses := make([]family.Session, len(f.Members)), 0
		sessions[1] = paced{}
		p, err := s.Profile(t.Context(), sessions, func() {
			pauses++
			<-time.After(time.Minute)
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Members[1]; pauses != 30 || p.Rounds != 2*pauses || got.P95ms != 3 || got.Batch != 2+family.Batch {
			t.Errorf("got %d pauses, %d runs, %+v; want a pause after each of 30 rounds, and 3 ms", pauses, p.Rounds, got)
		}
	})
}

// refused checks that member 0 is not handed out, and why.
func refused(t *testing.T, s *resident.Shelf, says ...string) {
	t.Helper()
	session, err := s.Session(0)
	if err == nil {
		t.Fatal(errors.Join(errors.New("the member was handed out"), session.Close()))
	}
	if session != nil {
		t.Error("got a session beside the error")
	}
	for _, part := range says {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("got %q, want it to say %q", err, part)
		}
	}
}

// mustOnly is the one entry of a folder.
func mustOnly(t *testing.T, dir string) string {
	t.Helper()
	found := mustNames(t, dir)
	if len(found) != 1 {
		t.Fatalf("got %v, want one entry", found)
	}
	return filepath.Join(dir, found[0])
}

func mustNames(t *testing.T, dir string) (names []string) {
	t.Helper()
	found, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		names = append(names, f.Name())
	}
	return names
}

func mustStat(t *testing.T, path string) os.FileInfo {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func mustWrite(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestAProfileStopsBetweenTwoRunsWhenItsContextEnds(t *testing.T) {
	rt, f := orttest.Open(t), mustStock(t)
	s := resident.New(rt, &f.Family, f, t.TempDir(), ort.DefaultOptions(), nil)
	for _, last := range []int{1, 3, 5, 6, 20} { // run after which it ends: alone, and in batches
		ctx, cancel := context.WithCancel(t.Context())
		runs, sessions := 0, make([]family.Session, len(f.Members))
		sessions[0] = counted{mustSession(t, s, 0), func() {
			if runs++; runs == last {
				cancel()
			}
		}}
		if p, err := s.Profile(ctx, sessions, func() {}); !errors.Is(err, context.Canceled) || p != nil || runs != last {
			t.Errorf("got %v, %v after %d runs; want its context's error after %d", p, err, runs, last)
		}
	}
}

// counted tells of every run.
type counted struct {
	family.Session
	run func()
}

func (s counted) Run(out []float32, in ...[]float32) error {
	s.run()
	return s.Session.Run(out, in...)
}

func TestAShelfNamesItsVariantAsProfilesDo(t *testing.T) {
	rt, f := orttest.Open(t), mustStock(t)
	for _, tt := range []struct {
		options ort.Options
		want    string
	}{
		{ort.DefaultOptions(), "cpu/1"}, {ort.Options{Provider: ort.CPU, Threads: 4}, "cpu/4"},
		{ort.Options{Provider: ort.TensorRT, Threads: 2}, "tensorrt/2"}, {ort.Options{Provider: ort.CUDA, Threads: 1},
			"cuda/1"},
	} {
		s := resident.New(rt, &f.Family, f, t.TempDir(), tt.options, nil)
		if got := s.Variant().String(); got != tt.want {
			t.Errorf("got %s, want %s", got, tt.want)
		}
	}
}

// single takes one image only.
type single struct{ family.Session }

func (s single) Run(out []float32, in ...[]float32) error {
	if len(in) > 1 {
		return errors.New("out of memory")
	}
	return s.Session.Run(out, in...)
}

func TestAMemberThatFailsInBatchesIsProfiledAlone(t *testing.T) {
	rt, f := orttest.Open(t), mustStock(t)
	s := resident.New(rt, &f.Family, f, t.TempDir(), ort.DefaultOptions(), nil)
	sessions := make([]family.Session, len(f.Members))
	sessions[0], sessions[1] = single{mustSession(t, s, 0)}, mustSession(t, s, 1)
	p, err := s.Profile(t.Context(), sessions, func() {})
	if err != nil || p.Members[0].Batch != 0 || !(p.Members[0].P50ms > 0) || !(p.Members[1].Batch > 0) {
		t.Errorf("got %+v, %v; want the first one's images one at a time", p, err)
	}
}
