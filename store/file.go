package store

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// errDamaged marks a file whose content cannot be what was written.
var errDamaged = errors.New("damaged")

// errMoved tells a transaction that began too late that the file lies elsewhere now.
var errMoved = errors.New("moved")

// A file is a bbolt file that survives what bbolt does not: bbolt takes what it
// reads for granted, so all pages are checked before (see checkPages); and a page
// that goes bad later makes it panic, or is a memory fault, both of which become
// errDamaged here. Where the folder cannot be used the file is in memory (see
// away.go).
type file struct {
	path   string
	opts   fileOptions
	log    *slog.Logger
	now    atomic.Pointer[database]
	broken atomic.Bool
	fresh  bool // nothing of what an earlier process may have stored is in it

	telling sync.Mutex
	damage  []string // what else was found when it was opened, as sentences

	unusable atomic.Pointer[error] // why it is in memory; nil if it is not
	origin   os.FileInfo           // of the file that was copied into memory; nil: none
}

// fileOptions are how a file is opened.
type fileOptions struct {
	noSync bool
	stayUp bool // in memory rather than not at all
	holds  bool // what is written while in memory is kept there, for the disk
	intact bool // what is damaged is an error
}

// A database is what bbolt has open.
type database struct {
	*bolt.DB
	handle *os.File // the DB's own, to let go of the lock when the DB cannot
	info   os.FileInfo
	made   bool // and not found
	memory bool
	trust  trust // in what was found in it
}

// makeFolder creates the state folder, closed to others.
func makeFolder(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("create state folder: %w", err)
	}
	return nil
}

// openFile opens path and runs load in its first transaction. A file that is
// damaged, as the check or load tells, is renamed and replaced by a new one; its
// new name is returned. load may therefore run more than once.
func openFile(path string, opts fileOptions, log *slog.Logger, load func(*bolt.Tx) error) (
	f *file, quarantined string, err error,
) {
	f = &file{path: path, opts: opts, log: log}
	db, quarantined, err := f.onDisk(load)
	if err != nil && opts.stayUp && !errors.Is(err, ErrLocked) && !(opts.intact && errors.Is(err, errDamaged)) {
		db, err = f.inMemory(load, err)
	}
	if err != nil {
		return nil, "", fmt.Errorf("open %s: %w", path, err)
	}
	f.now.Store(db)
	f.fresh = db.made
	if db.trust == broken {
		f.tell(fmt.Errorf("%s: %w: the count of numbers and time", path, errDamaged))
	}
	return f, quarantined, nil
}

// onDisk opens the file where it belongs.
func (f *file) onDisk(load func(*bolt.Tx) error) (db *database, quarantined string, err error) {
	db, err = f.tryOpen(load)
	if errors.Is(err, errDamaged) && !f.opts.intact {
		cause := err
		if quarantined, err = quarantine(f.path, f.log); err != nil {
			return nil, "", err
		}
		f.log.Warn("damaged file set aside", "err", fmt.Errorf("%s: %w", quarantined, cause))
		db, err = f.tryOpen(load)
	}
	return db, quarantined, err
}

// tryOpen opens the file and loads it. Unless it succeeds nothing stays open, nor does
// a file that it made and could not fill: it would be damage to the next attempt.
func (f *file) tryOpen(load func(*bolt.Tx) error) (*database, error) {
	db, err := openHandle(f.path)
	if err != nil {
		return nil, err
	}
	if err = lock(db.handle); err == nil {
		err = f.check(db)
	}
	if err == nil {
		err = db.load(f.path, f.opts.noSync, load)
	}
	if err == nil {
		err = removed(f.path + compactSuffix)
	}
	if err == nil {
		err = SyncFolder(filepath.Dir(f.path))
	}
	if err == nil {
		return db, nil
	}
	db.giveUp(err)
	if db.made && !errors.Is(err, ErrLocked) {
		return nil, errors.Join(err, removed(f.path))
	}
	return nil, err
}

// openHandle opens a file to read and write it, and makes it if there is none. Its error
// does not name the file.
func openHandle(path string) (db *database, err error) {
	if err := occupied(path); err != nil {
		return nil, err
	}
	db = &database{}
	if db.handle, err = os.OpenFile(path, os.O_RDWR, 0); errors.Is(err, os.ErrNotExist) {
		db.made = true
		db.handle, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil, advice("its folder was removed; restart the agent, which builds its state anew, or make the folder again")
	}
	var named *os.PathError
	if errors.As(err, &named) {
		err = named.Err
	}
	return db, err
}

// advice is an error that says itself what helps.
type advice string

func (a advice) Error() string { return string(a) }

// occupied is an error if a folder lies where a file belongs.
func occupied(path string) error {
	if info, err := os.Stat(path); err != nil || !info.IsDir() {
		return nil
	}
	return advice("a folder is in its place; move the folder away")
}

// lock waits for a second for other processes to let go of the file.
func lock(h *os.File) error {
	for end := time.Now().Add(time.Second); ; time.Sleep(50 * time.Millisecond) {
		err := syscall.Flock(int(h.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return err
		}
		if !time.Now().Before(end) {
			return ErrLocked
		}
	}
}

// check judges a file that was there before anything trusts it. One that is there and
// holds nothing, as a power cut may leave it, is damaged: bbolt would take it for a
// new one, and nobody would learn what was lost.
func (f *file) check(db *database) (err error) {
	if db.info, err = db.handle.Stat(); err != nil || db.made {
		return err
	}
	if !db.inPlace(f.path) {
		return ErrLocked // and replaced, by whoever had it locked
	}
	if db.info.Size() == 0 {
		return fmt.Errorf("%w: the file is empty", errDamaged)
	}
	older, err := checkPages(db.handle, db.info.Size())
	if older != nil {
		f.tell(fmt.Errorf("%s: %w; what was stored last may be lost", f.path, older))
	}
	return err
}

// tell notes what was wrong with the file, which is in use all the same.
func (f *file) tell(what error) {
	f.log.Warn("file is not as it was left", "err", what)
	f.telling.Lock()
	defer f.telling.Unlock()
	f.damage = append(f.damage, what.Error())
}

// told is what was wrong.
func (f *file) told() []string {
	f.telling.Lock()
	defer f.telling.Unlock()
	return slices.Clone(f.damage)
}

// missed is told whether an earlier process is known to have left the file.
func (f *file) missed(left bool) {
	if left && f.fresh && f.away() == nil {
		f.tell(fmt.Errorf("%s was removed; what it held is lost", f.path))
	}
}

// load has bbolt open the file and runs the first transaction, if there is one.
func (db *database) load(path string, noSync bool, load func(*bolt.Tx) error) error {
	return guard(func() error {
		if err := db.open(path, noSync); err != nil || load == nil {
			return err
		}
		return db.Update(sealed(func(tx *bolt.Tx) error {
			db.trust = trustOf(tx)
			return load(tx)
		}))
	})
}

// open has bbolt open the file, which was checked.
func (db *database) open(path string, noSync bool) (err error) {
	opts := bolt.Options{
		// NoFreelistSync would save a page per commit. But the free list tells
		// of a page that is reached by a damaged number; and after each failed
		// commit bbolt would scan the whole tree, in a goroutine of its own,
		// where a panic cannot be caught.
		FreelistType: bolt.FreelistMapType,
		NoSync:       noSync,
		NoGrowSync:   noSync,
		OpenFile:     func(string, int, os.FileMode) (*os.File, error) { return db.handle, nil },
	}
	if db.memory {
		opts.MaxSize = memoryMost
	}
	db.DB, err = bolt.Open(path, 0o600, &opts)
	return err
}

// makeBuckets makes those of a new file. One that is not new has them all, or a name
// of theirs is damaged.
func makeBuckets(tx *bolt.Tx, names ...string) error {
	first, _ := tx.Cursor().First()
	for _, name := range names {
		if first != nil && tx.Bucket([]byte(name)) == nil {
			return fmt.Errorf("%w: bucket %s is missing", errDamaged, name)
		}
		if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
			return fmt.Errorf("create bucket %s: %w", name, err)
		}
	}
	return nil
}

// giveUp closes a database that could not be opened for this reason.
func (db *database) giveUp(why error) {
	if db.DB == nil || errors.Is(why, errDamaged) {
		db.abandon()
		return
	}
	db.Close()
}

// abandon lets go of a file that cannot be closed in order. What bbolt mapped
// stays mapped, since a reader may still look at it, and the mapping would keep
// the lock: therefore it is given up by name.
func (db *database) abandon() {
	syscall.Flock(int(db.handle.Fd()), syscall.LOCK_UN)
	db.handle.Close()
}

func (db *database) inPlace(path string) bool {
	info, err := os.Stat(path)
	return err == nil && os.SameFile(info, db.info)
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

// inPlace tells whether the file is still the one its path names, or in memory. What
// is written to a removed file succeeds and is lost.
func (f *file) inPlace() bool {
	db := f.now.Load()
	return db.memory || db.inPlace(f.path)
}

func (f *file) view(fn func(*bolt.Tx) error) error {
	return f.run(func(db *database) error { return db.View(fn) })
}

// update runs a transaction that writes. While the file is in memory it is only run
// where the file holds what is written, or can be on the disk again.
func (f *file) update(fn func(*bolt.Tx) error) error {
	if !f.opts.holds {
		if err := f.land(); err != nil {
			return err
		}
	}
	return f.write(fn)
}

// write runs a transaction that writes, wherever the file is.
func (f *file) write(fn func(*bolt.Tx) error) error {
	return f.run(func(db *database) error {
		return db.Update(sealed(func(tx *bolt.Tx) error {
			if f.now.Load() != db {
				return errMoved
			}
			return fn(tx)
		}))
	})
}

// run runs a transaction, again if the file went from memory to the disk under it.
func (f *file) run(tx func(*database) error) error {
	for {
		db := f.now.Load()
		err := f.guarded(func() error { return tx(db) })
		moved := errors.Is(err, errMoved) || errors.Is(err, bolterrors.ErrDatabaseNotOpen)
		if !moved || f.now.Load() == db {
			return err
		}
	}
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
	db := f.now.Load()
	if f.broken.Load() {
		db.abandon()
		return nil
	}
	if err := db.Close(); err != nil {
		return fmt.Errorf("close %s: %w", f.path, err)
	}
	return nil
}
