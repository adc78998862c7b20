package dash

import (
	"fmt"
	"sync"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/fleet/controller"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

// ears hear what comes from the broker, before the Remote.
type ears struct {
	*controller.Remote
	s *Server
}

// Connected implements mqtt.Handler.
func (e ears) Connected(connSeq uint64, present bool) {
	e.Remote.Connected(connSeq, present)
	e.s.link.set(true, "", time.Now())
	e.s.denied.Store(nil) // it may have another access list
}

// Denied implements mqtt.Handler.
func (e ears) Denied(filters []string) {
	e.Remote.Denied(filters)
	trouble := ""
	if len(filters) > 0 {
		trouble = fmt.Sprintf("the broker does not let this user read %v", filters)
	}
	e.s.link.set(true, trouble, time.Now())
}

// Lost implements mqtt.Handler.
func (e ears) Lost(err error) {
	e.Remote.Lost(err)
	e.s.link.set(false, err.Error(), time.Now())
}

// Receive implements mqtt.Handler.
func (e ears) Receive(m mqtt.Message, ack func()) {
	e.Remote.Receive(m, ack)
	if t, err := wire.ParseTopic(m.Topic); err == nil && m.Oversize == 0 {
		e.s.history.hear(t, m.Payload, time.Now())
	}
}

// standing is how it stands with the broker. Any goroutine may ask.
type standing struct {
	mu   sync.Mutex
	link link
}

// set tells how it stands from now on. The moment of a trouble is that of the first word.
func (s *standing) set(ok bool, trouble string, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case trouble == "":
		s.link.Since = nil
	case s.link.Since == nil || ok != s.link.OK:
		s.link.Since = new(wire.At(now))
	}
	s.link.OK, s.link.Trouble = ok, fleet.Printable(trouble)
}

// settle tells that all has been read that the broker retains.
func (s *standing) settle() {
	s.mu.Lock()
	s.link.Settled = true
	s.mu.Unlock()
}

func (s *standing) now() link {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.link
}
