package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// memoryMost bounds a file in memory, in bytes.
const memoryMost = 256 << 20

// errUnusable marks a state folder that cannot be used at the time.
var errUnusable = errors.New("in memory only, and lost with the process")

// away tells why the file is in memory, nil if it is not.
func (f *file) away() error {
	why := f.unusable.Load()
	switch {
	case why == nil:
		return nil
	case errors.As(*why, new(advice)):
		return fmt.Errorf("%s is %w: %w", f.path, errUnusable, *why)
	}
	return fmt.Errorf("%s is %w, until the state folder can be written; see to its permissions and to the room on its "+
		"disk: %w", f.path, errUnusable, *why)
}

// inMemory opens a file in memory, with what the one on the disk holds if that can be
// read, as it cannot be used on the disk for this reason.
func (f *file) inMemory(load func(*bolt.Tx) error, why error) (*database, error) {
	if err := makeFolder(filepath.Dir(f.path)); err != nil {
		why = err // that it is not there says less
	}
	db, err := f.memory(true, load)
	if errors.Is(err, errDamaged) {
		db, err = f.memory(false, load)
	}
	if err != nil {
		return nil, fmt.Errorf("%w; in memory: %w", why, err)
	}
	f.unusable.Store(&why)
	f.log.Warn("state is kept in memory", "err", f.away())
	return db, nil
}

// memory makes a file in memory.
func (f *file) memory(copied bool, load func(*bolt.Tx) error) (*database, error) {
	fd, err := unix.MemfdCreate(filepath.Base(f.path), unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	db := &database{handle: os.NewFile(uintptr(fd), f.path), memory: true}
	if f.origin = nil; copied {
		f.origin, err = f.copyInto(db.handle)
	}
	db.made = f.origin == nil
	if err == nil {
		err = db.load(f.path, true, load)
	}
	if err != nil {
		db.giveUp(err)
		return nil, err
	}
	return db, nil
}

// copyInto copies the file on the disk, if there is one that is sound and within bounds,
// and returns which it was.
func (f *file) copyInto(h *os.File) (os.FileInfo, error) {
	from, err := os.Open(f.path)
	if err != nil {
		return nil, nil
	}
	defer from.Close()
	if err := lock(from); errors.Is(err, ErrLocked) {
		return nil, err
	}
	info, err := from.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() > memoryMost {
		return nil, nil
	}
	if _, err := checkPages(from, info.Size()); err != nil {
		f.tell(fmt.Errorf("%s: %w; what it holds is not used", f.path, err))
		return nil, nil
	}
	_, err = io.Copy(h, from)
	return info, err
}

// land opens the file on the disk, if it is in memory, and brings there what was
// stored meanwhile. Whoever writes waits.
func (f *file) land() error {
	held := f.now.Load()
	if !held.memory {
		return nil
	}
	err := guard(func() error {
		return held.Update(func(tx *bolt.Tx) error {
			if f.now.Load() != held {
				return errMoved // by another
			}
			return f.landFrom(tx)
		})
	})
	if f.now.Load() == held {
		f.unusable.Store(&err)
		return f.away()
	}
	f.unusable.Store(nil)
	return held.Close()
}

// landFrom does so with what is in tx. It returns errMoved once it is done.
func (f *file) landFrom(tx *bolt.Tx) error {
	if err := makeFolder(filepath.Dir(f.path)); err != nil {
		return err
	}
	if err := occupied(f.path); err != nil {
		return err
	}
	if info, err := os.Stat(f.path); err == nil && (f.origin == nil || !unchanged(info, f.origin)) {
		return advice("a file that was not there before, or not to be read, has come, or another process wrote to it; " +
			"restart the agent, which uses it")
	}
	db, _, err := f.onDisk(func(to *bolt.Tx) error { return bring(tx, to) })
	if err != nil {
		if info, e := os.Stat(f.path); e == nil && !errors.Is(err, ErrLocked) {
			f.origin = info // as this attempt left it
		}
		return err
	}
	f.now.Store(db)
	f.log.Info("state is on the disk again")
	return errMoved
}

// unchanged tells whether a file is the one it was, and nobody wrote to it: in memory
// nothing keeps another process from that.
func unchanged(now, then os.FileInfo) bool {
	return os.SameFile(now, then) && now.Size() == then.Size() && now.ModTime().Equal(then.ModTime())
}

// bring has one file hold what another does.
func bring(from, to *bolt.Tx) error {
	return from.ForEach(func(name []byte, b *bolt.Bucket) error {
		into, err := to.CreateBucketIfNotExists(name)
		if err != nil {
			return err
		}
		if _, err := prune(into, func(key, _ []byte) bool { return b.Get(key) != nil }); err != nil {
			return err
		}
		return b.ForEach(func(key, value []byte) error {
			if had := into.Get(key); had != nil && bytes.Equal(had, value) {
				return nil
			}
			return into.Put(key, value)
		})
	})
}

// keepTrying brings a file that is in memory to the disk as soon as that can be.
func (f *file) keepTrying(ctx context.Context) error {
	for pause := firstRetry; f.land() != nil; pause = min(2*pause, lastRetry) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
	return nil
}
