package engine

import (
	"cmp"
	"context"
	"errors"
	"sync/atomic"

	"github.com/limber-edge/limber/agent/pipeline"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
)

// Replace prepares the members of another family while those in use go on answering,
// then has them take over as backends do: no job is lost or answered twice, and the mode
// that is pursued stays. It returns when the first backend of the new family serves and
// the old ones have answered what they had; all of its members were tried by then, so
// that Status says which can be used.
//
// Its error is ctx's, pipeline.ErrClosed after Run, or a *wire.Refusal: no_space where
// disk or memory have no room for a member, else unsupported. Then the family before is
// in use, and nothing of the new one is left, but for a session that was being made when
// ctx ended: that is closed as soon as it is there.
//
// While jobs are answered the preparation rests between its steps, for up to
// Config.Rest.
//
// One family is replaced at a time: another call waits for that.
func (e *Engine) Replace(ctx context.Context, next Source) (err error) {
	select {
	case e.renewal <- struct{}{}:
		defer func() { <-e.renewal }()
	case <-ctx.Done():
		return ctx.Err()
	}
	var begun atomic.Bool // or given up
	done := make(chan error, 1)
	err = e.order(ctx, func(s *supervisor) {
		s.task(func(running context.Context, l *loader) {
			if begun.CompareAndSwap(false, true) {
				done <- l.replaceFamily(running, ctx, next)
			}
		})
	})
	if err != nil {
		return err
	}
	select {
	case err = <-done:
		return err
	case <-e.over:
	case <-ctx.Done():
	}
	if begun.CompareAndSwap(false, true) {
		return cmp.Or(ctx.Err(), pipeline.ErrClosed)
	}
	return <-done // it ends with ctx
}

// replaceFamily is Replace on the loader's goroutine. Tasks are done meanwhile, until
// running ends; asked is who asks.
func (l *loader) replaceFamily(running, asked context.Context, s Source) error {
	err := l.tryFamily(running, asked, s)
	switch {
	case err == nil:
		return nil
	case running.Err() != nil:
		return pipeline.ErrClosed
	case asked.Err() != nil:
		return asked.Err()
	}
	return l.refusal(s.Family, err)
}

// refusal says why another family cannot be used.
func (l *loader) refusal(next *family.Family, err error) error {
	l.log.Warn("family not usable", "family", next.Name, "err", err)
	reason := wire.Unsupported
	if isFull(err) || errors.Is(err, errShort) {
		reason = wire.NoSpace
	}
	return wire.Refuse(reason, "family %s cannot be used: %w; family %s stays", next.Name, err, l.deps.Family.Name)
}

// tryFamily prepares a family and has it take over. Where that fails everything of it
// is closed.
func (l *loader) tryFamily(running, asked context.Context, s Source) error {
	if l.rest != nil {
		if _, err := awaitUnless(running, l, l.rest, asked); err != nil {
			return err
		}
	}
	if err := l.awaitDrained(running); err != nil {
		return err
	}
	next := newLoader(l.Engine, s)
	if err := next.openCPU(); err != nil {
		return err
	}
	l.log.Info("preparing another family", "family", s.Family.Name, "members", len(s.Family.Members))
	l.do(func(s *supervisor) { s.replacing = true })
	defer l.do(func(s *supervisor) { s.replacing = false })
	p, err := l.prepareNext(running, asked, next)
	if err != nil {
		return err
	}
	return l.giveWay(running, asked, next, p)
}

// prepareNext has a goroutine of its own make the members of the next loader's family
// ready, while this one does its tasks. What that makes after asked has ended is closed.
func (l *loader) prepareNext(running, asked context.Context, next *loader) (prepared, error) {
	type result struct {
		made prepared
		err  error
	}
	ctx, stop := context.WithCancel(running)
	defer stop()
	ready, left, closed := make(chan result), make(chan struct{}), make(chan struct{})
	l.rest = closed
	go func() {
		defer close(closed)
		if l.baseVariant().Threads == 1 { // else threads that serve later would have it, too
			LowerPriority()
		}
		p, err := next.prepareBeside(ctx, l, l.roomFor(ctx))
		select {
		case ready <- result{p, err}:
		case <-left:
			p.close() // freeing memory: nothing a caller could do about it
		}
	}()
	defer close(left)
	r, err := awaitUnless(running, l, ready, asked)
	return r.made, cmp.Or(err, r.err)
}

// giveWay makes a backend of members that are ready, and has it take over from all of
// this loader's, and the next loader from this one.
func (l *loader) giveWay(running, asked context.Context, next *loader, p prepared) error {
	b := newBackend(next.base, next.tally, p, nil)
	if old := l.view.Load().backend; old != nil {
		l.saveLearned(running, old)
	}
	took := false
	l.do(func(s *supervisor) { b.again = s.logsTo(b) })
	if err := next.newPipeline(b); err != nil {
		return err
	}
	l.do(func(s *supervisor) {
		if asked.Err() == nil {
			took = s.succeed(running, b)
		} else {
			b.close()
		}
	})
	if !took {
		return cmp.Or(asked.Err(), pipeline.ErrClosed)
	}
	next.first, next.rest, l.next = b, l.rest, next
	next.tellFaults(p.profile)
	l.tellSucceeded(next.deps.Family, len(b.front))
	if l.awaitDrained(running) == nil {
		next.pin(b, 0)
	}
	l.end()
	return nil
}

// awaitDrained waits until no backend is left that only answers what it has. Its error
// is ctx's.
func (l *loader) awaitDrained(ctx context.Context) error {
	for {
		var over <-chan struct{}
		l.do(func(s *supervisor) {
			for _, b := range s.live {
				if b.quit {
					over = b.over
				}
			}
		})
		if over == nil {
			return nil
		}
		if _, err := await(ctx, l, over); err != nil {
			return err
		}
	}
}
