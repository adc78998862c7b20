// Package lock says when the owner of a device lets something be activated on it: another
// family, or another release of the program.
//
//	Share ──▶ nothing is activated ──▶ released        Await: window open ──▶ lock taken
//
// The lock is a file in the folder of the state, locked (flock) by whoever does not want
// anything to be activated, shared with others of his kind, and by the agent while it
// activates something. A lock ends with the process that has it, so nothing can be left
// locked.
package lock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/limber-edge/limber/agent/control"
	"github.com/limber-edge/limber/agent/wire"
)

const file = "update.lock"

// ErrHeld says that another process has the lock.
var ErrHeld = errors.New(file + " is held by another process")

// sharePace is how often a lock that is held is tried by who wants to share it.
const sharePace = 100 * time.Millisecond

// Share keeps anything from being activated on the device whose state is in a folder,
// until release is called or the process ends. While something is being activated it
// waits, after it called waiting. Its errors are ctx's and those of the file.
func Share(ctx context.Context, folder string, waiting func()) (release func(), err error) {
	for first := true; ; first = false {
		release, err = take(folder, syscall.LOCK_SH)
		if !errors.Is(err, ErrHeld) {
			return release, err
		}
		if first {
			waiting()
		}
		select {
		case <-time.After(sharePace):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Try takes the lock as an activation does, for what must not meet one, and does not wait:
// while anybody has it the error is a *wire.Refusal.
func Try(folder string) (release func(), err error) {
	release, err = take(folder, syscall.LOCK_EX)
	if errors.Is(err, ErrHeld) {
		return nil, &wire.Refusal{Reason: wire.Locked, Err: err}
	}
	return release, err
}

// take takes the lock in one of the ways of flock, and does not wait.
func take(folder string, how int) (release func(), err error) {
	path := filepath.Join(folder, file)
	// To be read by all who get into the folder: who holds it may be another user than the agent.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("update lock: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
	if err == nil {
		return func() { f.Close() }, nil
	}
	f.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, ErrHeld
	}
	return nil, fmt.Errorf("lock %s: %w", path, err)
}

// Pace is how often Await looks at the clock on the wall, which may be set, and at the
// lock.
const Pace = time.Second

// Await waits until a window is open and nobody has the lock, which it returns with. It
// calls wait with what it waits for, whenever that is something else. Its errors are ctx's,
// wait's and those of the file.
func Await(ctx context.Context, folder string, w control.Window, clock func() time.Time,
	wait func(why string) error) (release func(), err error) {
	said := ""
	for {
		why := "until " + w.Opens()
		if w.Open(clock()) {
			if release, err = take(folder, syscall.LOCK_EX); !errors.Is(err, ErrHeld) {
				return release, err
			}
			why = err.Error()
		}
		if why != said {
			if err := wait(why); err != nil {
				return nil, err
			}
			said = why
		}
		select {
		case <-time.After(Pace):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
