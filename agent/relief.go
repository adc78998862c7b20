package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ort"
)

// relieve hands the work over to a crew on the first of the configured execution
// providers that can be used, and keeps it there. The crew on the CPU serves
// meanwhile: building engines takes minutes. A provider that cannot be used is
// given up until the next start, with an event that says why.
func (a *Agent) relieve(ctx context.Context, g *errgroup.Group, first *crew) error {
	for _, provider := range a.cfg.Runtime.Providers {
		if provider == ort.CPU {
			return a.broaden(ctx, g, first) // it serves already, and comes last
		}
		a.log.Info("preparing the family for another execution provider", "provider", provider)
		next, err := a.raiseOn(ctx, provider, first, a.tellProgress(provider, first))
		if err == nil {
			if err := a.handOver(ctx, g, first, next); err != nil {
				return err
			}
			return a.hold(ctx, g, provider, next, first.profile)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		a.log.Warn("execution provider not usable", "provider", provider, "err", err)
		a.news.tell(wire.SeverityWarning, wire.Event{Kind: wire.EventProvider,
			Detail: fmt.Sprintf("%s is given up until the next start: %v; %s serves", provider, err, first.shelf.Variant().Provider)})
	}
	return nil
}

// The pauses before a provider that failed is tried again: they double, and
// begin anew once it served for longer than the longest of them.
const (
	retryLeast = 5 * time.Second
	retryMost  = 10 * time.Minute
)

// hold keeps the work on a provider for as long as that works:
//
//	          fails                      raised again
//	provider ──────▶ CPU ── pause ─ try ─────────────▶ provider
//	                          ▲      │
//	                          └──────┘ cannot be raised: twice the pause
//
// cpu is the profile of the members on the CPU. Its error is ctx's.
func (a *Agent) hold(ctx context.Context, g *errgroup.Group, provider string, serving *crew, cpu *family.Profile) error {
	for pause := retryLeast; ; pause = min(2*pause, retryMost) {
		since := time.Now()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-serving.line.failed:
			if time.Since(since) > retryMost {
				pause = retryLeast
			}
			a.log.Error("execution provider failed", "provider", provider, "err", err)
			a.news.tell(wire.SeverityError, wire.Event{Kind: wire.EventProvider,
				Detail: fmt.Sprintf("%s failed: %v; %s serves, the next attempt is in %v", provider, err, ort.CPU, pause)})
		}
		var err error
		if serving, err = a.fallBack(ctx, g, serving, serving.line.spare, cpu); err != nil {
			return err
		}
		if serving, pause, err = a.regain(ctx, g, provider, serving, pause); err != nil {
			return err
		}
	}
}

// fallBack hands the work over to a new crew on the CPU, the smallest member
// first, and returns the crew that serves: the old one where the CPU has no
// member. Its error is ctx's.
func (a *Agent) fallBack(ctx context.Context, g *errgroup.Group, old *crew, shelf Shelf, profile *family.Profile) (*crew, error) {
	next := newCrew(shelf, old.family, profile, nil)
	_, mode := old.pipe.Governed()
	if err := a.lay(next, mode); err != nil {
		return nil, err
	}
	a.work(ctx, g, next)
	a.boarding.Store(true)
	defer a.boarding.Store(false)
	ready, err := a.enlist(ctx, next, func(string) {
		old.retire()
		if err := a.swap(ctx, old, next); err != nil {
			a.log.Warn("mode not usable on the CPU, balanced is used", "err", err)
		}
	})
	if ready == 0 {
		next.end()
		<-next.over
		return old, err
	}
	old.finish(ctx)
	a.sayCaps(ctx)
	return next, err
}

// regain raises a provider again, after a pause that doubles with every attempt
// in vain, and hands the work over to it. It returns the crew and the last
// pause. Its error is ctx's.
func (a *Agent) regain(ctx context.Context, g *errgroup.Group, provider string, serving *crew, pause time.Duration) (*crew, time.Duration, error) {
	for ; ; pause = min(2*pause, retryMost) {
		select {
		case <-ctx.Done():
			return nil, pause, ctx.Err()
		case <-time.After(pause):
		}
		if short(a.parts.Machine.Memory()) != "" {
			continue // two crews at once want more of it, not less
		}
		next, err := a.raiseOn(ctx, provider, serving, func(int) {})
		if err == nil {
			return next, pause, a.handOver(ctx, g, serving, next)
		}
		a.log.Debug("execution provider still not usable", "provider", provider, "err", err)
	}
}

// tellProgress tells of each member that is prepared.
func (a *Agent) tellProgress(provider string, serving *crew) func(i int) {
	return func(i int) {
		a.news.tell(wire.SeverityInfo, wire.Event{Kind: wire.EventProgress, Member: serving.family.Members[i].Name,
			Detail: fmt.Sprintf("%s: preparing member %d of %d; %s serves", provider, i+1, len(serving.family.Members), serving.shelf.Variant().Provider)})
	}
}

// raiseOn makes a crew ready on an execution provider, with a lifeline.
func (a *Agent) raiseOn(ctx context.Context, provider string, old *crew, tell func(i int)) (*crew, error) {
	shelf, err := a.parts.On(provider)
	if err != nil {
		return nil, err
	}
	return a.raise(ctx, shelf, newLifeline(a.parts.Shelf), old, tell)
}

// raise makes a crew ready: engines, canaries, profile. Before each member tell is
// called with its index.
func (a *Agent) raise(ctx context.Context, shelf Shelf, line *lifeline, old *crew, tell func(i int)) (*crew, error) {
	profile, sessions, err := a.readied(ctx, shelf, tell)
	if err != nil {
		return nil, err
	}
	for _, m := range profile.Members {
		if m.Fault != "" {
			a.fault(fmt.Sprintf("a member cannot be used on %s: %s", shelf.Variant(), m.Fault))
		}
	}
	next := newCrew(shelf, old.family, profile, sessions)
	next.line = line
	for at, s := range next.sessions {
		if s != nil {
			next.sessions[at] = next.line.hold(s, next.front[at])
		}
	}
	_, mode := old.pipe.Governed()
	if err := a.lay(next, mode); err != nil {
		next.close()
		return nil, err
	}
	return next, nil
}

// readied returns a session for each member, with the stored profile if there is
// one that fits. Where that has a member at fault which can be used now it is
// measured anew, but not on the CPU: the crew that serves is in the way there, and
// the next start does it.
func (a *Agent) readied(ctx context.Context, shelf Shelf, tell func(int)) (*family.Profile, []family.Session, error) {
	profile, err := StoredProfile(a.parts, shelf)
	if err != nil {
		return nil, nil, err
	}
	if profile == nil {
		return a.takeProfile(ctx, shelf, tell)
	}
	sessions, faults, err := makeReady(ctx, a.parts.Family, shelf, tell)
	if err != nil {
		return nil, nil, errors.Join(err, closeAll(sessions))
	}
	passed := false
	for i, fault := range faults {
		passed = passed || fault == "" && profile.Members[i].Fault != ""
		if profile.Members[i].Fault == "" {
			profile.Members[i].Fault = fault // what worked when the profile was taken may not now
		}
	}
	if !passed || shelf.Variant().Provider == ort.CPU {
		return profile, sessions, nil
	}
	anew, err := measured(ctx, a.parts.Machine, shelf, sessions)
	if err == nil {
		for i, fault := range faults {
			anew.Members[i].Fault = fault
		}
		err = saveProfile(a.parts, shelf, anew)
	}
	if err != nil {
		a.log.Warn("profile not taken anew, the stored one is used", "provider", shelf.Variant().Provider, "err", err)
		return profile, sessions, nil
	}
	return anew, sessions, nil
}

// handOver gives every job from now on to the next crew, and lets the old one
// answer what it has. Its error is ctx's.
func (a *Agent) handOver(ctx context.Context, g *errgroup.Group, old, next *crew) error {
	old.retire()
	a.work(ctx, g, next)
	for at, s := range next.sessions {
		if err := next.pipe.Use(ctx, at, s); err != nil {
			next.end()
			<-next.over
			next.close()
			return err
		}
	}
	if err := a.swap(ctx, old, next); err != nil {
		a.log.Warn("mode not usable by the new crew, balanced is used", "err", err)
	}
	old.finish(ctx)
	a.tellTakeOver(old, next)
	a.sayCaps(ctx)
	return nil
}

func (a *Agent) tellTakeOver(old, next *crew) {
	from, to := way(old, next), way(next, old)
	a.log.Info("crew took over", "provider", to)
	a.news.tell(wire.SeverityInfo, wire.Event{Kind: wire.EventProvider,
		Detail: fmt.Sprintf("%s took over from %s with %d members", to, from, len(next.front))})
}

// way says what a crew runs on, as far as that tells it from another.
func way(c, other *crew) string {
	o := c.shelf.Variant()
	if o.Provider != other.provider() {
		return o.Provider
	}
	return o.String()
}

// swap makes next the crew, in the mode that is in force now. Its error is that
// of a mode which names a member that next has not.
func (a *Agent) swap(ctx context.Context, old, next *crew) error {
	a.relief.Lock()
	defer a.relief.Unlock()
	_, was := old.pipe.Governed()
	err := next.pipe.SetMode(ctx, was)
	if err != nil {
		err = errors.Join(err, next.pipe.SetMode(ctx, governor.Mode{}))
	}
	a.crew.Store(next)
	if a.noCrew.Swap(nil) != nil {
		a.sayOnline(ctx, a.connSeq.Load()) // the birth said that the device refuses jobs
	}
	return err
}

// sayCaps publishes what the device can do; without a link the next connection
// tells it.
func (a *Agent) sayCaps(ctx context.Context) <-chan error {
	a.standing.Lock()
	defer a.standing.Unlock()
	return a.link.Send(ctx, a.message(a.self.Caps(), true, a.caps()))
}
