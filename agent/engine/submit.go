package engine

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/limber-edge/limber/agent/pipeline"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
)

// Answer is what became of a job. It is valid until the call it was passed to
// returns.
type Answer struct {
	*pipeline.Answer
	Family *family.Family
	Member *family.Member // that answered; nil where the job was refused
	First  *family.Member // of a cascade: that ran first, which may be Member; else nil
}

// Submit takes a job; the job's own Answer is set here. It never blocks, and answer
// is called exactly once, from a goroutine of a pipeline or of the caller; it must
// not block.
func (e *Engine) Submit(j pipeline.Job, answer func(*Answer)) {
	e.jobs.open.Add(1)
	if s := e.shadow.Load(); s != nil {
		s.yield()
	}
	if e.jobs.draining.Load() {
		e.turnAway(j, answer, abandoned())
		return
	}
	e.offer(j, answer)
}

// offer gives a job to the pipeline that serves. One that does not take it was closed:
// where another one has its place in the view by now the job goes there, else there is
// none any more.
func (e *Engine) offer(j pipeline.Job, answer func(*Answer)) {
	for {
		v := e.view.Load()
		if r := v.refuses(&j); r != nil {
			e.tellInfeasible(v.backend, &j, r)
			e.turnAway(j, answer, r)
			return
		}
		b := v.backend
		j.Answer = func(a *pipeline.Answer) { e.answer(b, &j, a, answer) }
		if b.pipe.Submit(j) {
			return
		}
		if e.view.Load().backend == b {
			e.turnAway(j, answer, abandoned())
			return
		}
	}
}

// abandoned is the answer to a job that comes too late for this engine.
func abandoned() *pipeline.Answer {
	return &pipeline.Answer{Reason: wire.Busy, Detail: pipeline.ErrClosed.Error(), Abandoned: true}
}

// refuses is the answer to a job that no pipeline can help; nil where one can.
func (v *view) refuses(j *pipeline.Job) *pipeline.Answer {
	switch {
	case v.State == Unavailable:
		return &pipeline.Answer{Reason: wire.Unsupported, Detail: v.Detail}
	case v.backend == nil:
		return &pipeline.Answer{Reason: wire.Busy, Detail: "no member can answer yet; " + v.Detail}
	case j.Floor <= v.backend.best().Top1:
		return nil
	}
	best := v.backend.best()
	return &pipeline.Answer{Reason: wire.Infeasible, Detail: fmt.Sprintf(
		"no member reaches a top-1 of %v: the most accurate, %s, has %.4f", j.Floor, best.Name, best.Top1)}
}

// stillLoading is why a job is refused that a member may take which is not there yet.
const stillLoading = "the members as accurate as min_top1 asks are still being loaded"

// turnAway answers a job that reached no pipeline.
func (e *Engine) turnAway(j pipeline.Job, answer func(*Answer), a *pipeline.Answer) {
	t := e.view.Load().tally
	t.counters.Refuse(j.Counted)
	a.Total = time.Since(j.Received)
	answer(&Answer{Answer: a, Family: t.family})
	e.jobs.end()
}

// answer hands on what a pipeline made of a job, or the job to the one that serves now
// where it ended before its turn.
func (e *Engine) answer(b *backend, j *pipeline.Job, a *pipeline.Answer, answer func(*Answer)) {
	if a.Abandoned {
		j.Counted = true
		if serving := e.view.Load().backend; serving != nil && serving != b {
			e.offer(*j, answer)
			return
		}
		b.counters.Refuse(j.Counted)
	}
	if a.Reason == wire.Invalid {
		e.jobs.unfit.Add(1)
	}
	e.reword(a)
	e.tellInfeasible(b, j, a)
	named := Answer{Answer: a, Family: b.family}
	if a.Reason == "" && !a.Superseded {
		named.Member = b.member(a.Member)
		if a.FirstP > 0 {
			named.First = b.member(a.First)
		}
	}
	answer(&named)
	e.jobs.end()
	if s := e.shadow.Load(); s != nil && named.Member != nil {
		s.answered(j, &named, e.jobs.open.Load() == 0)
	}
}

// reword corrects a reason that the pipeline cannot know: busy is unsupported where
// no member can be used at all, and infeasible is busy while members are still being
// loaded.
func (e *Engine) reword(a *pipeline.Answer) {
	v := e.view.Load()
	switch {
	case a.Reason == wire.Busy && v.State == Unavailable:
		a.Reason, a.Detail, a.Abandoned = wire.Unsupported, v.Detail, false
	case a.Reason == wire.Infeasible && v.Loading:
		a.Reason, a.Detail = wire.Busy, stillLoading
	}
}

// Drain turns every job away from now on, and returns when all that were taken
// before are answered, by whichever pipeline, or ctx ends. It may be called once.
func (e *Engine) Drain(ctx context.Context) {
	e.jobs.draining.Store(true)
	for e.jobs.open.Load() > 0 {
		select {
		case <-e.jobs.settled:
		case <-ctx.Done():
			return
		}
	}
}

// openJobs counts the jobs that have no answer yet. A job begins before it looks
// whether it is too late for one.
type openJobs struct {
	open     atomic.Int64
	emptied  atomic.Uint64 // times that open came down to nothing
	unfit    atomic.Uint64 // answers to what is no frame
	draining atomic.Bool
	settled  chan struct{} // holds a token when open came down to nothing
}

func (o *openJobs) end() {
	if o.open.Add(-1) == 0 {
		o.emptied.Add(1)
		token(o.settled)
	}
}
