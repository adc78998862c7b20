package control

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/limber-edge/limber/agent/wire"
)

// limit bounds how often something is done: burst times at once, and then once each
// while. It belongs to one goroutine, or to a lock.
type limit struct {
	each  time.Duration
	burst int
	due   time.Time // of the next one, if burst were 1
}

// every is how long one takes of so many a second.
func every(perSecond int) time.Duration { return time.Second / time.Duration(perSecond) }

// wait is how long it takes until the next may be done; 0 is now.
func (l *limit) wait() time.Duration {
	return max(0, time.Until(l.due.Add(-time.Duration(l.burst-1)*l.each)))
}

// spend counts one that is done now.
func (l *limit) spend() {
	if now := time.Now(); l.due.Before(now) {
		l.due = now
	}
	l.due = l.due.Add(l.each)
}

// How many commands are told that there is no room for them, or that their id was used
// before: at once, and a second.
const (
	refusalsBurst = 512
	refusalsPace  = 100
)

// Counts are of the commands since New.
type Counts struct {
	Refused    uint64 // for want of room, or since their id was used with other bytes
	Unanswered uint64 // of these, those that got no answer, since too many were to be refused
}

// refusals are commands that are not carried out, whatever they say. Each costs an
// answer that is written and published, so there is a limit to those as well.
type refusals struct {
	events          Events
	all, unanswered atomic.Uint64

	mu    sync.Mutex
	limit limit // guarded by mu
}

func newRefusals(e Events) *refusals {
	return &refusals{events: e, limit: limit{each: every(refusalsPace), burst: refusalsBurst}}
}

// count counts a refusal and tells whether it may be answered. Of the others an event
// tells how many there are: their senders hear nothing, and the broker is rid of them,
// or they would hold up the jobs behind them there.
func (f *refusals) count() (answer bool) {
	f.all.Add(1)
	if f.spend() {
		return true
	}
	f.unanswered.Add(1)
	f.events.Event(wire.SeverityWarning, wire.Event{Kind: wire.EventBusy,
		Detail: "commands were neither carried out nor answered: more come than this device refuses one by one"})
	return false
}

func (f *refusals) spend() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.limit.wait() > 0 {
		return false
	}
	f.limit.spend()
	return true
}
