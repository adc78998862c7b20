package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// errDamaged marks a file whose content cannot be what was written.
var errDamaged = errors.New("damaged")

// A file is a bbolt file that survives what bbolt does not: bbolt panics on a
// page that makes no sense, and a page missing at the end of a mapped file is a
// memory fault. Both become errDamaged here.
type file struct {
	path   string
	db     *bolt.DB
	handle *os.File // the db's own, to let go of the lock when db cannot
	info   os.FileInfo
	broken atomic.Bool
}

// makeFolder creates the state folder, closed to others.
func makeFolder(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("create state folder: %w", err)
	}
	return nil
}

// openFile opens path and runs load in its first transaction. A file that is
// damaged, as either of them tells, is renamed and replaced by a new one; its
// new name is returned. load may therefore run twice. noSync: see Options.
func openFile(path string, noSync bool, log *slog.Logger, load func(*bolt.Tx) error) (
	f *file, quarantined string, err error,
) {
	f, err = tryOpen(path, noSync, load)
	if errors.Is(err, errDamaged) {
		cause := err
		if quarantined, err = quarantine(path, log); err != nil {
			return nil, "", err
		}
		log.Warn("damaged file set aside", "err", fmt.Errorf("%s: %w", quarantined, cause))
		f, err = tryOpen(path, noSync, load)
	}
	if err != nil {
		return nil, "", fmt.Errorf("open %s: %w", path, err)
	}
	return f, quarantined, nil
}

// tryOpen opens path and loads it. Unless it succeeds nothing stays open, nor does
// a file that it made and could not fill: it would be damage to the next attempt.
func tryOpen(path string, noSync bool, load func(*bolt.Tx) error) (*file, error) {
	f := &file{path: path}
	made := !exists(path)
	err := f.emptied()
	if err == nil {
		err = guard(func() error { return f.open(noSync) })
	}
	if err == nil {
		err = guard(f.verify)
	}
	if err == nil {
		err = f.update(load)
	}
	if err == nil {
		err = removed(path + compactSuffix)
	}
	if err == nil {
		err = SyncFolder(filepath.Dir(path))
	}
	if err == nil {
		return f, nil
	}
	cause := err
	if err = f.classify(cause); errors.Is(err, errDamaged) || f.db == nil {
		f.abandon()
	} else {
		f.db.Close()
	}
	if made && !errors.Is(err, ErrLocked) {
		return nil, errors.Join(cause, removed(path))
	}
	return nil, err
}

// removed removes a file that need not be there.
func removed(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// emptied tells of a file that is there and holds nothing, as a power cut may
// leave one: bbolt would take it for a new one, and nobody would learn what was
// lost. A file that another process is just making is locked.
func (f *file) emptied() error {
	h, err := os.OpenFile(f.path, os.O_RDWR, 0)
	if err != nil {
		return nil // bbolt makes it, or says why it may not
	}
	defer h.Close()
	info, err := h.Stat()
	if err != nil || info.Size() > 0 || syscall.Flock(int(h.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		return nil
	}
	return fmt.Errorf("%w: the file is empty", errDamaged)
}

func (f *file) open(noSync bool) error {
	db, err := bolt.Open(f.path, 0o600, &bolt.Options{
		Timeout: time.Second,
		// NoFreelistSync would save a page per commit, but then bbolt
		// scans the tree in a goroutine of its own when it opens, where a
		// panic over a damaged page cannot be caught.
		FreelistType: bolt.FreelistMapType,
		NoSync:       noSync,
		NoGrowSync:   noSync,
		OpenFile: func(name string, flag int, perm os.FileMode) (h *os.File, err error) {
			f.handle, err = os.OpenFile(name, flag, perm)
			return f.handle, err
		},
	})
	f.db = db
	return err
}

// verify reads the whole tree before anything is written: with a damaged list
// of free pages bbolt would write over live ones, or anywhere.
func (f *file) verify() error {
	var err error
	if f.info, err = f.handle.Stat(); err != nil {
		return err
	}
	if !f.inPlace() { // who had it locked put another in its place
		return ErrLocked
	}
	return f.db.View(func(tx *bolt.Tx) error {
		// A file that was cut short opens, and faults where it ends.
		if f.info.Size() < tx.Size() {
			return fmt.Errorf("%w: %d of %d bytes", errDamaged, f.info.Size(), tx.Size())
		}
		// Check reads the tree in a goroutine of its own, where a fault
		// would end the process; so it only gets a tree that was read here.
		if err := tx.ForEach(walk); err != nil {
			return err
		}
		var first error
		for err := range tx.Check() { // to the end, or its goroutine stays
			if first == nil {
				first = fmt.Errorf("%w: %w", errDamaged, err)
			}
		}
		return first
	})
}

// walk reads the keys of a bucket.
func walk(name []byte, b *bolt.Bucket) error {
	var last []byte
	return b.ForEach(func(key, _ []byte) error {
		if bytes.Compare(last, key) >= 0 {
			return fmt.Errorf("%w: keys of bucket %s out of order", errDamaged, name)
		}
		last = key
		return nil
	})
}

// classify sorts out why a file did not open: the lock, the file, or anything
// else, for which the file is not to blame. bbolt does not wrap all errors of
// the system, so only what certainly is damage counts as such: a healthy file
// must not be set aside because the disk is full.
func (f *file) classify(err error) error {
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return ErrLocked
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrVersionMismatch),
		errors.Is(err, bolterrors.ErrChecksum),
		f.db == nil && f.tooShort():
		return fmt.Errorf("%w: %w", errDamaged, err)
	default:
		return err
	}
}

// tooShort tells whether the file is not empty, as one is that bbolt just made and
// could not fill, and yet has no room for the two roots.
func (f *file) tooShort() bool {
	info, err := os.Stat(f.path)
	return err == nil && info.Size() > 0 && info.Size() < 2*int64(os.Getpagesize())
}

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

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// SyncFolder makes the names in dir durable: without it a power cut can take
// away a new file whose content is already on the disk.
func SyncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// inPlace tells whether the file is still the one its path names. What is
// written to a removed file succeeds and is lost.
func (f *file) inPlace() bool {
	info, err := os.Stat(f.path)
	return err == nil && os.SameFile(info, f.info)
}

func (f *file) view(fn func(*bolt.Tx) error) error {
	return f.guarded(func() error { return f.db.View(fn) })
}

func (f *file) update(fn func(*bolt.Tx) error) error {
	return f.guarded(func() error { return f.db.Update(fn) })
}

// guarded runs a transaction. After damage bbolt's own locks may be held for
// ever, so the file is not touched again.
func (f *file) guarded(tx func() error) error {
	if f.broken.Load() {
		return errDamaged
	}
	err := guard(tx)
	if errors.Is(err, errDamaged) {
		f.broken.Store(true)
	}
	return err
}

// guard runs fn and turns a panic or a memory fault in it into errDamaged.
func guard(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errDamaged, p)
		}
	}()
	return fn()
}

// close closes the file after the transactions under way.
func (f *file) close() error {
	if f.broken.Load() {
		f.abandon()
		return nil
	}
	if err := f.db.Close(); err != nil {
		return fmt.Errorf("close %s: %w", f.path, err)
	}
	return nil
}

// abandon lets go of a file that cannot be closed in order. What bbolt mapped
// stays mapped, since a reader may still look at it, and the mapping would keep
// the lock: therefore it is given up by name.
func (f *file) abandon() {
	if f.handle == nil {
		return
	}
	syscall.Flock(int(f.handle.Fd()), syscall.LOCK_UN)
	f.handle.Close()
}
