package power

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
)

// statusMode is what the status file begins with; some versions go on with the fan's
// mode.
var statusMode = regexp.MustCompile(`^pmode:[0-9]+`)

// leave has nvpmodel take a mode when the board starts, and reads that back: its status
// file names it, and whatever stands behind the mode there stays.
func (b *Board) leave(id int) error {
	path := b.path(statusFile)
	former, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	rest := ""
	if mode := statusMode.Find(former); mode != nil {
		rest = string(former[len(mode):])
	}
	if err := writeWhole(path, fmt.Sprintf("pmode:%04d%s", id, rest)); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if got, ok := parseStatus(b.status()); !ok || got != id {
		return fmt.Errorf("%s was written, but does not name mode %d", path, id)
	}
	return nil
}

// writeWhole replaces a file, whose folder is made where it is missing: after a power cut
// the file has the old text or the new one. All may read it.
func writeWhole(path, text string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	file, err := os.CreateTemp(dir, filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = file.WriteString(text)
	err = errors.Join(err, file.Chmod(0o644), file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		os.Remove(file.Name())
		return err
	}
	folder, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer folder.Close()
	return folder.Sync()
}
