package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	bolt "go.etcd.io/bbolt"
)

// bucketDocuments is that of controller.db: key → CRC32C, 4 bytes, and the value.
const bucketDocuments = "documents"

// Documents is controller.db: values under keys, several of which change in one commit.
// Its methods may be called from any goroutine.
type Documents struct {
	file        *file
	quarantined string
}

// OpenDocuments opens controller.db in dir, which it creates if need be. It returns
// ErrLocked within a second if another process holds the file. Of the options it
// takes NoSync alone.
func OpenDocuments(dir string, opts Options, log *slog.Logger) (*Documents, error) {
	if err := makeFolder(dir); err != nil {
		return nil, err
	}
	d := &Documents{}
	var err error
	d.file, d.quarantined, err = openFile(filepath.Join(dir, "controller.db"), fileOptions{noSync: opts.NoSync}, log,
		func(tx *bolt.Tx) error { return makeBuckets(tx, bucketDocuments, bucketMeta) })
	if err != nil {
		return nil, err
	}
	d.compact(log)
	return d, nil
}

// compact gives back what is free of a file that is mostly so, as after the blobs of a
// family went. Where that is not possible the file stays as it is.
func (d *Documents) compact(log *slog.Logger) {
	if !d.file.wasteful() {
		return
	}
	n, err := d.file.compact(context.Background())
	if err == nil {
		err = n.rename(d.file.path)
	}
	if err != nil {
		log.Warn("state not compacted", "err", err)
		return
	}
	err = errors.Join(SyncFolder(filepath.Dir(n.path)), d.file.close())
	if d.file = n; err != nil {
		log.Warn("file before compaction", "err", err)
	}
}

// Quarantined returns the path of the damaged file that OpenDocuments set aside, or "".
func (d *Documents) Quarantined() string { return d.quarantined }

// Close closes the file.
func (d *Documents) Close() error { return d.file.close() }

// Commit stores values under their keys, and removes those of nil: all of it is on the
// disk when it returns, or nothing.
func (d *Documents) Commit(changes map[string][]byte) error {
	if !d.file.inPlace() {
		return fmt.Errorf("%s was removed while in use: restart the controller", d.file.path)
	}
	err := d.file.update(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte(bucketDocuments))
		for key, value := range changes {
			err := b.Delete([]byte(key))
			if value != nil {
				err = b.Put([]byte(key), append(sumOf(value), value...))
			}
			if err != nil {
				return fmt.Errorf("document %.80q: %w", key, err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("write %s: %w", d.file.path, err)
	}
	return nil
}

// Document returns a copy of the value under the key: ErrNotFound where there is none,
// or where it is damaged.
func (d *Documents) Document(key string) (value []byte, err error) {
	err = d.file.view(func(tx *bolt.Tx) error {
		stored := tx.Bucket([]byte(bucketDocuments)).Get([]byte(key))
		sound := false
		value, sound = soundValue(stored)
		switch {
		case stored == nil:
			return ErrNotFound
		case !sound:
			return fmt.Errorf("%w: it is damaged", ErrNotFound)
		}
		value = bytes.Clone(value)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("document %.80q: %w", key, err)
	}
	return value, nil
}

// Each hands on the keys that begin so, in their order, with copies of their values. One
// that is damaged comes as nil.
func (d *Documents) Each(prefix string, do func(key string, value []byte)) error {
	err := d.file.view(func(tx *bolt.Tx) error {
		c := tx.Bucket([]byte(bucketDocuments)).Cursor()
		for k, stored := c.Seek([]byte(prefix)); k != nil && bytes.HasPrefix(k, []byte(prefix)); k, stored = c.Next() {
			value, sound := soundValue(stored)
			if !sound {
				do(string(k), nil)
				continue
			}
			do(string(k), append([]byte{}, value...))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read %s: %w", d.file.path, err)
	}
	return nil
}

// Keys returns those that begin so, in their order.
func (d *Documents) Keys(prefix string) (keys []string, err error) {
	err = d.file.view(func(tx *bolt.Tx) error {
		c := tx.Bucket([]byte(bucketDocuments)).Cursor()
		for k, _ := c.Seek([]byte(prefix)); k != nil && bytes.HasPrefix(k, []byte(prefix)); k, _ = c.Next() {
			keys = append(keys, string(k))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", d.file.path, err)
	}
	return keys, nil
}

// soundValue takes a stored value apart, and tells whether it is what was stored.
func soundValue(stored []byte) (value []byte, sound bool) {
	at := min(len(stored), len(sumOf(nil)))
	return stored[at:], bytes.Equal(stored[:at], sumOf(stored[at:]))
}
