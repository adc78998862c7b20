package pipeline

import (
	"errors"
	"sync"
	"time"

	"github.com/limber-edge/limber/family"
)

// A run that takes longer than this, and so many times the member's profile, is
// interrupted. One that goes on for as long again after that will never end.
const (
	hangLeast = 5 * time.Second
	hangTimes = 50
)

// ErrHung ends Run when an inference can be neither finished nor interrupted.
// The goroutine that waits for it is left behind, and with it the session: only
// a new process helps.
var ErrHung = errors.New("an inference hangs and cannot be interrupted")

// watchdog interrupts an inference that hangs.
type watchdog struct {
	hung chan struct{} // closed when an interruption did not help

	mu          sync.Mutex
	session     family.Session // that runs; nil while none does
	due         time.Time      // when it will have hung
	limit       time.Duration
	interrupted bool // it was interrupted
	timer       *time.Timer
}

// watch begins with a run of a session.
func (w *watchdog) watch(s family.Session, limit time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.session, w.limit, w.due, w.interrupted = s, limit, time.Now().Add(limit), false
	if w.timer == nil {
		w.timer = time.AfterFunc(limit, w.interrupt)
		return
	}
	w.timer.Reset(limit)
}

// release ends the watch and tells whether the run was interrupted.
func (w *watchdog) release() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer.Stop()
	w.session = nil
	return w.interrupted
}

func (w *watchdog) watching() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.session != nil
}

// interrupt interrupts the run that is due. A timer that fired for the run before
// finds that this one is not.
func (w *watchdog) interrupt() {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.session == nil || time.Now().Before(w.due):
	case w.interrupted:
		close(w.hung)
		w.session = nil
	default:
		w.interrupted = true
		w.session.Interrupt()
		w.due = time.Now().Add(w.limit)
		w.timer.Reset(w.limit)
	}
}
