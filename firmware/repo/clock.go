package repo

import (
	"encoding/json"
	"errors"
	"io/fs"
	"path/filepath"
	"time"
)

const (
	// aheadMost is how far the system's clock may be ahead of a time that was confirmed.
	aheadMost = 365 * 24 * time.Hour
	// timeGrain is what a time must have moved to be written.
	timeGrain = 10 * time.Minute
)

const timeFile = "time.json"

// times are what is remembered of the time, over restarts.
type times struct {
	Confirmed time.Time `json:"confirmed,omitzero"` // the latest that an operator said
	Seen      time.Time `json:"seen,omitzero"`      // the latest by which expiry was judged
}

// at returns the time by which expiry is judged, and what is to be remembered: the
// latest of the program's build, of what was confirmed, of what was gone by before, so
// that a clock set back unlocks nothing, and of the system's clock, if that is not more
// than a year ahead of what was confirmed. What is confirmed now corrects a clock that
// was ahead.
func (t times) at(built, confirmed, system time.Time) (time.Time, times) {
	if confirmed.After(t.Confirmed) {
		t.Confirmed = confirmed
		if t.Seen.After(confirmed) {
			t.Seen = time.Time{}
		}
	}
	now := built
	for _, other := range []time.Time{t.Confirmed, t.Seen} {
		if other.After(now) {
			now = other
		}
	}
	if system.After(now) && (t.Confirmed.IsZero() || system.Sub(t.Confirmed) <= aheadMost) {
		now, t.Seen = system, system
	}
	return now.UTC(), t
}

// now reads the clocks, and writes what is to be remembered of them.
func (c *Client) now() (time.Time, error) {
	var known times
	b, err := readFile(filepath.Join(c.cfg.Dir, timeFile), maxTimestamp)
	if err == nil {
		err = json.Unmarshal(b, &known)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.log.Warn("time remembered for updates is lost", "err", err)
		known = times{}
	}
	now, next := known.at(c.cfg.Built, c.deps.Confirmed(), c.deps.Clock())
	if next.Confirmed.Sub(known.Confirmed).Abs() < timeGrain && next.Seen.Sub(known.Seen).Abs() < timeGrain {
		return now, nil
	}
	if b, err = json.Marshal(next); err != nil {
		return now, err
	}
	return now, c.write(timeFile, b)
}
