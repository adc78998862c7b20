package check

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/limber-edge/limber/store"
)

// Disk tries whether something can be kept in the state folder.
type Disk struct {
	Folder string
	Free   int64 // bytes that are to stay free on its file system
}

// Run implements Check. With less room than is to stay free results wait in memory, which
// is a warning.
func (d Disk) Run(context.Context) Finding {
	const check = "disk"
	own := fmt.Sprintf("let the agent's user write there: chown -R limber: %s", d.Folder)
	at, err := existing(d.Folder)
	switch {
	case err != nil:
	case at != d.Folder:
		if err = unix.Access(at, unix.W_OK|unix.X_OK); err != nil {
			err = fmt.Errorf("make %s in %s: %w", d.Folder, at, err)
		}
	default:
		err = tryWrite(d.Folder)
	}
	if err != nil {
		return failsBy(check, Error, own, err)
	}
	left, err := store.FreeBytes(at)
	switch {
	case err != nil:
		return failsBy(check, Error, own, err)
	case left < d.Free:
		return fails(check, Warning, "make room, or lower outbox.free_mib",
			"%s has %d MiB left on its file system, less than the %d that are to stay free", d.Folder, left>>20, d.Free>>20)
	}
	return holds(check, Error, "%s can be written, %d MiB are left", d.Folder, left>>20)
}

// existing is a folder, or the nearest one above it that is there.
func existing(folder string) (string, error) {
	at, err := filepath.Abs(folder)
	if err != nil {
		return "", err
	}
	for {
		info, err := os.Stat(at)
		switch {
		case err == nil && !info.IsDir():
			return "", fmt.Errorf("%s is no folder; remove it, or set state to another one", at)
		case err == nil:
			return at, nil
		case !errors.Is(err, fs.ErrNotExist):
			return "", err
		}
		at = filepath.Dir(at)
	}
}

// tryWrite makes a file in a folder, has it on the disk, and removes it.
func tryWrite(folder string) error {
	f, err := os.CreateTemp(folder, "check-*.part")
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, 4096))
	return errors.Join(err, f.Sync(), f.Close(), os.Remove(f.Name()))
}
