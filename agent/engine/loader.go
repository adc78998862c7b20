package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/limber-edge/limber/agent/pipeline"
	"github.com/limber-edge/limber/family"
)

// loader makes what serves of one family:
//
//	profile of more threads ─▶ profile ─▶ first backend ─▶ its members
//	  ─▶ members that there was no room for ─▶ other providers, or more threads
//
// One of its tasks may be that another family takes over: then it ends, wherever it
// is, and that family's loader goes on from the first backend.
type loader struct {
	*Engine
	deps  Deps         // the engine's, with the family of this loader
	tally *tally       // of its backends
	base  Loader       // on the CPU
	multi Loader       // likewise, on more threads; nil where these are not to be had
	learn *time.Ticker // when what was learned is saved

	first *backend      // nil: it is still to be made
	next  *loader       // that follows this one; nil while this one's family serves
	end   func()        // ends this one's run
	rest  chan struct{} // closed when nothing is left of the last family that was prepared; nil: of none
}

func newLoader(e *Engine, s Source) *loader {
	l := &loader{Engine: e, deps: e.deps, tally: e.newTally(s.Family)}
	l.deps.Source = s
	return l
}

// task is what the supervisor has the loader do.
type task func(context.Context, *loader)

// load is the goroutine that makes what serves, of one family after the other, until ctx
// ends. Its error is ctx's, or that members or mode make no pipeline.
func (e *Engine) load(ctx context.Context) error {
	l := newLoader(e, e.deps.Source)
	l.tally = e.view.Load().tally
	for ; ; l = l.next {
		err := l.run(ctx)
		if l.next != nil {
			continue
		}
		if l.rest != nil {
			<-l.rest
		}
		return err
	}
}

// run makes one backend after the other until ctx ends or another family took over.
func (l *loader) run(ctx context.Context) (err error) {
	l.learn = time.NewTicker(learnedPace)
	defer l.learn.Stop()
	ctx, l.end = context.WithCancel(ctx)
	defer l.end()
	first := l.first
	if first == nil {
		first, err = l.begin(ctx)
	}
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
	return awaitUnless(ctx, l, c, nil)
}

// awaitUnless is await that gives up when another context ends, if it is not nil, with
// that one's error.
func awaitUnless[T any](ctx context.Context, l *loader, c <-chan T, other context.Context) (v T, err error) {
	var ended <-chan struct{}
	if other != nil {
		ended = other.Done()
	}
	for ctx.Err() == nil { // a task may have ended it
		select {
		case <-ctx.Done():
		case <-ended:
			return v, other.Err()
		case v = <-c:
			return v, nil
		case <-l.tasks:
			l.doTasks(ctx)
		case <-l.learn.C:
			if b := l.view.Load().backend; b != nil {
				l.saveLearned(ctx, b)
			}
		}
	}
	return v, ctx.Err()
}

// do has the supervisor do something and waits for it: it serves until the loader ends.
func (l *loader) do(do func(*supervisor)) {
	done := make(chan struct{})
	l.calls <- call{do, done}
	<-done
}

// doTasks does the supervisor's tasks that wait, until ctx ends.
func (l *loader) doTasks(ctx context.Context) {
	for ctx.Err() == nil {
		var t task
		l.do(func(s *supervisor) {
			if len(s.todo) > 0 {
				t, s.todo = s.todo[0], s.todo[1:]
			}
		})
		if t == nil {
			return
		}
		t(ctx, l)
	}
}

// tellPreparing shows in the status which member is prepared.
func (l *loader) tellPreparing(member int) {
	l.do(func(s *supervisor) {
		s.progress = fmt.Sprintf("preparing %d of %d members", member+1, len(l.deps.Family.Members))
		s.publish()
	})
}

// begin makes the first backend and loads its members; it is nil where no member can
// be used until the next start. Where that is for want of room on the disk, it waits
// for that. Its error is ctx's, or that there can be no pipeline.
func (l *loader) begin(ctx context.Context) (*backend, error) {
	if why := l.openCPU(); why != nil {
		l.refuse(why)
		return nil, nil
	}
	l.measureMulti(ctx, l.multi, l.tellPreparing)
	p, err := l.profile(ctx)
	if err != nil && ctx.Err() == nil {
		if l.refuse(err); !isFull(err) {
			return nil, nil
		}
	}
	for err != nil {
		if isFull(err) {
			err = l.awaitRoom(ctx, 0)
		}
		if err != nil {
			return nil, l.giveUp(ctx, err)
		}
		p, err = l.profile(ctx)
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

func (l *loader) refuse(why error) { l.do(func(s *supervisor) { s.refuse(why) }) }

// install makes the first backend, and loads its members.
func (l *loader) install(ctx context.Context, p prepared) (*backend, error) {
	b, err := l.backend(l.base, p, nil)
	if err != nil {
		return nil, err
	}
	l.do(func(s *supervisor) {
		s.fault, s.loading = nil, true
		s.start(ctx, b)
		s.handOver(ctx, b)
	})
	if _, err := l.loadMembers(ctx, b); err != nil {
		return nil, err
	}
	l.do(func(s *supervisor) { s.allLoaded(b) })
	return b, nil
}

// backend makes one, which does not run yet. Where that fails, its sessions are
// closed.
func (l *loader) backend(on Loader, p prepared, f *fallback) (*backend, error) {
	b := newBackend(on, l.tally, p, f)
	if p.sessions == nil {
		b.loadAhead()
	}
	return b, l.newPipeline(b)
}

// newPipeline makes a backend's pipeline, with what was learned on its provider.
func (l *loader) newPipeline(b *backend) (err error) {
	cfg := l.pipelineConfig(b)
	cfg.Processors, cfg.Log = max(0, l.cfg.Cores-b.loader.Variant().Threads), l.decisionLog(b)
	if b.pipe, err = pipeline.New(cfg, &observer{b, l.deps.Events, l.hangs}); err != nil {
		b.close()
		return err
	}
	l.loadLearned(b)
	return nil
}

// pipelineConfig is that of a backend's pipeline on one thread, which logs nothing.
func (l *loader) pipelineConfig(b *backend) pipeline.Config {
	cfg := pipeline.Config{
		Classes: len(b.family.Classes), Decoder: l.cfg.Decoder, Preprocess: l.deps.Preprocess, Tables: l.deps.Tables,
		QueueJobs: l.cfg.QueueJobs, QueueBytes: l.cfg.QueueBytes, Cascade: l.cfg.Cascade, Counters: b.counters,
	}
	for _, i := range b.front {
		cfg.Members = append(cfg.Members, pipelineMember(b.family, b.profile, i))
	}
	return cfg
}

// loadMembers loads a backend's members, the smallest first so that the first answer
// does not wait for the largest, and hands each to the pipeline when it is ready. The
// first stays in memory whatever happens there: it is the one to fall back on. Where
// memory is short it stops after that one. It returns how many are in use; its error
// is ctx's.
func (l *loader) loadMembers(ctx context.Context, b *backend) (ready int, err error) {
	for at := range b.front {
		if l.doTasks(ctx); ctx.Err() != nil {
			return ready, ctx.Err()
		}
		if !l.loadMember(ctx, b, at, ready > 0) {
			continue
		}
		if ready++; ready == 1 {
			l.pin(b, at)
		}
	}
	return ready, nil
}

// loadMember loads one member and takes it into use; false means that it cannot be
// used, or is evicted because memory is short or the disk full.
func (l *loader) loadMember(ctx context.Context, b *backend, at int, optional bool) (used bool) {
	wanted := false
	l.do(func(s *supervisor) {
		if wanted = s.wants(ctx, b, at, optional); wanted && b.sessions[at] != nil { // it came with the profile
			wanted, used = false, s.loaded(ctx, b, at, b.sessions[at], nil)
		}
	})
	if wanted {
		l.deliver(b, at, func(s *supervisor, session family.Session, fault error) {
			used = s.loaded(ctx, b, at, session, fault)
		})
	}
	return used
}

// deliver loads the member at a position in a backend's front, and has the
// supervisor take what came of it.
func (l *loader) deliver(b *backend, at int, take func(*supervisor, family.Session, error)) {
	session, fault := b.load(at)
	l.do(func(s *supervisor) { take(s, session, fault) })
}

func (l *loader) pin(b *backend, at int) {
	release, err := b.loader.Pin(b.front[at])
	if err != nil {
		l.log.Warn("smallest member may leave memory", "member", b.member(at).Name, "err", err)
		return
	}
	l.do(func(*supervisor) { b.unpin = release })
}

// prepare makes a backend ready: engines, canaries, profile. Before each member tell
// is called with its index.
func (l *loader) prepare(ctx context.Context, on Loader, f *fallback, tell func(member int)) (*backend, error) {
	inTheWay := on.Variant().Provider == family.CPU // of measuring: what serves
	p, err := l.members(ctx, on, !inTheWay, func(i int) {
		l.doTasks(ctx)
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
	if ctx.Err() != nil {
		next.close()
		return ctx.Err()
	}
	l.do(func(s *supervisor) { s.takeOver(ctx, next) })
	l.tellTakeOver(old, next)
	if _, err := await(ctx, l, old.over); err != nil {
		return err
	}
	l.pin(next, 0)
	return nil
}
