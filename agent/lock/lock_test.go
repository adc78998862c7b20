package lock

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestALockThatAnotherUserMadeCanBeTaken(t *testing.T) {
	dir := t.TempDir()
	release, err := take(dir, syscall.LOCK_SH)
	if err != nil {
		t.Fatal(err)
	}
	release()
	path := filepath.Join(dir, file)
	if s, err := os.Stat(path); err != nil || s.Mode().Perm()&0o444 != 0o444 {
		t.Errorf("got %v, %v; want what everybody may read", s.Mode(), err)
	}
	if release, err = take(dir, syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	release()
}
