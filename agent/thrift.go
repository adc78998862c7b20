package agent

import (
	"context"
	"fmt"
	"math"
	"runtime/debug"
	"time"

	"github.com/limber-edge/limber/agent/monitor"
	"github.com/limber-edge/limber/agent/wire"
)

// spared is a member that is out of use to make room in memory, or as the disk had
// none for it.
type spared struct {
	full bool    // it is the disk
	left float64 // % of room when it went; NaN if unknown
	gain float64 // % of room that its going gave; NaN until it was looked at

	pause time.Duration // after the last attempt in vain to load it
	again time.Time     // when the next may be made
}

// newSpared is a member that goes when the memory is as m says.
func newSpared(m monitor.Memory) *spared {
	s := &spared{left: math.NaN(), gain: math.NaN()}
	if m.Headroom != nil {
		s.left = *m.Headroom
	}
	return s
}

// thrift decides when members make room and when they come back.
//
//	in use ── memory is short ──────────────────────────────▶ spared
//	       ◀── room for it, and for a margin, for a while ──
//
// One member goes or comes at a look, a second apart, so that the next look sees
// what this one did. Whoever came back and must go again waits twice as long.
type thrift struct {
	wait     time.Duration // for which there must be room before one comes back
	room     time.Time     // since when there is; zero when there is none
	went     time.Time     // the last one
	returned time.Time     // the last one
}

// When memory is short and when there is room. The kernel reclaims in earnest
// with some per cent left, and a program that starts takes more than that at
// once; a stall of a tenth of the time is felt in every deadline.
const (
	shortRoom    = 10.0 // % left
	shortStalled = 10.0 // % of 10 s in which a task waited for memory
	enoughRoom   = 15.0 // % left, and what the member gave when it went
	calmStalled  = 1.0  // %

	memoryPace  = time.Second      // between two looks
	stallMemory = 10 * time.Second // for which the figure of stalls shows what was
	waitLeast   = 10 * time.Second
	waitMost    = 10 * time.Minute
	gainMost    = 30.0            // % that one member can have given: what is more, others gave
	gainForget  = 5 * time.Minute // of room, in which half of it is forgotten, for others may have given it all
)

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

// mustGo says why a member must make room now; empty when none must.
func (t *thrift) mustGo(now time.Time, m monitor.Memory) string {
	why := short(m)
	if why == "" {
		return ""
	}
	t.room = time.Time{}
	if (m.Headroom == nil || *m.Headroom >= shortRoom) && now.Sub(t.went) < stallMemory {
		return "" // the stalls may be those from before it went
	}
	return why
}

// gone notes that a member went. One that came back shortly before came back too
// soon.
func (t *thrift) gone(now time.Time) {
	if !t.returned.IsZero() && now.Sub(t.returned) < waitMost {
		t.wait = min(2*max(t.wait, waitLeast), waitMost)
	} else {
		t.wait = waitLeast
	}
	t.went, t.room = now, time.Time{}
}

// mayReturn tells whether there is, and was for long enough, room for a spared
// member.
func (t *thrift) mayReturn(now time.Time, m monitor.Memory, s *spared) bool {
	s.look(m)
	if m.Headroom != nil && *m.Headroom < enoughRoom || m.Stalled != nil && *m.Stalled > calmStalled {
		t.room = time.Time{}
		return false
	}
	if t.room.IsZero() {
		t.room = now
	}
	since := now.Sub(t.room)
	needed := enoughRoom + s.gain*math.Exp2(-float64(since)/float64(gainForget))
	return since >= max(t.wait, waitLeast) && (m.Headroom == nil || *m.Headroom >= needed)
}

// back notes that a member came back: the next one waits anew.
func (t *thrift) back(now time.Time) { t.returned, t.room = now, time.Time{} }

// look notes, once, what a member's going gave.
func (s *spared) look(m monitor.Memory) {
	if !math.IsNaN(s.gain) {
		return
	}
	s.gain = 0
	if m.Headroom != nil && !math.IsNaN(s.left) {
		s.gain = min(max(0, *m.Headroom-s.left), gainMost)
	}
}

// economise keeps an eye on the memory until ctx ends.
func (a *Agent) economise(ctx context.Context) error {
	look := time.NewTicker(memoryPace)
	defer look.Stop()
	var t thrift
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-look.C:
		}
		if err := a.weigh(ctx, a.crew.Load(), &t, a.parts.Machine.Memory()); err != nil {
			return err
		}
	}
}

// weigh takes the largest member out of use, or the smallest spared one back, if
// that is due. Its error is ctx's.
func (a *Agent) weigh(ctx context.Context, c *crew, t *thrift, m monitor.Memory) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.retired {
		return nil
	}
	for _, s := range c.spared {
		if s != nil {
			s.look(m)
		}
	}
	now := time.Now()
	if why := t.mustGo(now, m); why != "" {
		at := c.dispensable()
		if at < 0 {
			return nil
		}
		t.gone(now)
		return a.spare(ctx, c, at, m, why)
	}
	at := c.nextBack(now)
	switch {
	case at < 0:
		return nil
	case c.spared[at].full: // it did not go for want of memory, and there is enough
	case !t.mayReturn(now, m, c.spared[at]):
		return nil
	default:
		t.back(now)
	}
	return a.takeBack(ctx, c, at, m)
}

// dispensable is the largest member in use, or -1 if it is the only one.
func (c *crew) dispensable() int {
	largest, n := -1, 0
	for at, s := range c.sessions {
		if s != nil {
			largest = at
			n++
		}
	}
	if n < 2 {
		return -1
	}
	return largest
}

// nextBack is the smallest spared member that may be tried, or -1.
func (c *crew) nextBack(now time.Time) int {
	for at, s := range c.spared {
		if s != nil && !now.Before(s.again) {
			return at
		}
	}
	return -1
}

// failed notes that a member could not be loaded: others have their turn, and it
// is tried again after a pause that doubles.
func (s *spared) failed(now time.Time) {
	least, most := waitLeast, waitMost
	if s.full {
		least, most = roomLeast, roomMost
	}
	s.pause = min(max(2*s.pause, least), most)
	s.again = now.Add(s.pause)
}

// spare takes a member out of use, or leaves it out of it, and frees it; the only
// one in use stays, as after another one hung. The crew's mu is held. Its error is
// ctx's.
func (a *Agent) spare(ctx context.Context, c *crew, at int, m monitor.Memory, why string) error {
	if s := c.sessions[at]; s != nil {
		if err := c.pipe.Use(ctx, at, nil); err != nil {
			return ctx.Err()
		}
		c.free(at)
		debug.FreeOSMemory() // what the garbage collector would give back some minutes later
	}
	c.spared[at] = newSpared(m)
	name := c.member(at).Name
	a.log.Warn("member made room", "member", name, "why", why)
	a.tellRoom(wire.SeverityWarning, name, fmt.Sprintf("%s is taken out of use: %s", name, why))
	return nil
}

// takeBack loads a spared member and takes it into use. One that cannot be
// loaded stays spared, and is tried again later. The crew's mu is held. Its error
// is ctx's.
func (a *Agent) takeBack(ctx context.Context, c *crew, at int, m monitor.Memory) error {
	name := c.member(at).Name
	if err := c.load(at); err != nil {
		c.spared[at].failed(time.Now())
		a.log.Warn("member not taken back", "member", name, "err", err, "again_in", c.spared[at].pause)
		return nil
	}
	if err := c.pipe.Use(ctx, at, c.sessions[at]); err != nil {
		return err
	}
	full := c.spared[at].full
	c.spared[at] = nil
	a.restored(ctx, c, at)
	a.log.Info("member taken back", "member", name)
	detail := name + " is back in use"
	if m.Headroom != nil && !full {
		detail += fmt.Sprintf(": %.1f %% of the memory were left without it", *m.Headroom)
	}
	a.tellRoom(wire.SeverityInfo, name, detail)
	return nil
}

// tellRoom publishes an event for each change, however soon it follows: each is
// of another member.
func (a *Agent) tellRoom(s wire.Severity, member, detail string) {
	a.publishEvent(s, wire.Event{TS: wire.At(time.Now()), Kind: wire.EventMemory, Member: member, Detail: detail})
}
