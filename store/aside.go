package store

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// asideMark stands in the name of a damaged file between what it was and when it
// was set aside, in seconds since 1970; behind a point, which it was of that second.
const asideMark = ".db.corrupt-"

// quarantine renames the damaged file at path and returns its new name.
func quarantine(path string, log *slog.Logger) (string, error) {
	name := fmt.Sprintf("%s.corrupt-%d", path, time.Now().Unix())
	for n := 2; exists(name); n++ {
		name = fmt.Sprintf("%s.corrupt-%d.%d", path, time.Now().Unix(), n)
	}
	if err := os.Rename(path, name); err != nil {
		return "", fmt.Errorf("set damaged file aside: %w", err)
	}
	if err := thin(name); err != nil {
		log.Warn("damaged files of earlier not removed", "err", err)
	}
	return name, nil
}

// asideMost is how many damaged files stay in the state folder: a disk that fails
// again and again must not be filled with them.
const asideMost = 2

// thin removes the damaged files beside newest, which was set aside just now, but
// for the last ones before it.
func thin(newest string) error {
	dir := filepath.Dir(newest)
	files, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var aside []string
	for _, f := range files {
		if _, ok := asideTime(f.Name()); ok && f.Name() != filepath.Base(newest) {
			aside = append(aside, f.Name())
		}
	}
	slices.SortStableFunc(aside, func(a, b string) int {
		first, _ := asideTime(a)
		second, _ := asideTime(b)
		return slices.Compare(second[:], first[:])
	})
	var errs []error
	for _, name := range aside[min(asideMost-1, len(aside)):] {
		errs = append(errs, removed(filepath.Join(dir, name)))
	}
	return errors.Join(errs...)
}

// asideTime is when a damaged file was set aside, by its name: the second and
// which it was of it. It is false for a name that quarantine does not give.
func asideTime(name string) (when [2]int, ok bool) {
	_, rest, ok := strings.Cut(name, asideMark)
	second, nth, more := strings.Cut(rest, ".")
	when[1] = 1
	var errs [2]error
	when[0], errs[0] = strconv.Atoi(second)
	if more {
		when[1], errs[1] = strconv.Atoi(nth)
	}
	return when, ok && errs == [2]error{}
}

// removed removes a file that need not be there.
func removed(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
