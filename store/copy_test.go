package store

import (
	"os"
	"path/filepath"
	"testing"
)

func TestACopyOfTheStateHasWhatIsThereAndNothingElse(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	for path, content := range map[string]string{filepath.Join(from, "limber.db"): "a", filepath.Join(from, "outbox.db"): "b",
		filepath.Join(to, "outbox.db"): "longer", filepath.Join(to, "outbox.log"): "of another run", filepath.Join(to, "else"): "c"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := Size(from); n != 2 || err != nil {
		t.Errorf("got %d bytes, %v; want 2", n, err)
	}
	for range 2 {
		if err := Copy(from, to); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{"limber.db": "a", "outbox.db": "b", "outbox.log": "", "else": "c"} {
		b, err := os.ReadFile(filepath.Join(to, name))
		if string(b) != want || (err != nil) != (want == "") {
			t.Errorf("%s: got %q, %v; want %q", name, b, err, want)
		}
	}
	if s, err := os.Stat(filepath.Join(to, "limber.db")); err != nil || s.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v; want what its owner alone may read", s, err)
	}
	if all, err := os.ReadDir(to); err != nil || len(all) != 3 {
		t.Errorf("got %v, %v; want three files", all, err)
	}
}
