package agent

import (
	"errors"
	"sync/atomic"

	"github.com/limber-edge/limber/family"
)

// lifeline catches the sessions of a crew when their execution provider fails:
// the frame at hand and all that follow are inferred on the CPU, by the same
// member, until another crew has taken over. A provider that failed once is not
// asked again, for what a broken GPU does next is not known.
type lifeline struct {
	spare  Shelf // on the CPU
	broken atomic.Bool
	failed chan error // holds the first error
}

func newLifeline(spare Shelf) *lifeline {
	return &lifeline{spare: spare, failed: make(chan error, 1)}
}

// hold ties a member's session to the line; without a line it is as it was.
func (l *lifeline) hold(s family.Session, member int) family.Session {
	if l == nil {
		return s
	}
	return &tied{Session: s, line: l, member: member}
}

// snap notes the first failure.
func (l *lifeline) snap(err error) {
	if l.broken.CompareAndSwap(false, true) {
		l.failed <- err
	}
}

// tied is a session on a lifeline.
type tied struct {
	family.Session
	line   *lifeline
	member int                            // in the family's order
	spare  atomic.Pointer[family.Session] // nil until it is needed
}

// Run infers where it can. Its error is that of the CPU, or that no session
// could be had there.
func (t *tied) Run(out []float32, in ...[]float32) error {
	if !t.line.broken.Load() {
		err := t.Session.Run(out, in...)
		if err == nil {
			return nil
		}
		t.line.snap(err)
	}
	if t.spare.Load() == nil {
		s, err := t.line.spare.Session(t.member)
		if err != nil {
			return err
		}
		t.spare.Store(&s)
	}
	return (*t.spare.Load()).Run(out, in...)
}

// Interrupt makes the run fail where it is under way. A run that the provider
// was interrupted in goes on, from its start, on the CPU.
func (t *tied) Interrupt() {
	t.Session.Interrupt()
	if s := t.spare.Load(); s != nil {
		(*s).Interrupt()
	}
}

func (t *tied) Close() error {
	err := t.Session.Close()
	if s := t.spare.Load(); s != nil {
		err = errors.Join(err, (*s).Close())
	}
	return err
}
