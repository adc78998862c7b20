package family_test

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/stock"
)

func mustStock(tb testing.TB) *family.Folder {
	tb.Helper()
	f, err := stock.Family()
	if err != nil {
		tb.Fatal(err)
	}
	return f
}

func nothing(family.Digest) bool { return false }

func mustPack(tb testing.TB, f *family.Folder, omit func(family.Digest) bool) []byte {
	tb.Helper()
	var b bytes.Buffer
	if err := family.Pack(&b, &f.Family, f, omit); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func TestPackedFamilyIsTheSameFamily(t *testing.T) {
	f := mustStock(t)
	packed := mustPack(t, f, nothing)
	if again := mustPack(t, f, nothing); !bytes.Equal(packed, again) {
		t.Error("packed twice: the bytes differ")
	}
	name := filepath.Join(t.TempDir(), "stock.family")
	if err := os.WriteFile(name, packed, 0o600); err != nil {
		t.Fatal(err)
	}
	g, err := family.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if g.Digest() != f.Digest() {
		t.Errorf("got family %s, want %s", g.Digest().Short(), f.Digest().Short())
	}
	for _, d := range f.Digests() {
		want, err := f.Blob(d)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := g.Blob(d); err != nil || !bytes.Equal(got, want) {
			t.Errorf("blob %s: got %d bytes, %v; want %d", d.Short(), len(got), err, len(want))
		}
	}
}

func TestDeviceWithTheSupernetNeedsOnlySmallBlobs(t *testing.T) {
	f := mustStock(t)
	small := mustPack(t, f, func(d family.Digest) bool { return d == f.Supernet })
	if len(small) > 500<<10 {
		t.Errorf("without the supernet the family has %d bytes, want at most 500 kB", len(small))
	}
	g, err := family.OpenPack(bytes.NewReader(small), int64(len(small)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Blob(f.Supernet); err == nil || !strings.Contains(err.Error(), family.SupernetFile) {
		t.Errorf("supernet: got %v, want an error that names %s", err, family.SupernetFile)
	}
}

func TestM1_ABlobWithOtherBytesIsRefused(t *testing.T) {
	f := mustStock(t)
	packed := mustPack(t, f, nothing)
	stats, err := f.Blob(f.Members[0].Stats)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(packed, stats)
	if at < 0 {
		t.Fatal("the blob does not lie in the file as it is")
	}
	packed[at] ^= 1
	g, err := family.OpenPack(bytes.NewReader(packed), int64(len(packed)))
	if err != nil {
		t.Fatal(err)
	}
	if b, err := g.Blob(f.Members[0].Stats); b != nil || err == nil || !strings.Contains(err.Error(),
		f.Members[0].Stats.Short()) {
		t.Errorf("a blob with a flipped bit: got %d bytes, %v; want an error that names it", len(b), err)
	}
	if _, err := g.Blob(f.Members[1].Stats); err != nil {
		t.Errorf("the blob beside it: %v", err)
	}
}

// entry is a file of a hostile archive.
type entry struct {
	name   string
	method uint16
	mode   fs.FileMode
	body   []byte
}

func archive(tb testing.TB, entries ...entry) []byte {
	tb.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.name, Method: e.method}
		if e.mode != 0 {
			h.SetMode(e.mode)
		}
		w, err := z.CreateHeader(h)
		if err != nil {
			tb.Fatal(err)
		}
		if _, err := w.Write(e.body); err != nil {
			tb.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func TestM8_HostileArchivesAreRefused(t *testing.T) {
	f := mustStock(t)
	manifest, err := f.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	blob := family.BlobFile(f.Members[0].Stats)
	good := entry{name: family.ManifestFile, body: manifest}
	for _, tt := range []struct {
		name string
		file []byte
		want string
	}{
		{"empty", nil, "not a valid zip"},
		{"text", []byte("a text file"), "not a valid zip"},
		{"no manifest", archive(t, entry{name: family.SupernetFile}), family.ManifestFile},
		{"path that climbs", archive(t, good, entry{name: "../../etc/passwd"}), "not a file of a family"},
		{"absolute path", archive(t, good, entry{name: "/etc/passwd"}), "not a file of a family"},
		{"climbs among the blobs", archive(t, good, entry{name: "blobs/../x"}), "not a file of a family"},
		{"backslashes", archive(t, good, entry{name: `blobs\..\x`}), "not a file of a family"},
		{"other case", archive(t, good, entry{name: "FAMILY.JSON"}), "not a file of a family"},
		{"folder", archive(t, good, entry{name: "blobs/"}), "not a file of a family"},
		{"symbolic link", archive(t, good, entry{name: blob, mode: fs.ModeSymlink | 0o777, body: []byte("/etc/passwd")}),
			"not a regular file"},
		{"device node", archive(t, good, entry{name: blob, mode: fs.ModeDevice | 0o600}), "not a regular file"},
		{"set-uid", archive(t, good, entry{name: blob, mode: fs.ModeSetuid | 0o755}), "not a regular file"},
		{"compressed bomb", archive(t, good, entry{name: blob, method: zip.Deflate, body: make([]byte, 1<<24)}),
			"stored as it is"},
		{"manifest twice", archive(t, good, good), "twice"},
		{"manifest of 2 MiB", archive(t, entry{name: family.ManifestFile, body: bytes.Repeat([]byte(" "), 2<<20)}),
			"more than 1048576"},
		{"cut off", mustPack(t, f, nothing)[:100000], "not a valid zip"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := family.OpenPack(bytes.NewReader(tt.file), int64(len(tt.file)))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestDiffNamesWhatChanged(t *testing.T) {
	old := mustStock(t).Family
	now := old
	now.Members = slices.Clone(old.Members[1:])
	now.Members[0].Stats = family.DigestOf([]byte("other statistics"))
	got := ""
	for _, c := range family.Diff(&old, &now) {
		got += fmt.Sprintf("%s %v %v %v\n", c.Name, c.Old != nil, c.New != nil, c.Same())
	}
	want := now.Members[0].Name + " true true false\n"
	for _, m := range now.Members[1:] {
		want += m.Name + " true true true\n"
	}
	want += old.Members[0].Name + " true false false\n"
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if missing := family.Missing(&old, &now); len(missing) != 1 || missing[0] != now.Members[0].Stats {
		t.Errorf("missing %v, want the new statistics alone", missing)
	}
}

func TestForeignMembersAreTheSameIfTheirModelsAre(t *testing.T) {
	m := family.Member{Name: "m", Top1: 0.5, Model: family.DigestOf([]byte("a")), Input: "x", Output: "y"}
	for _, tt := range []struct {
		name   string
		change func(m *family.Member)
		want   bool
	}{
		{"nothing", func(*family.Member) {}, true},
		{"stated accuracy", func(m *family.Member) { m.Top1 = 0.6 }, true},
		{"model", func(m *family.Member) { m.Model = family.DigestOf([]byte("b")) }, false},
		{"output", func(m *family.Member) { m.Output = "z" }, false},
		{"probabilities", func(m *family.Member) { m.Outputs = family.Probabilities }, false},
		{"resolution", func(m *family.Member) { m.Arch.R = 224 }, false},
	} {
		now := m
		tt.change(&now)
		if got := (family.Change{Name: "m", Old: &m, New: &now}).Same(); got != tt.want {
			t.Errorf("other %s: got same %v, want %v", tt.name, got, tt.want)
		}
	}
}

func FuzzOpenPack(f *testing.F) {
	small := mustStock(f)
	f.Add(mustPack(f, small, func(d family.Digest) bool { return d == small.Supernet }))
	f.Add(archive(f, entry{name: family.ManifestFile, body: []byte("{}")}))
	f.Fuzz(func(t *testing.T, b []byte) {
		g, err := family.OpenPack(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		for _, d := range g.Digests() {
			if v, err := g.Blob(d); err == nil && family.DigestOf(v) != d {
				t.Errorf("blob %s has other bytes", d.Short())
			}
		}
	})
}

// A family that was made before there was Outputs keeps its digest, by which
// devices know their profile of it.
func TestTheDigestOfAFamilyWithoutOutputsIsAsItWas(t *testing.T) {
	f := family.Family{Schema: family.Schema, Name: "old", Describe: []byte("{}"), Classes: []string{"a", "b"},
		Members: []family.Member{{Name: "m", Top1: 0.5, Top5: 0.5, Model: family.DigestOf([]byte("m")),
			Canary: family.DigestOf([]byte("c")), Input: "x", Output: "y"}}}
	f.Members[0].Arch.R = 2
	if err := f.Validate(); err != nil {
		t.Fatal(err)
	}
	if got := f.Digest().Short(); got != "42b8cbe7b11b" {
		t.Errorf("got %s, want what it was", got)
	}
	f.Members[0].Outputs = family.Probabilities
	b, err := f.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if now, err := family.Parse(b); err != nil || now.Members[0].Outputs != family.Probabilities {
		t.Errorf("got %+v, %v", now, err)
	}
	f.Members[0].Outputs = "scores"
	complains(t, f.Validate(), `outputs "scores"`, `may give "probabilities"`)
}
