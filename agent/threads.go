package agent

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/limber-edge/limber/agent/monitor"
	"github.com/limber-edge/limber/agent/wire"
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
	cores int // processors that this process may use
	wide  bool
	wait  time.Duration // for which processors must be free before it becomes wide
	free  time.Time     // since when they are; zero when they are not
	went  time.Time     // when it became wide
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
	if others == nil {
		return b.wide
	}
	used := *others / 100 * float64(b.cores)
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

// faster is the share of the largest member's latency below which more threads
// are worth their processors.
const faster = 0.85

// broaden hands the work over to a crew with more threads while others leave
// processors free, and back to one on narrow's terms. It ends where there are no
// processors to spare, where a number was configured, and once more threads proved
// to be of no use here. Its error is ctx's.
func (a *Agent) broaden(ctx context.Context, g *errgroup.Group, narrow *crew) error {
	if a.wideThreads() < 2 {
		return nil
	}
	tick := time.NewTicker(breadthPace)
	defer tick.Stop()
	machine, b, serving := monitor.New(a.parts.Root), breadth{cores: a.parts.Cores}, narrow
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		was := b.wide
		if b.look(time.Now(), machine.Sample().OthersPercent) == was {
			continue
		}
		next, err := serving, error(nil)
		if b.wide {
			next, err = a.widen(ctx, g, serving, &b)
		} else if next, err = a.fallBack(ctx, g, serving, a.parts.Shelf, narrow.profile); next != nil && next != serving {
			a.tellTakeOver(serving, next)
		}
		if next == nil || err != nil {
			return err
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

// widen hands the work over to a crew with more threads and returns it. Where that
// cannot be made ready, the one that serves stays until the next attempt; nil means
// that it stays for good, as more threads are of no use. Its error is ctx's.
func (a *Agent) widen(ctx context.Context, g *errgroup.Group, serving *crew, b *breadth) (*crew, error) {
	threads := a.wideThreads()
	if why := short(monitor.ReadMemory(a.parts.Root)); why != "" { // two crews at once want more of it, not less
		b.narrow(time.Now())
		return serving, nil
	}
	a.saveExperience(ctx)
	next, err := a.raise(ctx, a.parts.Threads(threads), nil, serving, func(int) {})
	if err != nil {
		a.log.Warn("number of threads not changed", "threads", threads, "err", err)
		b.narrow(time.Now())
		return serving, ctx.Err()
	}
	if old, wide := slowest(serving), slowest(next); wide > faster*old {
		next.close()
		a.log.Info("more threads are of no use", "threads", threads)
		a.news.tell(wire.SeverityInfo, wire.Event{Kind: wire.EventProvider, Detail: fmt.Sprintf(
			"%d threads are of no use here: an inference by %s takes %.2f ms with them, %.2f ms with one", threads, next.member(len(next.front)-1).Name, wide, old)})
		return nil, nil
	}
	if err := next.pin(0); err != nil {
		a.log.Warn("smallest member may leave memory", "member", next.member(0).Name, "err", err)
	}
	return next, a.handOver(ctx, g, serving, next)
}

// slowest is what the largest member takes, in milliseconds.
func slowest(c *crew) float64 { return c.profile.Members[c.front[len(c.front)-1]].P50ms }
