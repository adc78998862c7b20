package store

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"time"

	bolt "go.etcd.io/bbolt"
)

const (
	commandKeep  = time.Hour // a command is remembered at least that long
	commandLimit = 4096      // commands remembered; the first to expire goes first
)

// A Command is what the ledger knows of one command.
type Command struct {
	ID      string    `json:"id"`               // unique in the ledger: verb/id
	Request Digest    `json:"request"`          // of its bytes as they came
	State   string    `json:"state"`            // the last state it entered
	Answer  []byte    `json:"answer,omitempty"` // the last ack sent
	Expires time.Time `json:"expires"`          // when it is too late to begin
}

// SetCommand records c, replacing what was known of its ID, and stores cells that
// it changed in the same commit: either all of it is on the disk, or nothing. It is
// to be called before the state is acted on. A command is kept until it expires or
// for an hour after its last record, whichever is later.
func (s *Store) SetCommand(c Command, cells ...Cell) error {
	now := s.age.now()
	keep := min(max(time.Until(c.Expires), commandKeep), math.MaxInt64-now)
	entry, err := makeEntry(now+keep, c)
	if err != nil {
		return fmt.Errorf("record command %s: %w", c.ID, err)
	}
	err = s.update(bucketLedger, func(tx *bolt.Tx) error {
		if tx.Bucket([]byte(bucketLedger)).Get([]byte(c.ID)) == nil {
			if err := makeRoom(tx, now); err != nil {
				return err
			}
		}
		if err := putSummed(tx, bucketLedger, []byte(c.ID), entry); err != nil {
			return err
		}
		if err := putCells(tx, cells); err != nil {
			return err
		}
		return tx.Bucket([]byte(bucketMeta)).Put([]byte(keyAge), number(uint64(now)))
	})
	if err != nil {
		return fmt.Errorf("record command %s: %w", c.ID, err)
	}
	return nil
}

func putCells(tx *bolt.Tx, cells []Cell) error {
	for _, cell := range cells {
		if err := putSummed(tx, bucketCells, []byte(cell.Name), cell.Value); err != nil {
			return fmt.Errorf("cell %q: %w", cell.Name, err)
		}
	}
	return nil
}

// Command returns the last record of the command, or ErrNotFound.
func (s *Store) Command(id string) (Command, error) {
	entry, err := s.value(bucketLedger, id)
	if err != nil {
		return Command{}, err
	}
	c, err := parseEntry(entry)
	if err != nil {
		return Command{}, fmt.Errorf("read command %s: %w", id, err)
	}
	return c, nil
}

// makeRoom drops the commands whose time is over and, if the ledger is full
// all the same, the one whose time is over next.
func makeRoom(tx *bolt.Tx, now time.Duration) error {
	var over [][]byte
	var next []byte
	first, left := time.Duration(math.MaxInt64), 0
	err := tx.Bucket([]byte(bucketLedger)).ForEach(func(id, entry []byte) error {
		until := entryUntil(entry)
		if until <= now {
			over = append(over, bytes.Clone(id))
			return nil
		}
		left++
		if until <= first {
			first, next = until, bytes.Clone(id)
		}
		return nil
	})
	if left >= commandLimit {
		over = append(over, next)
	}
	for _, id := range over {
		if err == nil {
			err = removeSummed(tx, bucketLedger, id)
		}
	}
	return err
}

// An entry of the ledger is the running time until which it is kept, eight
// bytes, and the command in JSON.
func makeEntry(until time.Duration, c Command) ([]byte, error) {
	body, err := json.Marshal(c)
	return append(number(uint64(until)), body...), err
}

func entryUntil(entry []byte) time.Duration { return duration(entry[:min(8, len(entry))]) }

func parseEntry(entry []byte) (Command, error) {
	var c Command
	err := json.Unmarshal(entry[min(8, len(entry)):], &c)
	return c, err
}
