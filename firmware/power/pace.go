package power

import (
	"fmt"
	"sync"
	"time"
)

// How often the mode of a board may be changed: a change takes clocks, processors and
// voltages along, and every program on the board.
const (
	changeGap    = 10 * time.Second // from one change to the next
	tryWindow    = time.Minute
	triesAllowed = 6 // in a window, whether they change something or fail
)

// changes are those of late.
type changes struct {
	mu    sync.Mutex
	last  time.Time   // a mode was changed
	tries []time.Time // of this window, the oldest first
}

// begin counts a try; the error is ErrBusy, with how long to wait.
func (c *changes) begin(now time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.tries) > 0 && now.Sub(c.tries[0]) >= tryWindow {
		c.tries = c.tries[1:]
	}
	wait := time.Duration(0)
	if !c.last.IsZero() {
		wait = changeGap - now.Sub(c.last)
	}
	if len(c.tries) >= triesAllowed {
		wait = max(wait, tryWindow-now.Sub(c.tries[0]))
	}
	if wait > 0 {
		return fmt.Errorf("%w: try again in %v", ErrBusy, (wait + time.Second - 1).Truncate(time.Second))
	}
	c.tries = append(c.tries, now)
	return nil
}

// done notes that the mode was changed.
func (c *changes) done(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = now
}
