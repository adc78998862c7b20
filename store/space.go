package store

import (
	"fmt"
	"path/filepath"
	"syscall"
	"time"
)

// The time between two looks at the room on the file system.
const (
	lookEvery = time.Second     // at least
	lookIdle  = 5 * time.Second // at most, also while nothing is written: others fill the disk, and clear it
)

// space is what is known of the room on the file system.
type space struct {
	free   func(folder string) (int64, error) // bytes
	looked time.Time
	left   int64 // bytes
	tight  bool  // less is left than has to stay free
}

// FreeBytes returns how much a file system has left for this user.
func FreeBytes(folder string) (int64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(folder, &st); err != nil {
		return 0, fmt.Errorf("room on the file system of %s: %w", folder, err)
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}

// look finds out what room the file system has, unless it did so just now. Where it
// cannot, the commit will tell why.
func (o *Outbox) look() {
	o.mu.Lock()
	due := o.opts.Free > 0 && time.Since(o.space.looked) >= lookEvery
	o.mu.Unlock()
	if !due {
		return
	}
	left, err := o.space.free(filepath.Dir(o.path))
	o.mu.Lock()
	defer o.mu.Unlock()
	s := &o.space
	was := s.tight
	s.looked, s.left, s.tight = time.Now(), left, err == nil && left < o.opts.Free
	if s.tight && !was {
		o.release()
	}
}

// nextLook is when the room is to be looked at, whatever is written until then; false
// where none has to stay free.
func (o *Outbox) nextLook() (time.Time, bool) { return o.space.looked.Add(lookIdle), o.opts.Free > 0 }

// shortage says that there is too little room, nil if there is enough.
func (o *Outbox) shortage() error {
	if !o.space.tight {
		return nil
	}
	return fmt.Errorf("%s has %d MiB left on its file system, less than the %d that are to stay free; make room, or "+
		"lower outbox.free_mib", filepath.Dir(o.path), o.space.left>>20, o.opts.Free>>20)
}

// written tells whether records of the class are written now.
func (o *Outbox) written(c Class) bool { return c == Controls || !o.space.tight }
