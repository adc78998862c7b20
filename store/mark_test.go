package store

import (
	"os"
	"path/filepath"
	"testing"
)

func TestAMarkIsThereForTheNextProcessOrAbsent(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	if got := s.Mark(); got != (Digest{}) {
		t.Errorf("in a new folder: got %v, want none", got)
	}
	for _, text := range []string{"a", "b"} {
		if err := s.SetMark(DigestOf([]byte(text))); err != nil {
			t.Fatal(err)
		}
		s.Close()
		if s = mustOpen(t, dir); s.Mark() != DigestOf([]byte(text)) {
			t.Errorf("got %v, want that of %s", s.Mark(), text)
		}
	}
	if err := os.Truncate(filepath.Join(dir, "limber.db.mark"), 7); err != nil {
		t.Fatal(err)
	}
	if got := s.Mark(); got != (Digest{}) {
		t.Errorf("torn: got %v, want none", got)
	}
}
