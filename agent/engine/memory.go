package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/limber-edge/limber/agent/monitor"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
)

// cause is why a member is out of use.
type cause int

const (
	noMemory cause = iota // it made room, or hung and got no new session
	noDisk                // the disk had no room for it
	broken                // it cannot be used until the next start
)

// evicted is a member that is out of use.
type evicted struct {
	cause cause
	fault error   // of a broken one
	left  float64 // % of room when it went; NaN if unknown
	gain  float64 // % of room that its going gave; NaN until it was looked at

	pause pause     // after the last attempt in vain to load it
	again time.Time // when the next may be made
}

// newEvicted is a member that goes when the memory is as m says.
func newEvicted(m monitor.Memory) *evicted {
	e := &evicted{left: math.NaN(), gain: math.NaN(), pause: pause{least: waitLeast, most: waitMost}}
	if m.Headroom != nil {
		e.left = *m.Headroom
	}
	return e
}

// newBroken is a member that could not be loaded.
func newBroken(fault error) *evicted {
	if !isFull(fault) {
		return &evicted{cause: broken, fault: fault}
	}
	e := &evicted{cause: noDisk, pause: pause{least: roomLeast, most: roomMost}}
	e.failed(time.Now())
	return e
}

func (e *evicted) why() string {
	switch e.cause {
	case noDisk:
		return "the disk is full; make room, it is tried again"
	case broken:
		return e.fault.Error()
	}
	return "memory is short, or was; it comes back when there is room"
}

// look notes, once, what a member's going gave.
func (e *evicted) look(m monitor.Memory) {
	if !math.IsNaN(e.gain) {
		return
	}
	e.gain = 0
	if m.Headroom != nil && !math.IsNaN(e.left) {
		e.gain = min(max(0, *m.Headroom-e.left), gainMost)
	}
}

// failed notes that a member could not be loaded: others have their turn, and it
// is tried again after a pause that doubles.
func (e *evicted) failed(now time.Time) {
	e.again = now.Add(e.pause.length())
	e.pause.grow()
}

// memoryPolicy decides when members are evicted and when they are restored.
//
//	in use ── memory is short ──────────────────────────────▶ evicted
//	       ◀── room for it, and for a margin, for a while ──
//
// One member goes or comes at a look, a second apart, so that the next look sees
// what this one did. Whoever came back and must go again waits twice as long.
type memoryPolicy struct {
	wait     pause     // for which there must be room before one comes back
	room     time.Time // since when there is; zero when there is none
	went     time.Time // the last one
	returned time.Time // the last one
}

func newMemoryPolicy() memoryPolicy {
	return memoryPolicy{wait: pause{least: waitLeast, most: waitMost}}
}

// When memory is short and when there is room. The kernel reclaims in earnest
// with some per cent left, and a program that starts takes more than that at
// once; a stall of a tenth of the time is felt in every deadline.
const (
	shortRoom    = 10.0 // % left
	shortStalled = 10.0 // % of 10 s in which a task waited for memory
	enoughRoom   = 15.0 // % left, and what the member gave when it went
	calmStalled  = 1.0  // %

	stallMemory = 10 * time.Second // for which the figure of stalls shows what was
	waitLeast   = 10 * time.Second
	waitMost    = 10 * time.Minute
	gainMost    = 30.0            // % that one member can have given: what is more, others gave
	gainForget  = 5 * time.Minute // of room, in which half of it is forgotten, for others may have given it all
)

// errShort is why a member was not loaded. It is tried again when there is room.
var errShort = errors.New("memory has no room for it beside the members that serve")

// short says in what respect there is too little memory; empty when there is
// enough, or nothing is known.
func short(m monitor.Memory) string {
	switch {
	case m.Headroom != nil && *m.Headroom < shortRoom:
		return fmt.Sprintf("%.1f %% of the memory are left", *m.Headroom)
	case m.Stalled != nil && *m.Stalled > shortStalled:
		return fmt.Sprintf("tasks waited for memory in %.1f %% of the last 10 s", *m.Stalled)
	}
	return ""
}

// roomy tells whether there is some to spare, or nothing is known.
func roomy(m monitor.Memory) bool {
	return (m.Headroom == nil || *m.Headroom >= enoughRoom) && (m.Stalled == nil || *m.Stalled <= calmStalled)
}

// mustGo says why a member must be evicted now; empty when none must.
func (p *memoryPolicy) mustGo(now time.Time, m monitor.Memory) string {
	why := short(m)
	if why == "" {
		return ""
	}
	p.room = time.Time{}
	if (m.Headroom == nil || *m.Headroom >= shortRoom) && now.Sub(p.went) < stallMemory {
		return "" // the stalls may be those from before it went
	}
	return why
}

// gone notes that a member went. One that came back shortly before came back too
// soon.
func (p *memoryPolicy) gone(now time.Time) {
	if now.Sub(p.returned) < waitMost {
		p.wait.grow()
	} else {
		p.wait.reset()
	}
	p.went, p.room = now, time.Time{}
}

// mayReturn tells whether there is, and was for long enough, room for an evicted
// member.
func (p *memoryPolicy) mayReturn(now time.Time, m monitor.Memory, e *evicted) bool {
	e.look(m)
	if !roomy(m) {
		p.room = time.Time{}
		return false
	}
	if p.room.IsZero() {
		p.room = now
	}
	since := now.Sub(p.room)
	needed := enoughRoom + e.gain*math.Exp2(-float64(since)/float64(gainForget))
	return since >= p.wait.length() && (m.Headroom == nil || *m.Headroom >= needed)
}

// back notes that a member came back: the next one waits anew.
func (p *memoryPolicy) back(now time.Time) { p.returned, p.room = now, time.Time{} }

// watchMemory evicts the largest member, or has the smallest evicted one restored,
// if that is due.
func (s *supervisor) watchMemory(ctx context.Context) {
	b := s.serving
	if b == nil {
		return
	}
	m, now := s.deps.Machine.Memory(), time.Now()
	for _, e := range b.evicted {
		if e != nil {
			e.look(m)
		}
	}
	if why := s.memory.mustGo(now, m); why != "" {
		compared := s.shadow.Load()
		if compared.giveWay() {
			s.memory.went = now
		} else if at := b.dispensable(); at >= 0 && !(compared.leaving() && now.Sub(s.memory.went) < stallMemory) {
			s.memory.gone(now)
			s.evict(ctx, b, at, m, why)
		}
		return
	}
	at := b.nextBack(now)
	switch {
	case at < 0 || s.restoring || s.replacing:
		return
	case b.evicted[at].cause == noDisk: // it did not go for want of memory, and there is enough
	case !s.memory.mayReturn(now, m, b.evicted[at]):
		s.shadow.Load().giveWay() // it takes the room that there may be
		return
	default:
		s.memory.back(now)
	}
	s.restoring = true
	s.task(func(ctx context.Context, l *loader) { l.restore(ctx, b, at, m) })
}

// dispensable is the largest member in use, or -1 if it is the only one.
func (b *backend) dispensable() int {
	largest := -1
	for at, s := range b.sessions {
		if s != nil {
			largest = at
		}
	}
	if b.inUse() < 2 {
		return -1
	}
	return largest
}

// nextBack is the smallest evicted member that may be tried, or -1.
func (b *backend) nextBack(now time.Time) int {
	for at, e := range b.evicted {
		if e != nil && e.cause != broken && !now.Before(e.again) {
			return at
		}
	}
	return -1
}

// evict takes a member out of use, or leaves it out of it, and frees it; the only
// one in use stays, as after another one hung.
func (s *supervisor) evict(ctx context.Context, b *backend, at int, m monitor.Memory, why string) {
	if b.sessions[at] != nil {
		if b.pipe.Use(ctx, at, nil) != nil {
			return
		}
		b.free(at)
		if s.deps.Trim != nil {
			s.deps.Trim() // what the garbage collector would give back some minutes later
		}
	}
	b.evicted[at] = newEvicted(m)
	s.publish()
	name := b.member(at).Name
	s.log.Warn("member evicted", "member", name, "why", why)
	s.tellMemory(wire.SeverityWarning, name, fmt.Sprintf("%s is taken out of use: %s", name, why))
}

// restore loads an evicted member, and keeps it in memory if it is the first one of
// all.
func (l *loader) restore(ctx context.Context, b *backend, at int, m monitor.Memory) {
	first := false
	l.deliver(b, at, func(s *supervisor, session family.Session, fault error) {
		s.restoring = false
		first = s.fault != nil && fault == nil
		s.restored(ctx, b, at, session, fault, m)
	})
	if first {
		l.pin(b, at)
	}
}

// restored takes an evicted member into use that was loaded. One that could not be
// stays evicted, and is tried again later.
func (s *supervisor) restored(ctx context.Context, b *backend, at int, session family.Session, fault error,
	m monitor.Memory) {
	e, name := b.evicted[at], b.member(at).Name
	if s.serving != b || e == nil {
		if fault == nil {
			session.Close() // freeing memory: nothing a caller could do about it
		}
		return
	}
	if fault != nil {
		e.failed(time.Now())
		s.log.Warn("member not restored", "member", name, "err", fault, "again", e.again)
		return
	}
	b.evicted[at] = nil
	if s.use(ctx, b, at, session) != nil {
		return
	}
	s.log.Info("member restored", "member", name)
	detail := name + " is back in use"
	if m.Headroom != nil && e.cause == noMemory {
		detail += fmt.Sprintf(": %.1f %% of the memory were left without it", *m.Headroom)
	}
	s.tellMemory(wire.SeverityInfo, name, detail)
}

// tellMemory tells of each change, however soon it follows: each is of another
// member.
func (s *supervisor) tellMemory(severity wire.Severity, member, detail string) {
	s.deps.Events.EventAtOnce(severity, wire.Event{TS: wire.At(time.Now()), Kind: wire.EventMemory, Member: member,
		Detail: detail})
}
