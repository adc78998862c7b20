package repo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// lockFile is locked (flock) by whoever edits a repository, and stays when that ends.
const lockFile = "repo.lock"

// lockPace is how often a repository is looked at that somebody else edits.
const lockPace = 100 * time.Millisecond

// Lock has nobody else edit a repository until unlock is called or the process ends: of
// two who open it and publish, one would take back what the other one did. While another
// one edits it waits, after it called waiting. It is taken before Open. Its errors are
// ctx's and those of the file.
func Lock(ctx context.Context, dir string, waiting func()) (unlock func(), err error) {
	if !isThere(dir) {
		return func() {}, nil // Open says so
	}
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o644)
	if errors.Is(err, fs.ErrPermission) { // it is another user's; to read it does, but over NFS
		f, err = os.Open(filepath.Join(dir, lockFile))
	}
	if err != nil {
		return nil, fmt.Errorf("repository: %w", err)
	}
	for first := true; ; first = false {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		} else if !errors.Is(err, syscall.EWOULDBLOCK) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		if first {
			waiting()
		}
		select {
		case <-time.After(lockPace):
		case <-ctx.Done():
			f.Close()
			return nil, ctx.Err()
		}
	}
}
