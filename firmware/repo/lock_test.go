package repo

import (
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
)

// Who signs releases and who signs families may be two users of one machine, of whom either
// came first.
func TestWhoMayNotWriteTheLockOfAnotherUserHoldsItNevertheless(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("root alone can be another user")
	}
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{settingsFile, lockFile} {
		if err := os.WriteFile(filepath.Join(dir, file), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	held := make(chan error)
	go func() {
		runtime.LockOSThread() // which ends with this goroutine, so nobody else is that user
		const nobody, same = 65534, ^uintptr(0)
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, same, nobody, same); errno != 0 {
			held <- errno
			return
		}
		unlock, err := Lock(t.Context(), dir, func() {})
		if err == nil {
			defer unlock()
		}
		held <- err
	}()
	if err := <-held; err != nil {
		t.Error(err)
	}
}
