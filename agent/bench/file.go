package bench

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// fillFile makes the file when it is whole: half a trace looks like a whole one.
// After an error what was written is in name.part.
func fillFile(name string, fill func(io.Writer) error) error {
	if target, err := filepath.EvalSymlinks(name); err == nil {
		name = target // the link stays
	}
	if i, err := os.Stat(name); err == nil && !i.Mode().IsRegular() {
		return fillDevice(name, fill)
	}
	part := name + ".part"
	f, err := os.CreateTemp(filepath.Dir(name), ".limber-*") // an earlier part stays until there is more
	if err != nil {
		return err
	}
	err = errors.Join(fill(f), f.Chmod(0o644), f.Close())
	if err == nil {
		return os.Rename(f.Name(), name)
	}
	if i, e := os.Stat(f.Name()); e != nil || i.Size() == 0 {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if e := os.Rename(f.Name(), part); e != nil {
		return errors.Join(err, e)
	}
	return fmt.Errorf("%w; what was written until then is in %s", err, part)
}

// fillDevice writes to what is no file, such as /dev/null or a pipe, and must
// not be replaced by one.
func fillDevice(name string, fill func(io.Writer) error) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(fill(f), f.Close())
}
