package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
)

// failover hands the work over to a backend on the first of the configured execution
// providers that can be used, and keeps it there. The one on the CPU serves
// meanwhile: building engines takes minutes. A provider that cannot be used is
// given up until the next start, with an event that says why. Its error is ctx's.
func (l *loader) failover(ctx context.Context, cpu *backend) error {
	for _, provider := range l.cfg.Providers {
		if provider == family.CPU {
			return l.scaleThreads(ctx, cpu) // it serves already, and comes last
		}
		l.log.Info("preparing the family for another execution provider", "provider", provider)
		next, err := l.prepareOn(ctx, provider, l.tellProgress(provider, cpu))
		if err == nil {
			if err := l.handOver(ctx, cpu, next); err != nil {
				return err
			}
			return l.superviseProvider(ctx, provider, next, cpu.profile)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		l.log.Warn("execution provider not usable", "provider", provider, "err", err)
		l.deps.Events.Event(wire.SeverityWarning, wire.Event{Kind: wire.EventProvider,
			Detail: fmt.Sprintf("%s is given up until the next start: %v; %s serves", provider, err, cpu.provider())})
	}
	return nil
}

// The pauses before a provider that failed is tried again: they double, and
// begin anew once it served for longer than the longest of them.
const (
	retryLeast = 5 * time.Second
	retryMost  = 10 * time.Minute
)

// superviseProvider keeps the work on a provider for as long as that works:
//
//	          fails                      prepared again
//	provider ──────▶ CPU ── pause ─ try ───────────────▶ provider
//	                          ▲      │
//	                          └──────┘ cannot be prepared: twice the pause
//
// cpu is the profile of the members on the CPU. Its error is ctx's.
func (l *loader) superviseProvider(ctx context.Context, provider string, serving *backend, cpu *family.Profile) error {
	for p := (pause{least: retryLeast, most: retryMost}); ; p.grow() {
		since := time.Now()
		failure, err := await(ctx, l, serving.fallback.failed)
		if err != nil {
			return err
		}
		if time.Since(since) > retryMost {
			p.reset()
		}
		l.log.Error("execution provider failed", "provider", provider, "err", failure)
		l.deps.Events.Event(wire.SeverityError, wire.Event{Kind: wire.EventProvider,
			Detail: fmt.Sprintf("%s failed: %v; %s serves, the next attempt is in %v", provider, failure, family.CPU,
				p.length())})
		l.do(func(s *supervisor) {
			s.failed = provider
			s.publish()
		})
		if serving, err = l.fallBack(ctx, serving, serving.fallback.cpu, cpu); err != nil {
			return err
		}
		if serving, err = l.retryProvider(ctx, provider, serving, &p); err != nil {
			return err
		}
	}
}

// fallBack hands the work over to a new backend on the CPU, the smallest member
// first, and returns the one that serves: the old one where the CPU has no member.
// Its error is ctx's.
func (l *loader) fallBack(ctx context.Context, old *backend, on Loader, profile *family.Profile) (*backend, error) {
	next, err := l.backend(on, prepared{profile: profile}, nil)
	if err != nil {
		return nil, err
	}
	l.do(func(s *supervisor) {
		s.loading = true
		s.start(ctx, next)
		s.publish()
	})
	ready, err := l.loadMembers(ctx, next)
	if err != nil {
		return nil, err
	}
	ending, serving := old, next
	if ready == 0 {
		ending, serving = next, old
	}
	l.do(func(s *supervisor) {
		s.loading = false
		s.publish()
		if ready == 0 {
			next.stop()
		}
	})
	_, err = await(ctx, l, ending.over)
	return serving, err
}

// retryProvider prepares a provider again, after a pause that doubles with every
// attempt in vain, and hands the work over to it. It returns the backend that then
// serves. Its error is ctx's.
func (l *loader) retryProvider(ctx context.Context, provider string, serving *backend, p *pause) (*backend, error) {
	for ; ; p.grow() {
		if _, err := await(ctx, l, time.After(p.length())); err != nil {
			return nil, err
		}
		if short(l.deps.Machine.Memory()) != "" {
			continue // two backends at once want more of it, not less
		}
		next, err := l.prepareOn(ctx, provider, func(int) {})
		if err == nil {
			return next, l.handOver(ctx, serving, next)
		}
		l.log.Debug("execution provider still not usable", "provider", provider, "err", err)
	}
}

func (l *loader) tellProgress(provider string, serving *backend) func(i int) {
	return func(i int) {
		l.deps.Events.Event(wire.SeverityInfo, wire.Event{Kind: wire.EventProgress, Member: serving.family.Members[i].Name,
			Detail: fmt.Sprintf("%s: preparing member %d of %d; %s serves", provider, i+1, len(serving.family.Members),
				serving.provider())})
	}
}

// prepareOn makes a backend ready on an execution provider, with a fallback.
func (l *loader) prepareOn(ctx context.Context, provider string, tell func(i int)) (*backend, error) {
	on, err := l.deps.Open(family.Variant{Provider: provider, Threads: l.baseVariant().Threads})
	if err != nil {
		return nil, err
	}
	return l.prepare(ctx, on, newFallback(l.base), tell)
}
