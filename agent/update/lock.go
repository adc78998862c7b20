package update

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/limber-edge/limber/agent/wire"
)

// lockFile is locked (flock) by whoever does not want a family to be activated, shared
// with others of his kind, and by the agent while it activates one. A lock ends with
// the process that has it.
const lockFile = "update.lock"

// errHeld says that another process has the lock.
var errHeld = errors.New(lockFile + " is held by another process")

// lockPace is how often a lock that is held is tried.
const lockPace = 100 * time.Millisecond

// Hold keeps families from being activated on the device whose state is in a folder,
// until release is called or the process ends. While one is being activated it waits,
// after it called waiting. Its errors are ctx's and those of the file.
func Hold(ctx context.Context, folder string, waiting func()) (release func(), err error) {
	for first := true; ; first = false {
		release, err = lock(folder, syscall.LOCK_SH)
		if !errors.Is(err, errHeld) {
			return release, err
		}
		if first {
			waiting()
		}
		select {
		case <-time.After(lockPace):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// TryLock takes the lock as an activation does, for what must not meet one, and does not
// wait: while anybody has it the error is a *wire.Refusal.
func TryLock(folder string) (release func(), err error) {
	release, err = lock(folder, syscall.LOCK_EX)
	if errors.Is(err, errHeld) {
		return nil, &wire.Refusal{Reason: wire.Locked, Err: err}
	}
	return release, err
}

// lock takes the lock in one of the ways of flock, and does not wait.
func lock(folder string, how int) (release func(), err error) {
	path := filepath.Join(folder, lockFile)
	// To be read by all who get into the folder: who holds it may be another user than the agent.
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("update lock: %w", err)
	}
	err = syscall.Flock(int(file.Fd()), how|syscall.LOCK_NB)
	if err == nil {
		return func() { file.Close() }, nil
	}
	file.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, errHeld
	}
	return nil, fmt.Errorf("lock %s: %w", path, err)
}
