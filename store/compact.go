package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"
)

// When the file is compacted: bbolt uses free pages again, but never gives them back.
const (
	compactIdle  = time.Minute // nothing was written for
	compactLeast = 8 << 20     // bytes of the file
	compactRetry = time.Hour   // after it was not possible

	compactTx   = 4 << 20  // bytes of one transaction of the copy; each leaves some pages free
	compactPage = 16 << 10 // bytes; in pages of 4 KiB a fifth would be lost to records that just do not fit
)

// compactSuffix ends the name of a copy in the making. What has it is never read: at
// the next start it is removed.
const compactSuffix = ".compact"

// A compaction is a copy in the making, without what is free. Commits go on meanwhile,
// and make it useless.
type compaction struct {
	cancel context.CancelFunc
	done   chan copied // one
	stale  bool
}

type copied struct {
	file *file // nil after an error
	err  error
}

// begin has a copy made unless one is.
func (c *compaction) begin(f *file) {
	ctx, cancel := context.WithCancel(context.Background())
	*c = compaction{cancel: cancel, done: make(chan copied, 1)}
	go func() {
		n, err := f.compact(ctx)
		c.done <- copied{n, err}
	}()
}

// outdate gives the copy up.
func (c *compaction) outdate() {
	if c.done != nil {
		c.cancel()
		c.stale = true
	}
}

// end gives the copy up and waits until nothing is left of it.
func (c *compaction) end() {
	if c.done == nil {
		return
	}
	c.outdate()
	if r := <-c.done; r.file != nil {
		r.file.discard()
	}
}

// compactable tells whether it is time to see if the file should be compacted.
func (o *Outbox) compactable() (at time.Time, ok bool) {
	p := &o.pace
	if p.compact.IsZero() || p.fault != nil || o.memory.count() > 0 || o.changed() {
		return time.Time{}, false
	}
	return p.compact, true
}

// startCompaction begins one if it is time and worth it.
func (o *Outbox) startCompaction(c *compaction) {
	if f := o.compactNow(c.done != nil); f != nil && f.wasteful() {
		c.begin(f)
	}
}

// compactNow returns the file if it is time to see whether it should be compacted. busy:
// there is a copy that was given up and has not ended.
func (o *Outbox) compactNow(busy bool) *file {
	o.mu.Lock()
	defer o.mu.Unlock()
	at, ok := o.compactable()
	switch {
	case !ok || at.After(time.Now()):
		return nil
	case busy:
		o.pace.compact = time.Now().Add(compactIdle)
		return nil
	}
	o.pace.compact = time.Time{} // until the next commit
	return o.file
}

// exchange puts the copy in the place of the file, which no commit has changed since.
func (o *Outbox) exchange(c *compaction, r copied) {
	stale := c.stale
	c.cancel()
	*c = compaction{}
	if stale {
		if r.file != nil {
			r.file.discard()
		}
		return
	}
	if r.err == nil {
		r.err = r.file.rename(o.path)
	}
	if r.err != nil {
		o.log.Warn("outbox not compacted", "err", r.err)
		o.mu.Lock()
		o.pace.compactAgain = time.Now().Add(compactRetry)
		o.pace.compact = o.pace.compactAgain
		o.mu.Unlock()
		return
	}
	if err := o.adopt(r.file).close(); err != nil {
		o.log.Warn("file before compaction", "err", err)
	}
}

// adopt goes on with a file that has the outbox's name by now, and returns the one
// before. Until the folder is on the disk, too, nothing may be called durable.
func (o *Outbox) adopt(f *file) (before *file) {
	err := SyncFolder(filepath.Dir(f.path))
	o.mu.Lock()
	defer o.mu.Unlock()
	before, o.file = o.file, f
	if err != nil {
		o.pace.suspect = true
		o.fail(err)
	}
	return before
}

// wasteful tells whether more than half of the file is free, and enough.
func (f *file) wasteful() bool {
	db := f.now.Load()
	info, err := db.handle.Stat()
	if err != nil || db.memory || info.Size() < compactLeast {
		return false
	}
	var used int64
	err = f.view(func(tx *bolt.Tx) error {
		s := db.Stats()
		used = tx.Size() - int64(s.FreePageN+s.PendingPageN)*int64(db.Info().PageSize)
		return nil
	})
	return err == nil && used < info.Size()/2
}

// compact returns a copy of the file beside it, all of it on the disk. After an error
// nothing is left of it.
func (f *file) compact(ctx context.Context) (*file, error) {
	n := &file{path: f.path + compactSuffix, opts: f.opts, log: f.log}
	err := removed(n.path)
	if err == nil {
		err = f.copyTo(ctx, n.path)
	}
	var db *database
	if err == nil {
		db, err = n.tryOpen(nil)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("compact %s: %w", f.path, err), removed(n.path))
	}
	n.now.Store(db)
	return n, nil
}

// copyTo writes what lives into a new file, and ends early with ctx.
func (f *file) copyTo(ctx context.Context, path string) error {
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: time.Second, FreelistType: bolt.FreelistMapType, NoSync: true,
		NoGrowSync: true, NoStatistics: true, PageSize: compactPage})
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { db.Close() }) // the next transaction fails
	var size int64
	err = f.guarded(func() error {
		if err := bolt.Compact(db, f.now.Load().DB, compactTx); err != nil {
			return err
		}
		return db.View(func(tx *bolt.Tx) error { size = tx.Size(); return nil })
	})
	stop()
	if err = errors.Join(ctx.Err(), err, db.Close()); err != nil {
		return err
	}
	return cut(path, size)
}

// cut ends a file where bbolt left room to grow, and makes it durable.
func cut(path string, size int64) error {
	h, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	err = h.Truncate(size)
	if err == nil {
		err = h.Sync()
	}
	return errors.Join(err, h.Close())
}

// rename gives f the name of another file, which it takes the place of. After an
// error nothing is left of f.
func (f *file) rename(path string) error {
	if err := os.Rename(f.path, path); err != nil {
		return errors.Join(err, f.discard())
	}
	f.path = path
	return nil
}

// discard closes a file that is of no use and removes it.
func (f *file) discard() error { return errors.Join(f.close(), removed(f.path)) }
