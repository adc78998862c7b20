package agent

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ort"
)

// relieve hands the work over to a crew on the first of the configured execution
// providers that can be used. The crew on the CPU serves meanwhile: building
// engines takes minutes. A provider that cannot be used is given up until the
// next start, with an event that says why.
func (a *Agent) relieve(ctx context.Context, g *errgroup.Group, old *crew, endOld context.CancelFunc) error {
	for _, provider := range a.cfg.Runtime.Providers {
		if provider == ort.CPU {
			return nil // it serves already, and comes last
		}
		next, err := a.raise(ctx, provider, old)
		if ctx.Err() == nil && err == nil {
			return a.handOver(ctx, g, old, next, endOld)
		}
		next.close()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		a.log.Warn("execution provider not usable", "provider", provider, "err", err)
		a.news.tell(wire.SeverityWarning, wire.Event{Kind: wire.EventProvider,
			Detail: fmt.Sprintf("%s is given up until the next start: %v; %s serves", provider, err, old.shelf.Options().Provider)})
	}
	return nil
}

// raise makes a crew ready on an execution provider: engines, canaries, profile.
func (a *Agent) raise(ctx context.Context, provider string, old *crew) (*crew, error) {
	shelf, err := a.parts.On(provider)
	if err != nil {
		return nil, err
	}
	a.log.Info("preparing the family for another execution provider", "provider", provider)
	tell := func(i int) {
		a.news.tell(wire.SeverityInfo, wire.Event{Kind: wire.EventProgress, Member: old.family.Members[i].Name,
			Detail: fmt.Sprintf("%s: preparing member %d of %d; %s serves", provider, i+1, len(old.family.Members), old.shelf.Options().Provider)})
	}
	profile, sessions, err := a.readied(ctx, shelf, tell)
	if err != nil {
		return nil, err
	}
	for _, m := range profile.Members {
		if m.Fault != "" {
			a.fault(fmt.Sprintf("a member cannot be used on %s: %s", provider, m.Fault))
		}
	}
	next := newCrew(shelf, old.family, profile, sessions)
	_, mode := old.pipe.Governed()
	return next, a.lay(next, mode)
}

// readied returns a session for each member, with the stored profile if there is
// one that fits.
func (a *Agent) readied(ctx context.Context, shelf Shelf, tell func(int)) (*family.Profile, []family.Session, error) {
	profile, err := StoredProfile(a.parts, shelf)
	if err != nil {
		return nil, nil, err
	}
	if profile == nil {
		return TakeProfile(ctx, a.parts, shelf, tell)
	}
	sessions, faults, err := makeReady(ctx, a.parts.Family, shelf, tell)
	for i, fault := range faults {
		if profile.Members[i].Fault == "" {
			profile.Members[i].Fault = fault // what worked when the profile was taken may not now
		}
	}
	if err != nil {
		for _, s := range sessions {
			if s != nil {
				err = errors.Join(err, s.Close())
			}
		}
		return nil, nil, err
	}
	return profile, sessions, nil
}

// handOver gives every job from now on to the next crew, and lets the old one
// answer what it has.
func (a *Agent) handOver(ctx context.Context, g *errgroup.Group, old, next *crew, endOld context.CancelFunc) error {
	g.Go(func() error { return next.run(ctx) })
	for at, s := range next.sessions {
		if err := next.pipe.Use(ctx, at, s); err != nil {
			<-next.over // it runs on ctx, whose end is the only error
			next.close()
			return err
		}
	}
	if err := a.swap(ctx, old, next); err != nil {
		a.log.Warn("mode not usable on the new execution provider, balanced is used", "err", err)
	}
	old.pipe.Drain(ctx)
	endOld()
	<-old.over
	old.close()
	from, to := old.shelf.Options().Provider, next.shelf.Options().Provider
	a.log.Info("execution provider took over", "provider", to)
	a.news.tell(wire.SeverityInfo, wire.Event{Kind: wire.EventProvider,
		Detail: fmt.Sprintf("%s took over from %s with %d members", to, from, len(next.front))})
	a.sayCaps(ctx)
	return nil
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
	return err
}

// sayCaps publishes what the device can do anew.
func (a *Agent) sayCaps(ctx context.Context) {
	a.standing.Lock()
	defer a.standing.Unlock()
	a.link.Send(ctx, a.message(a.self.Caps(), true, a.caps())) // without a link the next connection tells it
}
