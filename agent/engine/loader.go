package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/limber-edge/limber/agent/pipeline"
	"github.com/limber-edge/limber/family"
)

// loader is the goroutine that makes what serves:
//
//	profile of more threads ─▶ profile ─▶ first backend ─▶ its members
//	  ─▶ members that the disk had no room for ─▶ other providers, or more threads
type loader struct {
	*Engine
	tasks <-chan task
	hangs chan<- hang
	base  Loader       // on the CPU
	multi Loader       // likewise, on more threads; nil where these are not to be had
	learn *time.Ticker // when what was learned is saved
}

// task is what the supervisor has the loader do. Its error is ctx's.
type task func(context.Context, *loader) error

func newLoader(s *supervisor) *loader {
	return &loader{Engine: s.Engine, tasks: s.tasks, hangs: s.hangs}
}

// run makes one backend after the other until ctx ends. Its error is ctx's, or that
// members or mode make no pipeline.
func (l *loader) run(ctx context.Context) error {
	l.learn = time.NewTicker(learnedPace)
	defer l.learn.Stop()
	first, err := l.first(ctx)
	if err != nil {
		return err
	}
	if first != nil {
		serving, err := l.complete(ctx, first)
		if err != nil {
			return err
		}
		if err := l.failover(ctx, serving); err != nil {
			return err
		}
	}
	_, err = await[struct{}](ctx, l, nil)
	return err
}

// await receives from c, and does the supervisor's tasks until it can. Its error is
// ctx's.
func await[T any](ctx context.Context, l *loader, c <-chan T) (v T, err error) {
	for {
		select {
		case <-ctx.Done():
			return v, ctx.Err()
		case v = <-c:
			return v, nil
		case t := <-l.tasks:
			if err := t(ctx, l); err != nil {
				return v, err
			}
		case <-l.learn.C:
			if b := l.view.Load().backend; b != nil {
				l.saveLearned(ctx, b)
			}
		}
	}
}

// doTasks does the supervisor's tasks that wait. Its error is ctx's.
func (l *loader) doTasks(ctx context.Context) error {
	for {
		var t task
		if err := l.call(ctx, func(s *supervisor) {
			if len(s.todo) > 0 {
				t, s.todo = s.todo[0], s.todo[1:]
			}
		}); err != nil || t == nil {
			return err
		}
		if err := t(ctx, l); err != nil {
			return err
		}
	}
}

// tellPreparing shows in the status which member is prepared.
func (l *loader) tellPreparing(ctx context.Context) func(member int) {
	return func(i int) {
		_ = l.call(ctx, func(s *supervisor) { // who prepares looks at ctx itself
			s.progress = fmt.Sprintf("preparing %d of %d members", i+1, len(l.deps.Family.Members))
			s.publish()
		})
	}
}

// first makes the first backend and loads its members; it is nil where no member can
// be used until the next start. Where that is for want of room on the disk, it waits
// for that. Its error is ctx's, or that there can be no pipeline.
func (l *loader) first(ctx context.Context) (*backend, error) {
	if why := l.openCPU(); why != nil {
		return nil, l.refuse(ctx, why)
	}
	l.measureMulti(ctx)
	p, err := l.profile(ctx)
	for first := true; err != nil; p, err = l.profile(ctx) {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if !first && !isFull(err) {
			return nil, l.giveUp(ctx, err)
		}
		if first {
			if undone := l.refuse(ctx, err); undone != nil || !isFull(err) {
				return nil, undone
			}
		}
		first = false
		if err := l.awaitRoom(ctx, 0); err != nil {
			return nil, l.giveUp(ctx, err)
		}
	}
	l.tellFaults(p.profile)
	return l.install(ctx, p)
}

// openCPU opens the loaders on the CPU; its error is why there is none.
func (l *loader) openCPU() (err error) {
	if l.deps.Open == nil {
		return l.deps.Fault
	}
	if l.base, err = l.deps.Open(l.baseVariant()); err != nil {
		return err
	}
	if n := l.multiThreads(); n > 1 {
		multi, err := l.deps.Open(family.Variant{Provider: family.CPU, Threads: n})
		if err != nil {
			l.log.Warn("more threads cannot be used", "threads", n, "err", err)
			return nil
		}
		l.multi = multi
	}
	return nil
}

// refuse notes why no member can be used. Its error is ctx's.
func (l *loader) refuse(ctx context.Context, why error) error {
	return l.call(ctx, func(s *supervisor) { s.refuse(why) })
}

// install makes the first backend, and loads its members.
func (l *loader) install(ctx context.Context, p prepared) (*backend, error) {
	b, err := l.backend(l.base, p, nil)
	if err != nil {
		return nil, err
	}
	if err := l.call(ctx, func(s *supervisor) {
		s.fault, s.loading = nil, true
		s.start(ctx, b)
		s.handOver(ctx, b)
	}); err != nil {
		b.close()
		return nil, err
	}
	if _, err := l.loadMembers(ctx, b); err != nil {
		return nil, err
	}
	return b, l.call(ctx, func(s *supervisor) { s.allLoaded(b) })
}

// backend makes one, which does not run yet. Where that fails, its sessions are
// closed.
func (l *loader) backend(on Loader, p prepared, f *fallback) (*backend, error) {
	b := newBackend(on, l.deps.Family, p, f)
	if p.sessions == nil {
		b.loadAhead()
	}
	return b, l.newPipeline(b)
}

// newPipeline makes a backend's pipeline, with what was learned on its provider.
func (l *loader) newPipeline(b *backend) (err error) {
	cfg := pipeline.Config{
		Classes: len(b.family.Classes), Decoder: l.cfg.Decoder, Preprocess: l.cfg.Preprocess, Tables: l.deps.Tables,
		Processors: max(0, l.cfg.Cores-b.loader.Variant().Threads),
		QueueJobs:  l.cfg.QueueJobs, QueueBytes: l.cfg.QueueBytes,
		Cascade: l.cfg.Cascade, Log: l.decisionLog(b), Counters: &l.counters,
	}
	for _, i := range b.front {
		cfg.Members = append(cfg.Members, pipelineMember(b.family, b.profile, i))
	}
	if b.pipe, err = pipeline.New(cfg, &observer{b, l.deps.Events, l.hangs}); err != nil {
		b.close()
		return err
	}
	l.loadLearned(b)
	return nil
}

// loadMembers loads a backend's members, the smallest first so that the first answer
// does not wait for the largest, and hands each to the pipeline when it is ready. The
// first stays in memory whatever happens there: it is the one to fall back on. Where
// memory is short it stops after that one. It returns how many are in use; its error
// is ctx's.
func (l *loader) loadMembers(ctx context.Context, b *backend) (ready int, err error) {
	for at := range b.front {
		used, err := l.loadMember(ctx, b, at, ready > 0)
		if err != nil {
			return ready, err
		}
		if !used {
			continue
		}
		if ready++; ready == 1 {
			if err := l.pin(ctx, b, at); err != nil {
				return ready, err
			}
		}
	}
	return ready, nil
}

// loadMember loads one member and takes it into use; false means that it cannot be
// used, or is evicted because memory is short or the disk full. Its error is ctx's.
func (l *loader) loadMember(ctx context.Context, b *backend, at int, optional bool) (used bool, err error) {
	if err := l.doTasks(ctx); err != nil {
		return false, err
	}
	wanted := false
	if err := l.call(ctx, func(s *supervisor) {
		if wanted = s.wants(ctx, b, at, optional); wanted && b.sessions[at] != nil { // it came with the profile
			wanted, used = false, s.loaded(ctx, b, at, b.sessions[at], nil)
		}
	}); err != nil || !wanted {
		return used, err
	}
	err = l.deliver(ctx, b, at, func(s *supervisor, session family.Session, fault error) {
		used = s.loaded(ctx, b, at, session, fault)
	})
	return used, err
}

// deliver loads the member at a position in a backend's front, and has the
// supervisor take what came of it. Its error is ctx's; then nothing is left of it.
func (l *loader) deliver(ctx context.Context, b *backend, at int, take func(*supervisor, family.Session, error)) error {
	session, fault := b.load(at)
	err := l.call(ctx, func(s *supervisor) { take(s, session, fault) })
	if err != nil && fault == nil {
		err = errors.Join(err, session.Close())
	}
	return err
}

// pin keeps a member in memory. Its error is ctx's.
func (l *loader) pin(ctx context.Context, b *backend, at int) error {
	release, err := b.loader.Pin(b.front[at])
	if err != nil {
		l.log.Warn("smallest member may leave memory", "member", b.member(at).Name, "err", err)
		return ctx.Err()
	}
	err = l.call(ctx, func(*supervisor) { b.unpin = release })
	if err != nil {
		err = errors.Join(err, release())
	}
	return err
}

// prepare makes a backend ready: engines, canaries, profile. Before each member tell
// is called with its index.
func (l *loader) prepare(ctx context.Context, on Loader, f *fallback, tell func(member int)) (*backend, error) {
	p, err := l.members(ctx, on, func(i int) {
		_ = l.doTasks(ctx) // who prepares looks at ctx itself
		tell(i)
	})
	if err != nil {
		return nil, err
	}
	for _, m := range p.profile.Members {
		if m.Fault != "" {
			l.tellFault(fmt.Sprintf("a member cannot be used on %s: %s", on.Variant(), m.Fault))
		}
	}
	return l.backend(on, p, f)
}

// handOver gives every job from now on to a backend that is ready, and waits until
// the old one has answered what it has: no more than two work at once. Its error is
// ctx's.
func (l *loader) handOver(ctx context.Context, old, next *backend) error {
	if err := l.call(ctx, func(s *supervisor) { s.takeOver(ctx, next) }); err != nil {
		next.close()
		return err
	}
	l.tellTakeOver(old, next)
	_, err := await(ctx, l, old.over)
	return err
}
