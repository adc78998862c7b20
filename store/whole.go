package store

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// WriteFile writes a file that is there whole or not at all, see FillFile.
func WriteFile(path string, b []byte) error { return fillFile(path, 0o644, bytesOf(b)) }

// WriteSecret is WriteFile for what only its owner may read.
func WriteSecret(path string, b []byte) error { return fillFile(path, 0o600, bytesOf(b)) }

// bytesOf is a fill that writes b.
func bytesOf(b []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	}
}

// FillFile writes a file of what fill writes. Until the whole of it is on the disk
// a file that was there before stays, through a power cut too; after an error
// nothing else is left.
func FillFile(path string, fill func(io.Writer) error) error { return fillFile(path, 0o644, fill) }

func fillFile(path string, mode os.FileMode, fill func(io.Writer) error) error {
	dir, base := filepath.Split(path)
	// A name of its own: two who write the same file must not write into one another's.
	part := filepath.Join(dir, fmt.Sprintf(".%s.%08x.part", base, rand.Uint32()))
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	w := bufio.NewWriterSize(f, 1<<16)
	if err = fill(w); err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(part, path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), removed(part))
	}
	if err := SyncFolder(filepath.Clean(dir)); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
