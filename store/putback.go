package store

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"path/filepath"

	bolt "go.etcd.io/bbolt"
)

// PutBack makes the files of a device in a folder those in another one again, from which a
// program of another version may have gone on. What waits in the outbox now stays if this
// one can read it to the last record; if not, numbers go on behind those that may have been
// given out, and gaps tell that records were lost, though not how many. After a cut it is to
// be called again, and may tell of them twice. Neither folder may be in use.
func PutBack(from, folder string, log *slog.Logger) error {
	err := readable(folder, log)
	if errors.Is(err, ErrLocked) {
		return err
	}
	if err == nil {
		return copyFiles(from, folder, stateName)
	}
	log.Warn("outbox of another version is given up", "err", err)
	o, err := OpenOutbox(from, OutboxOptions{Quota: math.MaxInt64, uncounted: true}, log)
	if err == nil {
		err = o.Close()
	}
	if err == nil {
		err = Copy(from, folder)
	}
	return err
}

// errRead ends a transaction that was to read and nothing else.
var errRead = errors.New("read")

// readable is nil if the outbox in a folder can be read to the last record. It changes nothing.
func readable(folder string, log *slog.Logger) error {
	var c contents
	f := &file{path: filepath.Join(folder, outboxName), opts: fileOptions{intact: true}, log: log}
	_, err := f.tryOpen(func(tx *bolt.Tx) error {
		journal, err := readJournal(filepath.Join(folder, journalName))
		if err == nil {
			c, err = scan(tx, nil, journal)
		}
		c.judge(journal)
		return errors.Join(err, errRead)
	})
	unread := c.foreign || c.unsure || c.created || c.gaps.lost != [Classes][Losses]uint64{}
	switch told := errors.Join(c.wrong...); {
	case !errors.Is(err, errRead):
		return err
	case told != nil || unread || len(f.told()) > 0:
		return fmt.Errorf("not all of its records can be read: %w", errors.Join(told, errDamaged))
	}
	return nil
}

// uncounted tells of records that another version may have added and lost. Its numbers are
// below that which none reaches, see Horizon.
func (c *contents) uncounted() {
	first := c.next
	c.next = horizon(first)
	for class := range Class(Classes) {
		c.gaps.accounts = append(c.gaps.accounts, account{Gap: Gap{Class: class, Reason: Damage, First: first,
			Last: c.next - 1, Mixed: true}})
	}
	c.gaps.changed = true
}
