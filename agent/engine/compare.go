package engine

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/pipeline"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
)

// sampler lets jobs that were answered through to a shadow, and holds it back for those that
// come. Of each block of answers it lets one through, from a place on that is drawn: else
// cameras that take turns would not have theirs. Who answers jobs or brings them never
// waits for it, since who samples stands back.
type sampler struct {
	block  float64 // answers, of which one may go through
	begins float64 // the block that the next one is of; the shadow's goroutine's

	seen   atomic.Int64 // answers
	next   atomic.Int64 // from which one may go through
	wanted atomic.Bool  // the shadow waits for one
	frames chan sample
	turn   atomic.Pointer[turn] // under way; nil: none is
}

// sample is a job that was answered.
type sample struct {
	pipeline.Job
	queue time.Duration // it waited
	label string        // of its first class
}

// turn is a sample that a shadow is at.
type turn struct {
	whole   bool        // it is not given up
	met     atomic.Bool // a job came meanwhile
	over    atomic.Bool // its inference has ended: no job can meet with that any more
	running atomic.Pointer[family.Session]
}

// errYielded is of a run that did not begin, since a job had come.
var errYielded = errors.New("a job came")

func newSampler(percent float64) *sampler {
	block := 100 / percent
	p := &sampler{block: block, begins: block, frames: make(chan sample, 1)}
	p.next.Store(p.draw())
	return p
}

// draw is the answer from which on one of the next block may go through. A block of a
// percentage next to nothing has more than can be counted.
func (p *sampler) draw() int64 {
	return int64(min(math.Ceil(p.begins+math.Floor(rand.Float64()*p.block)), 1<<62))
}

// metRest is how many jobs are left alone after a sample that one of them met with. Then
// it is one in fifty that does: no 95th percentile sees that.
const metRest = 50

// advance goes on to the next block, which begins later where a job met with the sample.
func (p *sampler) advance(met bool) {
	seen := float64(p.seen.Load())
	if p.begins = max(p.begins+p.block, seen); met {
		p.begins = max(p.begins, seen+metRest)
	}
	p.next.Store(p.draw())
}

// answered takes note of a job that was answered with classes, and lets it through where
// none is open and it is its turn.
func (p *sampler) answered(j *pipeline.Job, a *Answer, none bool) {
	if n := p.seen.Add(1); n < p.next.Load() || !none || j.Body == nil || !p.wanted.CompareAndSwap(true, false) {
		return
	}
	p.frames <- sample{*j, a.Queue, a.Family.Classes[a.Top[0].Index]} // it has room: one is wanted at a time
}

// yield has the sample that is under way given up, as a job has come.
func (p *sampler) yield() {
	t := p.turn.Load()
	if t == nil || t.over.Load() || t.met.Swap(true) || t.whole {
		return
	}
	if s := t.running.Load(); s != nil {
		(*s).Interrupt()
	}
}

// interruptible is a session whose run is given up when a job comes.
type interruptible struct {
	family.Session
	sampler *sampler
}

// Run infers unless a job has come since its turn began.
func (i *interruptible) Run(out []float32, in ...[]float32) error {
	t := i.sampler.turn.Load()
	t.over.Store(false) // it may be the second of a cascade
	t.running.Store(&i.Session)
	defer t.over.Store(true)
	defer t.running.Store(nil)
	if t.met.Load() && !t.whole {
		return errYielded
	}
	return i.Session.Run(out, in...)
}

// compare compares frame by frame, until enough are.
func (s *shadow) compare(ctx context.Context, b *backend) error {
	s.members, s.mode, s.told = b, governor.Mode{}, nil
	for {
		f, err := s.await(ctx)
		if err != nil {
			return err
		}
		began := time.Now()
		met, err := s.meet(ctx, f)
		if err != nil {
			return err
		}
		s.advance(met)
		s.tell()
		if s.so.Frames >= s.how.Frames {
			return nil
		}
		took := time.Since(began)
		if err := sleep(ctx, time.Duration(float64(took)*(100/s.how.Percent-1))); err != nil {
			return err
		}
	}
}

// await waits for a job that was answered. The error is ctx's or, where there will be
// none, a refusal.
func (s *shadow) await(ctx context.Context) (f sample, err error) {
	s.wanted.Store(true)
	for err == nil {
		v := s.view.Load()
		if err = s.nothingToCompare(v); err != nil {
			break
		}
		select {
		case f = <-s.frames:
			return f, nil
		case <-v.stale:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	if !s.wanted.CompareAndSwap(true, false) {
		<-s.frames
	}
	return f, err
}

// meet has a frame answered, counts what came of it, and tells whether a job met with it.
// The error is ctx's, or that a member fails.
func (s *shadow) meet(ctx context.Context, f sample) (met bool, err error) {
	if err := s.pursue(ctx); err != nil {
		return false, err
	}
	a, met := s.ask(f)
	refused := a.Reason == wire.Busy || a.Reason == wire.Infeasible
	if refused { // it counts as late; what its classes would have been is of interest all the same
		f.Floor, f.Deadline = 0, refusedDeadline
		a, met = s.ask(f)
	}
	if a.Reason == wire.Internal && (!met || s.whole) && !s.hung.Load() {
		a, met = s.ask(f) // an interruption of the frame before may have come late
	}
	switch {
	case a.Reason == "":
		s.count(f, a, refused)
	case a.Reason == wire.Internal && (!met || s.whole || s.hung.Load()): // what hung was not given up for the job
		return met, errors.New(a.Detail)
	}
	// Where jobs leave no time between them, the frame after one that was given up goes to
	// its end, on its thread that stands back.
	s.whole = met && a.Reason != ""
	return met, nil
}

// refusedDeadline is that of a frame which no member would have answered in time.
const refusedDeadline = time.Minute

// count compares the first classes of a frame.
func (s *shadow) count(f sample, a pipeline.Answer, refused bool) {
	s.so.Frames++
	if s.source.Family.Classes[a.Top[0].Index] == f.label {
		s.so.Agreed++
	}
	if refused || !a.Met {
		s.so.Missed++
	}
	counted := s.counters.Snapshot()
	s.so.P95 = counted.Infer.Quantile(0.95)
}

// ask has a frame answered as if it had waited as it did, and tells whether a job met with
// it.
func (s *shadow) ask(f sample) (a pipeline.Answer, met bool) {
	t := &turn{whole: s.whole}
	s.turn.Store(t)
	defer s.turn.Store(nil)
	if s.jobs.open.Load() > 0 { // it came before the turn was there to be seen
		s.yield()
	}
	answered := make(chan pipeline.Answer, 1)
	taken := s.members.pipe.Submit(pipeline.Job{Body: f.Body, Claim: f.Claim, Received: time.Now().Add(-f.queue),
		Deadline: f.Deadline, Floor: f.Floor, Answer: func(a *pipeline.Answer) {
			copied := *a
			copied.Top = slices.Clone(a.Top)
			answered <- copied
		}})
	if !taken {
		return pipeline.Answer{Reason: wire.Internal, Detail: pipeline.ErrClosed.Error()}, false
	}
	a = <-answered
	return a, t.met.Load()
}

// pursue gives the members the mode of the device and what inferences cost, where these
// are new.
func (s *shadow) pursue(ctx context.Context) error {
	b, mode := s.members, s.view.Load().Target
	if b.lacks(mode) != nil {
		mode = governor.Mode{} // as after a hand-over
	}
	if mode != s.mode {
		if err := b.pipe.SetMode(ctx, mode); err != nil {
			return err
		}
		s.mode = mode
	}
	w := s.power.Load()
	if w == s.told {
		return nil
	}
	s.told = w
	return b.pipe.SetPower(ctx, *w)
}
