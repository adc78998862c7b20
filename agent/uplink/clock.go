package uplink

import (
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

// clock is what operators say of the time, in answer to this device's sync. It goes
// on from there by running time, so that it does not matter when the clock of this
// machine is set.
type clock struct {
	boot  string
	built time.Time // of the program; it cannot be earlier

	mu      sync.Mutex
	seq     uint64    // guarded by mu: of the connection that asked; 0 once it was answered
	asked   time.Time // guarded by mu: when it did
	at      time.Time // guarded by mu: when the last answer came; zero for never
	then    time.Time // guarded by mu: the operator's time of that moment
	off     bool      // guarded by mu: it was told that the clock here is wrong
	ignored uint64    // guarded by mu: answers that said nothing
}

const (
	clockKeep    = 24 * time.Hour            // an answer counts that long
	clockOff     = 5 * time.Second           // more than that is told as a fault
	clockHorizon = 10 * 365 * 24 * time.Hour // after the program was built
	// clockTrip is the longest round trip of an answer that counts: half of it, which
	// nobody knows, would be more than what is told as a fault.
	clockTrip = 2 * clockOff
)

// BuiltAt is when the program was built, as far as it says.
func BuiltAt() time.Time {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if at, err := time.Parse(time.RFC3339, s.Value); s.Key == "vcs.time" && err == nil {
				return at
			}
		}
	}
	return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) // before any that knows of sync
}

// ask notes that a connection asks for the time, now.
func (c *clock) ask(seq uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seq, c.asked = seq, time.Now()
}

// take reads an answer, and tells by how much the clock here is behind, where that is
// news. The error says why it does not count.
func (c *clock) take(m mqtt.Message) (behind time.Duration, news bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	then, err := c.read(m, now)
	if err != nil {
		c.ignored++
		return 0, false, err
	}
	c.seq, c.at, c.then = 0, now, then
	behind, _ = c.offset(now)
	was := c.off
	c.off = behind.Abs() > clockOff
	return behind, c.off && !was, nil
}

// read returns the operator's time of now; mu is held.
func (c *clock) read(m mqtt.Message, now time.Time) (then time.Time, err error) {
	if m.Retained || m.Oversize > 0 {
		return then, errors.New("it was retained, or is too large")
	}
	var s wire.Synced
	if err := wire.Decode(m.Payload, &s); err != nil {
		return then, err
	}
	trip := now.Sub(c.asked)
	switch latest := c.built.Add(clockHorizon); {
	case s.BootID != c.boot || s.ConnSeq != c.seq || c.seq == 0:
		return then, fmt.Errorf("it answers connection %d of boot %s", s.ConnSeq, s.BootID)
	case trip > clockTrip:
		return then, fmt.Errorf("it came %v after the question", trip)
	case s.TS.Before(c.built) || s.TS.After(latest):
		return then, fmt.Errorf("its time, %v, is not from %v to %v", s.TS, c.built, latest)
	}
	return s.TS.Add(trip / 2), nil
}

// offset is by how much the clock here is behind an operator's at a time; mu is held.
// ok is false if none said so within a day.
func (c *clock) offset(now time.Time) (behind time.Duration, ok bool) {
	since := now.Sub(c.at)
	if c.at.IsZero() || since > clockKeep {
		return 0, false
	}
	return c.then.Add(since).Sub(now), true
}

// count is how many answers did not count.
func (c *clock) count() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ignored
}

// synced takes an operator's answer to where this side stands.
func (u *Uplink) synced(m mqtt.Message) {
	behind, news, err := u.clock.take(m)
	if err != nil {
		u.log.Warn("answer to sync ignored", "err", err)
	}
	if news {
		u.fault(fmt.Sprintf("the clock here is %v %s an operator's: set it; for a day, expires_at of commands is judged "+
			"by that one", behind.Abs().Round(time.Millisecond), side(behind)))
	}
}

func side(behind time.Duration) string {
	if behind < 0 {
		return "ahead of"
	}
	return "behind"
}

// Offset is by how much the clock here is behind an operator's, negative if it is
// ahead; ok is false if none said so within a day.
func (u *Uplink) Offset() (behind time.Duration, ok bool) {
	u.clock.mu.Lock()
	defer u.clock.mu.Unlock()
	return u.clock.offset(time.Now())
}
