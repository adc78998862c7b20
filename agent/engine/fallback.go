package engine

import (
	"errors"
	"sync/atomic"

	"github.com/limber-edge/limber/family"
)

// fallback catches the sessions of a backend when their execution provider fails:
// the frame at hand and all that follow are inferred on the CPU, by the same
// member, until another backend has taken over. A provider that failed once is not
// asked again, for what a broken GPU does next is not known.
type fallback struct {
	cpu    Loader
	broken atomic.Bool
	failed chan error // holds the first error
}

func newFallback(cpu Loader) *fallback { return &fallback{cpu: cpu, failed: make(chan error, 1)} }

// hold gives a member's session the fallback; without one it is as it was, as is none.
func (f *fallback) hold(s family.Session, member int) family.Session {
	if f == nil || s == nil {
		return s
	}
	return &fallbackSession{Session: s, fallback: f, member: member}
}

// fail notes the first failure.
func (f *fallback) fail(err error) {
	if f.broken.CompareAndSwap(false, true) {
		f.failed <- err
	}
}

// fallbackSession is a session with another one on the CPU behind it.
type fallbackSession struct {
	family.Session
	fallback *fallback
	member   int                            // in the family's order
	cpu      atomic.Pointer[family.Session] // nil until it is needed
}

// Run infers where it can. Its error is that of the CPU, or that no session
// could be had there.
func (s *fallbackSession) Run(out []float32, in ...[]float32) error {
	if !s.fallback.broken.Load() {
		err := s.Session.Run(out, in...)
		if err == nil {
			return nil
		}
		s.fallback.fail(err)
	}
	if s.cpu.Load() == nil {
		cpu, err := s.fallback.cpu.Session(s.member)
		if err != nil {
			return err
		}
		s.cpu.Store(&cpu)
	}
	return (*s.cpu.Load()).Run(out, in...)
}

// Interrupt makes the run fail where it is under way. A run that the provider
// was interrupted in goes on, from its start, on the CPU.
func (s *fallbackSession) Interrupt() {
	s.Session.Interrupt()
	if cpu := s.cpu.Load(); cpu != nil {
		(*cpu).Interrupt()
	}
}

func (s *fallbackSession) Close() error {
	err := s.Session.Close()
	if cpu := s.cpu.Load(); cpu != nil {
		err = errors.Join(err, (*cpu).Close())
	}
	return err
}
