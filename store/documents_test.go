package store

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func mustDocuments(tb testing.TB, dir string) *Documents {
	tb.Helper()
	d, err := OpenDocuments(dir, Options{}, quiet())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { d.Close() })
	return d
}

func mustChange(tb testing.TB, d *Documents, changes map[string][]byte) {
	tb.Helper()
	if err := d.Commit(changes); err != nil {
		tb.Fatal(err)
	}
}

func TestDocumentsOutliveTheProcessAndChangeTogether(t *testing.T) {
	dir := t.TempDir()
	d := mustDocuments(t, dir)
	mustChange(t, d, map[string][]byte{"a/1": []byte("one"), "a/2": {}, "b/1": []byte("other")})
	mustChange(t, d, map[string][]byte{"a/1": []byte("changed"), "b/1": nil, "c": nil})
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d = mustDocuments(t, dir)
	var got []string
	err := d.Each("a/", func(key string, value []byte) { got = append(got, key+"="+string(value)) })
	if want := []string{"a/1=changed", "a/2="}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
	if keys, err := d.Keys("b/"); err != nil || len(keys) > 0 {
		t.Errorf("got %q, %v; want none, as it was removed", keys, err)
	}
	if keys, err := d.Keys(""); err != nil || !slices.Equal(keys, []string{"a/1", "a/2"}) {
		t.Errorf("got %q, %v; want all that are left", keys, err)
	}
	if _, err := d.Document("b/1"); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
}

func TestDocumentsThatAreMostlyGoneLeaveASmallFileAtTheNextStart(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "controller.db")
	d := mustDocuments(t, dir)
	blob := bytes.Repeat([]byte("blob"), compactLeast/4)
	mustChange(t, d, map[string][]byte{"blob": blob, "kept": []byte("value")})
	mustChange(t, d, map[string][]byte{"blob": nil})
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	before := size(t, path)
	d = mustDocuments(t, dir)
	if after := size(t, path); before < compactLeast || after > 256<<10 {
		t.Errorf("%d bytes, then %d; want it small, as hardly anything is left", before, after)
	}
	if got, err := d.Document("kept"); err != nil || string(got) != "value" {
		t.Errorf("got %q, %v; want what was kept", got, err)
	}
	mustChange(t, d, map[string][]byte{"kept": []byte("changed")})
	if _, err := OpenDocuments(dir, Options{}, quiet()); !errors.Is(err, ErrLocked) {
		t.Errorf("got %v, want ErrLocked", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := mustDocuments(t, dir).Document("kept"); err != nil || string(got) != "changed" {
		t.Errorf("got %q, %v; want what was changed since", got, err)
	}
}

func TestDocumentsOfOneProcessAreLockedForOthers(t *testing.T) {
	dir := t.TempDir()
	mustDocuments(t, dir)
	if _, err := OpenDocuments(dir, Options{}, quiet()); !errors.Is(err, ErrLocked) {
		t.Errorf("got %v, want ErrLocked", err)
	}
}

func TestDocumentsThatAreDamagedAreSetAside(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "controller.db")
	d := mustDocuments(t, dir)
	mustChange(t, d, map[string][]byte{"a": bytes.Repeat([]byte("a"), 20_000)})
	d.Close()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b[:len(b)/3], 0o600); err != nil {
		t.Fatal(err)
	}
	d = mustDocuments(t, dir)
	if d.Quarantined() == "" {
		t.Error("got no file set aside, want the one that was cut")
	}
	mustChange(t, d, map[string][]byte{"a": []byte("again")})
}

func TestADocumentWithAFlippedBitIsNotHandedOut(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "controller.db")
	d := mustDocuments(t, dir)
	mustChange(t, d, map[string][]byte{"a": []byte("the value that is looked for"), "b": []byte("sound")})
	d.Close()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; ; { // also in pages that are not in use any more
		i := bytes.Index(b[at:], []byte("looked for"))
		if i < 0 {
			break
		}
		b[at+i] ^= 1
		at += i + 1
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	d = mustDocuments(t, dir)
	if v, err := d.Document("a"); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %q, %v; want ErrNotFound", v, err)
	}
	damaged := 0
	if err := d.Each("", func(_ string, value []byte) {
		if value == nil {
			damaged++
		}
	}); err != nil || damaged != 1 {
		t.Errorf("got %d damaged, %v; want one", damaged, err)
	}
	if v, err := d.Document("b"); err != nil || string(v) != "sound" {
		t.Errorf("got %q, %v; want the sound one", v, err)
	}
}
