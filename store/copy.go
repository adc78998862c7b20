package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Copy makes the files of a device in one folder those in another, which must be there. A
// file is there whole or as it was before; after a cut Copy is to be called again. Neither
// folder may be in use.
func Copy(from, to string) error { return copyFiles(from, to, files()...) }

func copyFiles(from, to string, names ...string) error {
	for _, name := range names {
		if err := copyFile(filepath.Join(from, name), filepath.Join(to, name)); err != nil {
			return fmt.Errorf("copy of the state: %w", err)
		}
	}
	return SyncFolder(to)
}

// The files of a device.
const (
	stateName   = "limber.db"
	outboxName  = "outbox.db"
	journalName = "outbox.log"
)

func files() []string { return []string{stateName, outboxName, journalName} }

// Size is how many bytes a copy of a device's files takes now.
func Size(folder string) (bytes int64, err error) {
	for _, name := range files() {
		info, err := os.Stat(filepath.Join(folder, name))
		switch {
		case err == nil:
			bytes += info.Size()
		case !errors.Is(err, fs.ErrNotExist):
			return 0, fmt.Errorf("size of the state: %w", err)
		}
	}
	return bytes, nil
}

// copyFile copies a file, or the lack of one.
func copyFile(from, to string) error {
	f, err := os.Open(from)
	if errors.Is(err, fs.ErrNotExist) {
		return removed(to)
	} else if err != nil {
		return err
	}
	defer f.Close()
	return fillFile(to, 0o600, func(w io.Writer) error {
		_, err := io.Copy(w, f)
		return err
	})
}
