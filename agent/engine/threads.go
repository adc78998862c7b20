package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/limber-edge/limber/agent/monitor"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
)

// threadPolicy decides how many processors an inference runs on: one, or all but the
// one that frames are decoded on.
//
//	single ── others leave them free, for a while ──▶ multi
//	       ◀── others want one of them ──────────────
//
// A thread that others keep from its processor makes all others of the inference
// wait, so multi is for when they do not. Changing takes as long as loading all
// members does; whoever became single soon after becoming multi waits twice as
// long the next time.
type threadPolicy struct {
	processors int // of the machine, which others use
	multi      bool
	wait       pause     // for which they must be free before it becomes multi
	free       time.Time // since when they are; zero when they are not
	went       time.Time // when it became multi
	rest       time.Time // no change before
}

// When processors count as free, in those that others use, and for how long they
// must be.
const (
	fewOthers   = 0.25        // less is what goes on in any system
	manyOthers  = 0.75        // more is a task that runs all the time
	threadsPace = time.Second // between two looks
	threadsWait = 10 * time.Second
	threadsMost = 10 * time.Minute
)

func newThreadPolicy(processors int) *threadPolicy {
	return &threadPolicy{processors: processors, wait: pause{least: threadsWait, most: threadsMost}}
}

// look tells whether inferences should be multi, if others use so many percent of
// all processors; nil is unknown, and changes nothing.
func (p *threadPolicy) look(now time.Time, others *float64) (multi bool) {
	if others == nil || now.Before(p.rest) {
		return p.multi
	}
	used := *others / 100 * float64(p.processors)
	switch {
	case p.multi && used > manyOthers:
		p.single(now)
	case p.multi:
	case used > fewOthers:
		p.free = time.Time{}
	case p.free.IsZero():
		p.free = now
	case now.Sub(p.free) >= p.wait.length():
		p.multi, p.went = true, now
	}
	return p.multi
}

// single notes that it is single again.
func (p *threadPolicy) single(now time.Time) {
	if now.Sub(p.went) < threadsMost {
		p.wait.grow()
	} else {
		p.wait.reset()
	}
	p.multi, p.free = false, time.Time{}
}

// stay notes that it could not change.
func (p *threadPolicy) stay(now time.Time, multi bool) { p.multi, p.rest = multi, now.Add(threadsWait) }

// faster is the share of the largest member's latency below which more threads
// are worth their processors.
const faster = 0.85

// scaleThreads hands the work over to a backend with more threads while others leave
// processors free, and back. It ends where there are no processors to spare, where
// a number was configured, and where more threads are of no use. Its error is
// ctx's.
func (l *loader) scaleThreads(ctx context.Context, single *backend) error {
	if l.multi == nil || !l.useful(single) {
		return nil
	}
	_, before := l.deps.Machine.Others(monitor.Mark{})
	serving, p := single, newThreadPolicy(max(l.deps.Machine.Processors(), l.cfg.Cores))
	for {
		if _, err := await(ctx, l, time.After(threadsPace)); err != nil {
			return err
		}
		var others *float64
		others, before = l.deps.Machine.Others(before)
		was, on := p.multi, l.base
		if p.look(time.Now(), others) == was {
			continue
		}
		if p.multi {
			on = l.multi
		}
		l.saveLearned(ctx, serving)
		next, err := l.rescale(ctx, serving, on, single.profile)
		if err != nil {
			return err
		}
		if next == serving { // not to be had now
			p.stay(time.Now(), was)
		}
		serving = next
	}
}

// multiThreads is how many threads an inference has when it is multi: one processor
// is left for decoding. It is 1 where a number was configured.
func (l *loader) multiThreads() int {
	if l.cfg.Threads > 0 {
		return 1
	}
	return max(1, l.cfg.Cores-1)
}

// multiProfile is the stored profile of the members on more threads; nil if there is
// none.
func (l *loader) multiProfile() *family.Profile {
	p, err := StoredProfile(&l.deps, l.multi)
	if err != nil {
		l.log.Warn("profile of more threads not readable", "err", err)
	}
	return p
}

// measureMulti takes the profile of more threads where it is needed: at the start of
// a family, as nothing else of it runs yet.
func (l *loader) measureMulti(ctx context.Context, on Loader, tell func(member int)) {
	if l.multi == nil || !l.outdated(ctx, l.multiProfile(), on) {
		return
	}
	l.log.Info("measuring the family on more threads, once", "threads", l.multiThreads())
	if _, err := TakeProfile(ctx, &l.deps, on, tell); err != nil && ctx.Err() == nil {
		l.log.Warn("more threads cannot be used", "threads", l.multiThreads(), "err", err)
	}
}

// useful tells whether more threads make the largest member that much faster.
func (l *loader) useful(single *backend) bool {
	profile, largest := l.multiProfile(), single.front[len(single.front)-1]
	if profile == nil {
		return false
	}
	one, many := single.profile.Members[largest].P50ms, profile.Members[largest].P50ms
	if many > 0 && many <= faster*one {
		return true
	}
	l.log.Info("more threads are of no use", "threads", l.multiThreads())
	l.deps.Events.Event(wire.SeverityInfo, wire.Event{Kind: wire.EventProvider, Detail: fmt.Sprintf(
		"%d threads are of no use here: an inference by %s takes %.2f ms with them, %.2f ms with one", l.multiThreads(),
		single.best().Name, many, one)})
	return false
}

// rescale hands the work over to a backend with more threads, or one, and returns it;
// the one that serves where that is not to be had now: memory is short, the mode
// names a member that the other has not, or it cannot be made ready. Where memory is
// short, one with a single thread is made member by member. Its error is ctx's.
func (l *loader) rescale(ctx context.Context, serving *backend, on Loader, single *family.Profile) (*backend, error) {
	tight := l.tight(serving)
	switch {
	case tight && on != l.base: // two backends at once want more of it, not less
		return serving, nil
	case tight:
		next, err := l.fallBack(ctx, serving, on, single)
		if err == nil && next != serving {
			l.tellTakeOver(serving, next)
		}
		return next, err
	}
	next, err := l.prepare(ctx, on, nil, func(int) {})
	if err != nil {
		l.log.Warn("number of threads not changed", "threads", on.Variant().Threads, "err", err)
		return serving, ctx.Err()
	}
	var lacks error
	l.do(func(s *supervisor) { lacks = next.lacks(s.target) })
	if lacks != nil {
		l.log.Debug("mode keeps the number of threads", "err", lacks)
		next.close()
		return serving, nil
	}
	return next, l.handOver(ctx, serving, next)
}
