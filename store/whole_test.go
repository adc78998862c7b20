package store

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// wantAlone checks that a folder holds one file with these bytes.
func wantAlone(tb testing.TB, path, want string) {
	tb.Helper()
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		tb.Errorf("got %q, %v; want %q", got, err, want)
	}
	if all, err := os.ReadDir(filepath.Dir(path)); err != nil || len(all) != 1 {
		tb.Errorf("got files %v, %v; want one", all, err)
	}
}

func TestAFileIsReplacedWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for _, content := range []string{"first", strings.Repeat("longer", 1<<16), ""} {
		if err := WriteFile(path, []byte(content)); err != nil {
			t.Fatal(err)
		}
		wantAlone(t, path, content)
	}
}

func TestAFileThatIsNotFilledStaysAsItWas(t *testing.T) {
	path, broken := filepath.Join(t.TempDir(), "f"), errors.New("broken")
	if err := WriteFile(path, []byte("before")); err != nil {
		t.Fatal(err)
	}
	err := FillFile(path, func(w io.Writer) error {
		wantBefore, err := os.ReadFile(path)
		if string(wantBefore) != "before" {
			t.Errorf("got %q, %v while it is filled; want what was there", wantBefore, err)
		}
		_, err = io.WriteString(w, strings.Repeat("half", 1<<20))
		return errors.Join(err, broken)
	})
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v, want the cause and the file", err)
	}
	wantAlone(t, path, "before")
}

func TestAFileInNoFolderIsNotWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none", "f")
	if err := WriteFile(path, nil); !errors.Is(err, os.ErrNotExist) || !strings.HasPrefix(err.Error(), "write "+path) {
		t.Errorf("got %v, want what is missing", err)
	}
}

func TestAFileInTheWorkingFolderNeedsNoPath(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := WriteFile("f", []byte("here")); err != nil {
		t.Fatal(err)
	}
	wantAlone(t, "f", "here")
}
