package slot

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// readFile reads a file of at most so many bytes.
func readFile(path string, most int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(b)) > most {
		err = fmt.Errorf("%s: %w: more than %d bytes", path, ErrDamaged, most)
	}
	return b, err
}

// replace writes a file that is there whole or as it was before, through a power cut too.
func replace(path string, b []byte) error {
	part := path + ".new" // with one writer, one of a run that was cut is in nobody's use
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(part, path)
	}
	if err != nil {
		os.Remove(part) // for its room; it is in nobody's use
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// point makes a symbolic link lead somewhere, or not be there.
func point(link, to string) error {
	now, err := os.Readlink(link)
	switch {
	case to == "" && errors.Is(err, fs.ErrNotExist), err == nil && now == to:
		return nil
	case to == "":
		err = os.Remove(link)
	default:
		part := link + ".new"
		os.Remove(part)
		if err = os.Symlink(to, part); err == nil {
			err = os.Rename(part, link)
		}
	}
	if err != nil {
		return err
	}
	return syncFolder(filepath.Dir(link))
}

// syncFolder has the names in a folder on the disk.
func syncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// makeFolder makes a folder, if it is not there, and has its name on the disk.
func makeFolder(path string) error {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncFolder(filepath.Dir(path))
}
