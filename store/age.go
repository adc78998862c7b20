package store

import (
	"encoding/binary"
	"time"
)

// keyAge holds the running time in the meta bucket of either file.
const keyAge = "age"

// An ageClock counts the time a file was open, over all processes that had it
// open. It neither jumps with the wall clock nor goes on while the device is
// off, so what is to be kept for an hour is kept for an hour at least.
type ageClock struct {
	before time.Duration // of earlier processes
	start  time.Time     // of this one
}

func newAgeClock(before time.Duration) ageClock { return ageClock{before: before, start: time.Now()} }

func (c ageClock) now() time.Duration { return c.before + time.Since(c.start) }

// at returns when now was age.
func (c ageClock) at(age time.Duration) time.Time { return c.start.Add(age - c.before) }

// number returns eight bytes that sort like n.
func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// parseNumber reads what number wrote, 0 from anything else.
func parseNumber(b []byte) uint64 {
	if len(b) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

// duration reads a duration stored as a number of nanoseconds.
func duration(b []byte) time.Duration { return time.Duration(parseNumber(b)) }
