package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/limber-edge/limber/agent/monitor"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
)

// Inferences that hang so often within such a time are not the fault of one
// frame or one session.
const (
	hangsMost = 3
	hangsTime = time.Hour
)

// hang is a run that was interrupted because it did not end.
type hang struct {
	backend *backend
	at      int // position in its front
}

// observer hears of what a backend's pipeline does.
type observer struct {
	backend *backend
	events  Events
	hangs   chan<- hang
}

// Switched implements pipeline.Observer.
func (o *observer) Switched(from, to int, why string) {
	o.events.Event(wire.SeverityInfo, wire.Event{Kind: wire.EventSwitch,
		From: o.backend.member(from).Name, Member: o.backend.member(to).Name, Detail: why})
}

// Hung implements pipeline.Observer. Nobody waits for more hangs than end the
// engine.
func (o *observer) Hung(at int) {
	select {
	case o.hangs <- hang{o.backend, at}:
	default:
	}
}

// meetHang has a member that hung get a new session. Too many hangs are an error.
func (s *supervisor) meetHang(h hang) error {
	name := h.backend.member(h.at).Name
	s.interrupted = append(s.interrupted, time.Now())
	if n := len(s.interrupted); n >= hangsMost && s.interrupted[n-1].Sub(s.interrupted[n-hangsMost]) < hangsTime {
		h.backend.hung.Store(true)
		return fmt.Errorf("member %s: %d inferences were interrupted within %v: %w", name, hangsMost, hangsTime, ErrHung)
	}
	s.tellFault(fmt.Sprintf("member %s hung and was interrupted; it gets a new session", name))
	s.task(func(ctx context.Context, l *loader) { l.replace(ctx, h) })
	return nil
}

// replace makes a session in the place of one that hung. A member that was evicted
// meanwhile gets one when it comes back.
func (l *loader) replace(ctx context.Context, h hang) {
	wanted := false
	l.do(func(s *supervisor) { wanted = s.serving == h.backend && h.backend.sessions[h.at] != nil })
	if wanted {
		l.deliver(h.backend, h.at, func(s *supervisor, session family.Session, fault error) {
			s.replaced(ctx, h, session, fault)
		})
	}
}

// replaced puts a new session in the place of one that hung. Where there is none the
// member is evicted, and restored later, unless it is the only one in use, which
// goes on with the session it has.
func (s *supervisor) replaced(ctx context.Context, h hang, session family.Session, fault error) {
	b, name := h.backend, h.backend.member(h.at).Name
	old := b.sessions[h.at]
	switch {
	case fault != nil:
		s.log.Error("member gets no new session", "member", name, "err", fault)
		s.tellFault(fmt.Sprintf("member %s gets no new session; this is tried again: %v", name, fault))
		if s.serving == b && old != nil && b.pipe.Use(ctx, h.at, nil) == nil {
			b.free(h.at)
			b.evicted[h.at] = newEvicted(monitor.Memory{})
			s.publish()
		}
	case s.serving != b || old == nil:
		session.Close() // freeing memory: nothing a caller could do about it
	case b.pipe.Use(ctx, h.at, session) != nil: // the pipeline ends
		session.Close()
	default:
		b.sessions[h.at] = session
		old.Close()
	}
}
