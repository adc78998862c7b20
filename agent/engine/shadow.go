package engine

import (
	"cmp"
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/pipeline"
	"github.com/limber-edge/limber/agent/wire"
)

// Comparison is how another family is compared with the one in use.
type Comparison struct {
	Percent float64 // of the jobs answered, and of the time, at most; in (0, 100]
	Frames  int     // that both must have answered, from 1
}

// Compared is what came of a comparison, up to a moment.
type Compared struct {
	Frames int           // that both answered
	Agreed int           // of these, with a first class of the same label
	Missed int           // of these, that would have been late: their queue as it was, the other family's decode and infer
	P95    time.Duration // of the other family's infer; 0 without frames
	Waits  string        // for what, where that is something else than jobs
}

// shadow is another family whose members answer jobs that those in use have answered,
// for nobody to see. Its goroutine owns it, but for the sampler and leave; that goroutine
// and those of its pipeline stand back behind all others.
type shadow struct {
	*Engine
	*sampler
	source   Source
	how      Comparison
	counters pipeline.Counters // its own: nothing of it is in the engine's
	so       Compared          // far

	members *backend        // that answer now; nil while there are none
	mode    governor.Mode   // that they pursue
	told    *governor.Power // that they were told
	hung    atomic.Bool     // one of them did not end by itself
	whole   bool            // the next frame is not given up for a job

	leave  atomic.Pointer[context.CancelCauseFunc] // has it give up its memory; nil while it has none, or was told
	large  atomic.Bool                             // it has members, or makes some
	news   chan Compared                           // holds the newest
	stop   func()
	closed chan struct{} // nothing of it is left
}

// Shadow has the members of another family answer, for nobody to see, jobs that those in
// use have answered, and compares their first classes. It takes a job only where none
// waits or runs by then, and no more of them, and of the time, than was asked for; a job
// that comes meanwhile has it give up the inference that it is at. Its members are made
// ready as for Replace, but in the room that there is: where memory becomes short they are
// closed before one in use is, and made again when there is room. They pursue the mode of
// the device. Nothing of them is in Snapshot, Tally or Progress, or is learned.
//
// told is called on the caller's goroutine, with the newest state. The result is the last
// one. The error is ctx's, pipeline.ErrClosed after Run, or a *wire.Refusal: precondition
// where the family in use cannot answer, no_space where the disk is full, else
// unsupported, also where a member fails to answer.
//
// It excludes Replace, and another Shadow: these wait.
func (e *Engine) Shadow(ctx context.Context, next Source, how Comparison, told func(Compared)) (Compared, error) {
	select {
	case e.renewal <- struct{}{}:
	case <-ctx.Done():
		return Compared{}, ctx.Err()
	}
	working, stop := context.WithCancel(ctx)
	defer stop()
	s := &shadow{Engine: e, sampler: newSampler(how.Percent), source: next, how: how, news: make(chan Compared, 1),
		stop: stop, closed: make(chan struct{})}
	begun := false
	err := e.order(ctx, func(v *supervisor) {
		if begun = !v.ending; begun {
			e.shadow.Store(s)
		}
	})
	if !begun {
		<-e.renewal
		return Compared{}, cmp.Or(err, pipeline.ErrClosed)
	}
	ended := make(chan error, 1)
	go func() {
		LowerPriority()
		err := s.run(working)
		if errors.Is(err, pipeline.ErrClosed) && ctx.Err() != nil {
			err = ctx.Err()
		}
		e.order(context.WithoutCancel(ctx), func(*supervisor) { e.shadow.Store(nil) })
		close(s.closed)
		<-e.renewal
		ended <- err
	}()
	return s.follow(ctx, ended, told)
}

// follow tells how far the shadow is until it has ended, or ctx has.
func (s *shadow) follow(ctx context.Context, ended <-chan error, told func(Compared)) (last Compared, err error) {
	for {
		select {
		case last = <-s.news:
			told(last)
			continue
		case err = <-ended:
		case <-ctx.Done():
			return last, ctx.Err()
		}
		select {
		case last = <-s.news:
		default:
		}
		return last, err
	}
}

// tell has the newest state told.
func (s *shadow) tell() {
	select {
	case <-s.news: // nobody wants it any more
	default:
	}
	s.news <- s.so
}

// run compares until enough is, or ctx ends.
func (s *shadow) run(ctx context.Context) error {
	serving, err := s.usable(ctx)
	if err != nil {
		return err
	}
	next := newLoader(s.Engine, s.source)
	next.tally = &tally{family: s.source.Family, counters: &s.counters}
	err = next.openCPU()
	for again := (pause{least: waitLeast, most: waitMost}); err == nil; again.grow() {
		if err = s.awaitRoom(ctx); err == nil {
			err = s.round(ctx, serving, next)
		}
		if err == nil || !errors.Is(err, errShort) {
			break
		}
		s.log.Info("family not compared for now", "family", s.source.Family.Name, "err", err)
		s.so.Waits = err.Error()
		s.tell()
		err = sleep(ctx, again.length())
	}
	_, refused := errors.AsType[*wire.Refusal](err)
	switch {
	case err == nil || refused:
		return err
	case ctx.Err() != nil:
		return pipeline.ErrClosed
	}
	return serving.refusal(s.source.Family, err)
}

// sleep waits; its error is ctx's, or why it was ended.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// usable waits until the family in use can answer, and nothing is left of one that was given
// up, and returns the loader of the former. The error is ctx's, or that it cannot.
func (s *shadow) usable(ctx context.Context) (*loader, error) {
	for {
		v := s.view.Load()
		if err := s.nothingToCompare(v); err != nil {
			return nil, err
		}
		if v.State != Preparing {
			break
		}
		select {
		case <-v.stale:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	serving := make(chan *loader, 1)
	err := s.order(ctx, func(v *supervisor) {
		v.task(func(running context.Context, l *loader) {
			if l.rest != nil { // what Replace gave up, and was making
				if _, err := awaitUnless(running, l, l.rest, ctx); err != nil {
					return
				}
			}
			serving <- l
		})
	})
	if err != nil {
		return nil, err
	}
	select {
	case l := <-serving:
		return l, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// nothingToCompare refuses where the family in use answers no job.
func (s *shadow) nothingToCompare(v *view) error {
	if v.State != Unavailable {
		return nil
	}
	return wire.Refuse(wire.Precondition, "family %s cannot be compared with family %s, which answers no job: %s; ask "+
		"for it without a shadow", s.source.Family.Name, v.Family.Name, v.Detail)
}

// awaitRoom waits until there is memory to spare, and nothing of the family in use waits
// for it.
func (s *shadow) awaitRoom(ctx context.Context) error {
	for {
		why := ""
		err := s.order(ctx, func(v *supervisor) { why = v.crowded() })
		if err != nil {
			return err
		}
		if why != s.so.Waits {
			s.so.Waits = why
			s.tell()
		}
		if why == "" {
			return nil
		}
		if err := sleep(ctx, time.Second); err != nil {
			return err
		}
	}
}

// crowded says why there is no memory to spare; empty where there is, or nothing is known.
func (s *supervisor) crowded() string {
	m := s.deps.Machine.Memory()
	switch why := short(m); {
	case why != "":
		return why
	case s.serving != nil && s.serving.makesRoom():
		return "members in use wait for room"
	case !roomy(m):
		return "memory has too little to spare"
	}
	return ""
}

// round makes the members ready and compares, until enough is or memory becomes short:
// then its error is errShort.
func (s *shadow) round(ctx context.Context, serving, next *loader) error {
	ctx, leave := context.WithCancelCause(ctx)
	defer leave(nil)
	s.large.Store(true)
	defer s.large.Store(false)
	s.leave.Store(&leave)
	defer s.leave.Store(nil)
	p, err := next.prepareBeside(ctx, serving, func() error {
		if why := short(s.deps.Machine.Memory()); why != "" {
			leave(errShort)
		}
		return context.Cause(ctx)
	})
	if err == nil {
		err = s.serve(ctx, next, newBackend(next.base, next.tally, p, nil))
	}
	if s.deps.Trim != nil {
		s.deps.Trim()
	}
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// giveWay has it close its members, since memory is short; false where it has none, or was
// told so before.
func (s *shadow) giveWay() bool {
	if s == nil {
		return false
	}
	leave := s.leave.Swap(nil)
	if leave != nil {
		(*leave)(errShort)
	}
	return leave != nil
}

// leaving tells whether it was told to give way, and has not closed its members yet.
func (s *shadow) leaving() bool { return s != nil && s.large.Load() && s.leave.Load() == nil }

// serve runs members that are ready, compares with them, and closes them.
func (s *shadow) serve(ctx context.Context, next *loader, b *backend) (err error) {
	for at, session := range b.sessions {
		if session != nil {
			b.sessions[at] = &interruptible{session, s.sampler}
		}
	}
	cfg := next.pipelineConfig(b)
	cfg.Begin = LowerPriority
	if b.pipe, err = pipeline.New(cfg, unheard{&s.hung}); err != nil {
		b.close()
		return err
	}
	next.loadLearned(b)
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	over := make(chan error, 1)
	go func() { over <- b.pipe.Run(running) }()
	for at := 0; at < len(b.sessions) && err == nil; at++ {
		if b.sessions[at] != nil {
			err = b.pipe.Use(ctx, at, b.sessions[at])
		}
	}
	if err == nil {
		err = s.compare(ctx, b)
	}
	stop()
	if ended := <-over; ended != nil {
		b.hung.Store(errors.Is(ended, ErrHung)) // what hangs is left behind, and the others answer on
		err = ended
	}
	b.close()
	return err
}

// unheard is the observer of a shadow, of which nobody is told.
type unheard struct{ hung *atomic.Bool }

// Switched implements pipeline.Observer.
func (unheard) Switched(int, int, string) {}

// Hung implements pipeline.Observer.
func (u unheard) Hung(int) { u.hung.Store(true) }
