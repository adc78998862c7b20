package library

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/store"
)

// mustFamily makes a family of a model of its own and one that every family of
// these tests has.
func mustFamily(tb testing.TB, name, model string) *family.Folder {
	tb.Helper()
	blobs := family.MemoryBlobs{}
	canary := blobs.Add([]byte("canary"))
	f := family.Family{Schema: family.Schema, Name: name, Classes: []string{"a", "b"}}
	for i, b := range []string{"common", model} {
		top1 := 0.5 + 0.1*float64(i)
		m := family.Member{Name: fmt.Sprint(i), Top1: top1, Top5: top1, Model: blobs.Add([]byte(b)), Canary: canary,
			Input: "x", Output: "y"}
		m.Arch.R = 1
		f.Members = append(f.Members, m)
	}
	var b bytes.Buffer
	if err := family.Pack(&b, &f, blobs, func(family.Digest) bool { return false }); err != nil {
		tb.Fatal(err)
	}
	packed, err := family.OpenPack(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		tb.Fatal(err)
	}
	return packed
}

// A device is a state folder whose program carries a family.
type device struct {
	dir     string
	carried *family.Folder
	st      *store.Store
	*Library
}

func mustDevice(tb testing.TB, carried *family.Folder) *device {
	tb.Helper()
	d := &device{dir: tb.TempDir(), carried: carried}
	d.restart(tb)
	tb.Cleanup(func() { d.st.Close() })
	return d
}

// restart is what a power cut and a start after it are to the library.
func (d *device) restart(tb testing.TB) {
	tb.Helper()
	var err error
	if d.st != nil {
		err = d.st.Close()
	}
	if err == nil {
		d.st, err = store.Open(d.dir, store.Options{}, slog.New(slog.DiscardHandler))
	}
	if err == nil {
		d.Library, err = Open(d.st, d.carried)
	}
	if err != nil {
		tb.Fatal(err)
	}
}

// want checks the names, "" for none, and that each family named is whole in the
// store itself.
func (d *device) want(tb testing.TB, current, staged, before string) {
	tb.Helper()
	n, err := d.Names()
	if err != nil {
		tb.Fatal(err)
	}
	got := [3]string{}
	for i, f := range []*family.Family{n.Current, n.Staged, n.Before} {
		if f == nil {
			continue
		}
		got[i] = f.Name
		for _, digest := range f.Digests() {
			if !d.stored(tb, digest) {
				tb.Errorf("family %s lacks blob %s", f.Name, digest.Short())
			}
		}
	}
	if want := [3]string{current, staged, before}; got != want {
		tb.Errorf("got current, staged, before %q, want %q", got, want)
	}
}

func (d *device) stored(tb testing.TB, digest family.Digest) bool {
	tb.Helper()
	key, err := store.ParseDigest(string(digest))
	if err != nil {
		tb.Fatal(err)
	}
	_, err = d.st.Blob(key)
	return err == nil
}

// wantGone checks that the blobs which only f needs are not in the store.
func (d *device) wantGone(tb testing.TB, f *family.Folder) {
	tb.Helper()
	if m := f.Members[1].Model; d.stored(tb, m) {
		tb.Errorf("the model of %s is still there", f.Name)
	}
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func TestANewDeviceGetsTheFamilyOfItsProgramAndKeepsIt(t *testing.T) {
	d := mustDevice(t, mustFamily(t, "stock", "1"))
	d.want(t, "stock", "", "")
	if d.Unsaved() != nil {
		t.Errorf("got %v", d.Unsaved())
	}
	d.restart(t)
	d.want(t, "stock", "", "")
}

func TestANewerProgramBringsItsFamilyUnlessAnotherIsInUse(t *testing.T) {
	old, now, mine := mustFamily(t, "stock", "1"), mustFamily(t, "stock", "2"), mustFamily(t, "mine", "3")
	d := mustDevice(t, old)
	must(t, d.Stage(&mine.Family, mine))
	d.carried = now
	d.restart(t)
	d.want(t, "stock", "mine", "")
	d.wantGone(t, old)
	if d.Current().Digest() != now.Digest() {
		t.Error("the older stock family is still in use")
	}
	must(t, d.Activate())
	d.carried = mustFamily(t, "stock", "4")
	d.restart(t)
	d.want(t, "mine", "", "stock")
}

func TestALostBlobOfTheStockFamilyComesFromTheProgram(t *testing.T) {
	stock := mustFamily(t, "stock", "1")
	d := mustDevice(t, stock)
	if _, err := d.st.Prune(func(store.Digest) bool { return false }); err != nil {
		t.Fatal(err)
	}
	for _, digest := range stock.Digests() {
		if b, err := d.Blob(digest); err != nil || family.DigestOf(b) != digest || !d.stored(t, digest) {
			t.Errorf("blob %s: got %q, %v; want it, and stored again", digest.Short(), b, err)
		}
	}
	if _, err := d.Blob("text"); err == nil {
		t.Error("a blob was found under what is no digest")
	}
	if _, err := d.Blob(family.DigestOf([]byte("other"))); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("got %v of a blob that nobody has", err)
	}
}

func TestTheManifestOfTheStockFamilyNeedNotBeFetched(t *testing.T) {
	d := mustDevice(t, mustFamily(t, "stock", "1"))
	b, err := d.Blob(d.carried.Digest())
	if err != nil || family.DigestOf(b) != d.carried.Digest() {
		t.Errorf("got %q, %v; want the manifest of the family in its compact form", b, err)
	}
}

func TestMissingAreTheBlobsThatNeitherDiskNorProgramHas(t *testing.T) {
	d, mine := mustDevice(t, mustFamily(t, "stock", "1")), mustFamily(t, "mine", "2")
	want := []family.Digest{mine.Members[1].Model}
	if got := d.Missing(&mine.Family); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	few := family.MemoryBlobs{}
	if err := d.Stage(&mine.Family, few); err == nil || !strings.HasPrefix(err.Error(), "stage family mine: ") {
		t.Errorf("got %v, want what is missing", err)
	}
	d.want(t, "stock", "", "")
	few.Add([]byte("2"))
	must(t, d.Stage(&mine.Family, few))
	d.want(t, "stock", "mine", "")
	if got := d.Missing(&mine.Family); len(got) > 0 {
		t.Errorf("got %v missing of a family that is staged", got)
	}
}

func TestAFamilyThatProvesItselfStaysAndTheOneBeforeGoes(t *testing.T) {
	stock, mine, next := mustFamily(t, "stock", "1"), mustFamily(t, "mine", "2"), mustFamily(t, "next", "3")
	d := mustDevice(t, stock)
	must(t, d.Stage(&mine.Family, mine))
	must(t, d.Activate())
	d.want(t, "mine", "", "stock")
	must(t, d.Stage(&next.Family, next))
	d.want(t, "mine", "next", "stock")
	if err := d.Activate(); err == nil || !strings.Contains(err.Error(),
		"mine has not proved itself yet; commit or revert it first") {
		t.Errorf("got %v, want the family before kept", err)
	}
	must(t, d.Commit())
	d.want(t, "mine", "next", "")
	d.wantGone(t, stock)
	must(t, d.Activate())
	d.want(t, "next", "", "mine")
}

func TestAFamilyThatFailsGoesAndTheOneBeforeIsBack(t *testing.T) {
	stock, mine := mustFamily(t, "stock", "1"), mustFamily(t, "mine", "2")
	d := mustDevice(t, stock)
	must(t, d.Stage(&mine.Family, mine))
	must(t, d.Activate())
	d.restart(t)
	must(t, d.Revert())
	d.want(t, "stock", "", "")
	d.wantGone(t, mine)
	d.restart(t)
	d.want(t, "stock", "", "")
	if err := d.Activate(); err == nil || err.Error() != "activate family: none is staged" {
		t.Errorf("got %v", err)
	}
}

func TestNoFamilyIsStagedThatTheNextStartWouldNotKeep(t *testing.T) {
	d := mustDevice(t, mustFamily(t, "stock", "1"))
	for want, f := range map[string]*family.Folder{"choose another": mustFamily(t, "stock", "2"),
		"at least two": mustFamily(t, "mine", "2")} {
		if want == "at least two" {
			f.Classes = nil
		}
		if err := d.Stage(&f.Family, f); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	d.want(t, "stock", "", "")
}

func TestAnInstalledFamilyReplacesWhateverWasNamed(t *testing.T) {
	stock, mine, next := mustFamily(t, "stock", "1"), mustFamily(t, "mine", "2"), mustFamily(t, "next", "3")
	d := mustDevice(t, stock)
	must(t, d.Stage(&mine.Family, mine))
	must(t, d.Activate())
	must(t, d.Stage(&next.Family, next))
	must(t, d.st.SetCell(cellBefore, []byte("unreadable")))
	if err := d.Commit(); err == nil || !strings.Contains(err.Error(), "install a family anew") {
		t.Errorf("got %v, want the remedy", err)
	}
	must(t, d.st.Close())
	other := mustFamily(t, "other", "4")
	must(t, Install(d.dir, other, slog.New(slog.DiscardHandler)))
	d.st = nil
	d.restart(t)
	d.want(t, "other", "", "")
	for _, f := range []*family.Folder{stock, mine, next} {
		d.wantGone(t, f)
	}
}

func TestS7_NoFamilyIsInstalledWhileTheDeviceRuns(t *testing.T) {
	d := mustDevice(t, mustFamily(t, "stock", "1"))
	if err := Install(d.dir, mustFamily(t, "mine", "2"), slog.New(slog.DiscardHandler)); !errors.Is(err, store.ErrLocked) {
		t.Errorf("got %v, want store.ErrLocked", err)
	}
}

func TestADamagedManifestIsReplacedByTheStockFamily(t *testing.T) {
	d := mustDevice(t, mustFamily(t, "stock", "1"))
	must(t, d.st.SetFamily([]byte("{")))
	d.restart(t)
	d.want(t, "stock", "", "")
}

// What cannot be stored is served from the program, and said.
func TestADeviceThatCannotStoreServesTheProgramsFamily(t *testing.T) {
	stock := mustFamily(t, "stock", "1")
	dir := t.TempDir()
	st, err := store.Open(dir, store.Options{}, slog.New(slog.DiscardHandler))
	must(t, err)
	defer st.Close()
	must(t, os.Remove(filepath.Join(dir, "limber.db")))
	l, err := Open(st, stock)
	if err != nil || l.Unsaved() == nil || l.Current().Digest() != stock.Digest() {
		t.Fatalf("got %v, %v; want the program's family, and why it is not stored", err, l.Unsaved())
	}
	if b, err := l.Blob(stock.Members[0].Model); err != nil || string(b) != "common" {
		t.Errorf("got %q, %v", b, err)
	}
}
