package agent

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/limber-edge/limber/agent/monitor"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
)

// breadth decides how many processors an inference runs on: one, or all but the
// one that frames are decoded on.
//
//	narrow ── others leave them free, for a while ──▶ wide
//	       ◀── others want one of them ──────────────
//
// A thread that others keep from its processor makes all others of the inference
// wait, so wide is for when they do not. Changing takes as long as loading all
// members does; whoever became narrow soon after becoming wide waits twice as
// long the next time.
type breadth struct {
	processors int // of the machine, which others use
	wide       bool
	wait       time.Duration // for which they must be free before it becomes wide
	free       time.Time     // since when they are; zero when they are not
	went       time.Time     // when it became wide
	rest       time.Time     // no change before
}

// When processors count as free, in those that others use, and for how long they
// must be.
const (
	fewOthers   = 0.25        // less is what goes on in any system
	manyOthers  = 0.75        // more is a task that runs all the time
	breadthPace = time.Second // between two looks
	breadthWait = 10 * time.Second
	breadthMost = 10 * time.Minute
)

// look tells whether inferences should be wide, if others use so many percent of
// all processors; nil is unknown, and changes nothing.
func (b *breadth) look(now time.Time, others *float64) (wide bool) {
	if others == nil || now.Before(b.rest) {
		return b.wide
	}
	used := *others / 100 * float64(b.processors)
	switch {
	case b.wide && used > manyOthers:
		b.narrow(now)
	case b.wide:
	case used > fewOthers:
		b.free = time.Time{}
	case b.free.IsZero():
		b.free = now
	case now.Sub(b.free) >= max(b.wait, breadthWait):
		b.wide, b.went = true, now
	}
	return b.wide
}

// narrow notes that it is narrow again.
func (b *breadth) narrow(now time.Time) {
	if now.Sub(b.went) < breadthMost {
		b.wait = min(2*max(b.wait, breadthWait), breadthMost)
	} else {
		b.wait = breadthWait
	}
	b.wide, b.free = false, time.Time{}
}

// stay notes that it could not change.
func (b *breadth) stay(now time.Time, wide bool) { b.wide, b.rest = wide, now.Add(breadthWait) }

// faster is the share of the largest member's latency below which more threads
// are worth their processors.
const faster = 0.85

// broaden hands the work over to a crew with more threads while others leave
// processors free, and back. It ends where there are no processors to spare, where
// a number was configured, and where more threads are of no use. Its error is
// ctx's.
func (a *Agent) broaden(ctx context.Context, g *errgroup.Group, narrow *crew) error {
	if a.wideThreads() < 2 || !a.useful(narrow) {
		return nil
	}
	tick := time.NewTicker(breadthPace)
	defer tick.Stop()
	var seen monitor.Mark
	b, serving := breadth{processors: max(a.parts.Machine.Processors(), a.parts.Cores)}, narrow
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		was := b.wide
		var others *float64
		others, seen = a.parts.Machine.Others(seen)
		if b.look(time.Now(), others) == was {
			continue
		}
		a.saveExperience(ctx)
		next, err := a.reshape(ctx, g, serving, narrow, b.wide)
		if err != nil {
			return err
		}
		if next == serving { // not to be had now
			b.stay(time.Now(), was)
		}
		serving = next
	}
}

// wideThreads is how many threads an inference has when it is wide: one processor
// is left for decoding. It is 1 where a number was configured.
func (a *Agent) wideThreads() int {
	if a.cfg.Runtime.Threads > 0 {
		return 1
	}
	return max(1, a.parts.Cores-1)
}

// wideProfile is the stored profile of the members on more threads; nil if there is
// none.
func (a *Agent) wideProfile() *family.Profile {
	p, err := StoredProfile(a.parts, a.parts.Threads(a.wideThreads()))
	if err != nil {
		a.log.Warn("profile of more threads not readable", "err", err)
	}
	return p
}

// useful tells whether more threads make the largest member that much faster.
func (a *Agent) useful(narrow *crew) bool {
	wide, largest := a.wideProfile(), narrow.front[len(narrow.front)-1]
	if wide == nil {
		return false
	}
	one, many := narrow.profile.Members[largest].P50ms, wide.Members[largest].P50ms
	if many > 0 && many <= faster*one {
		return true
	}
	a.log.Info("more threads are of no use", "threads", a.wideThreads())
	a.news.tell(wire.SeverityInfo, wire.Event{Kind: wire.EventProvider, Detail: fmt.Sprintf(
		"%d threads are of no use here: an inference by %s takes %.2f ms with them, %.2f ms with one", a.wideThreads(), narrow.family.Members[largest].Name, many, one)})
	return false
}

// reshape hands the work over to a wide or a narrow crew and returns it; the one
// that serves where that is not to be had now: memory is short, the mode names a
// member that the other has not, or it cannot be made ready. Where memory is short,
// a narrow one is made member by member. Its error is ctx's.
func (a *Agent) reshape(ctx context.Context, g *errgroup.Group, serving, narrow *crew, wide bool) (*crew, error) {
	shelf := a.parts.Shelf
	if wide {
		shelf = a.parts.Threads(a.wideThreads())
	}
	switch tight := short(a.parts.Machine.Memory()) != "" || serving.spares(); {
	case tight && wide: // two crews at once want more of it, not less
		return serving, nil
	case tight:
		next, err := a.fallBack(ctx, g, serving, shelf, narrow.profile)
		if err == nil && next != serving {
			a.tellTakeOver(serving, next)
		}
		return next, err
	}
	next, err := a.raise(ctx, shelf, nil, serving, func(int) {})
	if err != nil {
		a.log.Warn("number of threads not changed", "threads", shelf.Variant().Threads, "err", err)
		return serving, ctx.Err()
	}
	if _, mode := serving.pipe.Governed(); mode.Member() != "" && !next.has(mode.Member()) {
		next.close()
		a.log.Debug("mode keeps the number of threads", "mode", mode.String())
		return serving, nil
	}
	if err := next.pin(0); err != nil {
		a.log.Warn("smallest member may leave memory", "member", next.member(0).Name, "err", err)
	}
	return next, a.handOver(ctx, g, serving, next)
}

// has tells whether a member is among those worth using.
func (c *crew) has(name string) bool {
	return slices.ContainsFunc(c.front, func(i int) bool { return c.family.Members[i].Name == name })
}

// spares tells whether a member is out of use to make room in memory.
func (c *crew) spares() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(c.spared, func(s *spared) bool { return s != nil })
}
