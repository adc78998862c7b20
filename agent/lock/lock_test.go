package lock

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/limber-edge/limber/agent/wire"
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

func TestWhatMustNotMeetAnUpdateDoesNotWaitForTheLock(t *testing.T) {
	folder := t.TempDir()
	release, err := Try(folder)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Try(folder); !refused(err) {
		t.Errorf("locked twice: got %v", err)
	}
	release()
	held, err := Share(t.Context(), folder, func() { t.Error("it waits") })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Try(folder); !refused(err) {
		t.Errorf("held by a user: got %v", err)
	}
	held()
	if release, err = Try(folder); err != nil {
		t.Fatal(err)
	}
	release()
}

func refused(err error) bool {
	r, ok := errors.AsType[*wire.Refusal](err)
	return ok && r.Reason == wire.Locked
}
