// Package pipeline answers jobs: frames come in with deadlines, classes go out.
//
//	Submit ──▶ queue ──▶ decode ──▶ lineup (4) ──▶ infer ──▶ Answer
//	           by priority,         beside          governor chooses the
//	           then deadline        inference       member, and whether
//	             │                                  four run at once
//	             └─ who cannot be in time goes before being decoded
//
// One goroutine owns the governor and the sessions and infers; as many as there
// are processors beside it decode frames and make the tensor for the member in
// use. How many frames are decoded and not yet answered is bounded, so memory is
// bounded by the queue. The rule that makes it correct: every job that Submit
// took is answered exactly once, by whichever stage ends it, whatever happens.
//
// What decoding takes is learned by codec, scale, pixels and bytes, and counts in
// every promise. A frame is decoded for the largest resolution of the members that
// the mode may choose at that moment; should a larger one answer after all, it
// gets a tensor from what was decoded.
package pipeline

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/limber-edge/limber/agent/frame"
	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/governor/logbook"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
)

// Observer is told what the governor does. Its methods are called from the
// inferring goroutine and must not block.
type Observer interface {
	// Switched reports a change of the operating member, with the reason in
	// plain words.
	Switched(from, to int, why string)
	// Hung reports a member whose run was interrupted because it did not end.
	// It is out of use, unless it is the only one, until Use brings it back.
	Hung(member int)
}

// Pipeline is a running Config. Its methods are safe for concurrent use.
type Pipeline struct {
	cfg      Config
	watch    Observer
	epoch    time.Time
	queue    *queue
	fits     *forecast
	scaler   *frame.Scaler       // for Scale; who makes tensors has one of its own
	pixels   *semaphore.Weighted // that are being decoded: all workers together hold one large picture
	watchdog *watchdog
	stats    *stats
	log      *logbook.Log       // nil: none is kept
	gov      *governor.Governor // Run's, and New's and Remember's before it
	lineup   *lineup
	orders   chan order
	over     chan struct{}         // closed when Run has returned
	current  atomic.Pointer[entry] // being inferred, with its mates
	lastRun  atomic.Int64          // end of the last inference, nanoseconds since epoch
	hotR     atomic.Int64          // resolution of the operating member
	wideR    atomic.Int64          // the largest of those that the mode may choose
	pace     pace
	open     atomic.Int64  // jobs taken and not yet answered, and shut once no more are taken
	settled  chan struct{} // holds one token when no job was left
}

// shut is the bit of Pipeline.open that says that no more jobs are taken. As it is
// in the count, a job is either counted before it is set, or not taken.
const shut = 1 << 62

// order has the inferring goroutine change what it owns, or tell of it.
type order struct {
	do   func(*executor) error
	done chan<- error
}

// New assembles a pipeline. It has no sessions yet: see Use.
func New(cfg Config, watch Observer) (*Pipeline, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("pipeline: %w", err)
	}
	if cfg.Counters == nil {
		cfg.Counters = new(Counters)
	}
	if cfg.Decoder == nil {
		cfg.Decoder = frame.Decoder{MaxPixels: frame.DefaultPixels}
	}
	p := &Pipeline{
		cfg: cfg, watch: watch, epoch: time.Now(),
		stats:    newStats(len(cfg.Members)),
		fits:     newForecast(),
		pixels:   semaphore.NewWeighted(frame.DefaultPixels),
		watchdog: &watchdog{hung: make(chan struct{})},
		lineup:   newLineup(cfg.Members),
		orders:   make(chan order),
		over:     make(chan struct{}),
		settled:  make(chan struct{}, 1),
	}
	p.log = p.logTo(cfg.Log)
	p.queue = newQueue(cfg.QueueJobs, cfg.QueueBytes)
	members := make([]governor.Member, len(cfg.Members))
	for i, m := range cfg.Members {
		members[i] = m.Member
	}
	var err error
	if p.scaler, err = frame.NewScaler(cfg.Preprocess); err != nil {
		return nil, fmt.Errorf("pipeline: %w", err)
	}
	if p.gov, err = governor.New(members, cfg.Mode, cfg.Tables); err != nil {
		return nil, err
	}
	p.stats.governed(len(cfg.Members)-1, cfg.Mode, 1)
	p.hotR.Store(int64(cfg.Members[len(cfg.Members)-1].R))
	p.wideR.Store(int64(widest(cfg.Members)))
	return p, nil
}

func (p *Pipeline) logTo(l Log) *logbook.Log {
	if l.Path == "" {
		return nil
	}
	about := logbook.About{Version: l.Version, Epoch: p.epoch}
	for _, m := range p.cfg.Members {
		about.Members = append(about.Members, m.Name)
	}
	return logbook.To(l.Path, l.Bytes, about)
}

// LogLost is how many of the governor's calls are missing in the log, and why
// if it cannot be written now.
func (p *Pipeline) LogLost() (calls uint64, err error) {
	if p.log == nil {
		return 0, nil
	}
	return p.log.Lost()
}

// Remember gives the governor what an earlier one learned on this device. It
// must be called before Run. An error leaves everything as it was: see
// governor.Remember.
func (p *Pipeline) Remember(e governor.Experience) error { return p.gov.Remember(e) }

// SetPower tells the governor what inferences cost from now on. Its error is
// ctx's.
func (p *Pipeline) SetPower(ctx context.Context, w governor.Power) error {
	return p.order(ctx, func(f *executor) error {
		f.gov.SetPower(w)
		return nil
	})
}

// Experience returns what the governor has learned. Its error is ctx's.
func (p *Pipeline) Experience(ctx context.Context) (e governor.Experience, err error) {
	err = p.order(ctx, func(f *executor) error {
		e = f.gov.Experience()
		return nil
	})
	return e, err
}

// now is the time on the clock that jobs, queue and governor share.
func (p *Pipeline) now() time.Duration { return time.Since(p.epoch) }

// Submit takes a job, which is then answered exactly once: at once if its header
// is not good, or the queue is full. false: it was not taken, counts nowhere and
// gets no answer, as Drain was called or Run has ended. Another pipeline may take
// it.
func (p *Pipeline) Submit(j Job) bool {
	if p.open.Add(1)&shut != 0 {
		p.settle()
		return false
	}
	e := &entry{Job: j, arrived: j.Received.Sub(p.epoch)}
	e.due = e.arrived + j.Deadline
	if !j.Counted {
		p.cfg.Counters.submitted()
	}
	if err := p.inspect(e); err != nil {
		p.refuseFrame(e, err)
		return true
	}
	now := p.now()
	out, err := p.queue.push(e, now)
	p.turnAway(out, now)
	switch {
	case errors.Is(err, ErrClosed): // Run ended since
		p.leave(e)
	case err != nil:
		p.refuse(e, wire.Busy, err.Error())
	}
	return true
}

// settle ends the count of one job.
func (p *Pipeline) settle() {
	if p.open.Add(-1)&^shut == 0 {
		token(p.settled)
	}
}

// inspect judges a job by its header, and notes what is known of it before it is
// decoded.
func (p *Pipeline) inspect(e *entry) (err error) {
	for e.least < len(p.cfg.Members)-1 && p.cfg.Members[e.least].Top1 < e.Floor {
		e.least++
	}
	if e.Tensor != nil {
		return nil
	}
	if e.header, err = p.cfg.Decoder.Inspect(e.Body, e.Claim); err != nil {
		return err
	}
	e.fit = p.fits.of(e.header, p.scale(e))
	return nil
}

// turnAway answers the jobs that the queue gave up.
func (p *Pipeline) turnAway(out []*entry, now time.Duration) {
	for _, e := range out {
		detail := string(e.gone)
		if e.gone == hopeless || e.gone == crowded {
			detail = shortOfTime(e.due-now, e.Deadline, e.gone)
		}
		p.finish(e, &Answer{Reason: wire.Busy, Detail: detail, Superseded: e.gone == superseded})
	}
}

// Use hands over a session for member i, which becomes eligible; nil takes the
// member out of use. When Use has returned, a session that the member had
// before runs no more. The caller closes sessions: those in use after Run has
// returned. Its errors are ctx's, ErrClosed, and that no member would be left.
func (p *Pipeline) Use(ctx context.Context, i int, s family.Session) error {
	return p.order(ctx, func(f *executor) error { return f.use(i, s) })
}

// SetMode changes the mode from the next job on. Its errors are ctx's, ErrClosed,
// and a fixed member that does not exist.
func (p *Pipeline) SetMode(ctx context.Context, m governor.Mode) error {
	return p.order(ctx, func(f *executor) error {
		err := f.gov.SetMode(m)
		if err == nil {
			f.publish()
		}
		return err
	})
}

// Feasible tells whether the members in use can give what a mode asks for on an
// unloaded device, with what the frames that come take to decode; if not, the error
// says why, and nearest is the goal that they can. Its other errors are ctx's and
// ErrClosed.
func (p *Pipeline) Feasible(ctx context.Context, m governor.Mode) (nearest governor.Goal, err error) {
	err = p.order(ctx, func(f *executor) (err error) {
		nearest, err = f.gov.Feasible(m, p.fits.typical())
		return err
	})
	return nearest, err
}

func (p *Pipeline) order(ctx context.Context, do func(*executor) error) error {
	done := make(chan error, 1)
	select {
	case p.orders <- order{do, done}:
	case <-p.over:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-done:
		return err
	case <-p.over:
		return ErrClosed
	}
}

// Run works until ctx ends, then answers what is left busy. Being asked to
// stop is not an error. It returns ErrHung, without waiting for the goroutine
// that hangs. It may be called once.
func (p *Pipeline) Run(ctx context.Context) error {
	defer close(p.over)
	infer, err := newExecutor(p)
	if err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	work := func(do func(context.Context) error) {
		g.Go(func() error {
			if p.cfg.Begin != nil {
				p.cfg.Begin()
			}
			return do(gctx)
		})
	}
	for range max(1, p.workers()) {
		work(p.decode)
	}
	work(infer.run)
	if p.log != nil {
		g.Go(func() error { p.log.Run(); return nil }) // until the executor has ended
	}
	done := make(chan error, 1)
	go func() { done <- g.Wait() }()
	select {
	case err = <-done:
	case <-p.watchdog.hung:
		err = ErrHung
		if e := p.current.Load(); e != nil {
			for _, e := range append(e.mates, e) {
				p.refuse(e, wire.Internal, ErrHung.Error())
			}
		}
	}
	p.abandon()
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// Drain takes no more jobs and waits until every job that was taken is answered,
// or ctx ends.
func (p *Pipeline) Drain(ctx context.Context) {
	p.open.Or(shut)
	for p.open.Load()&^shut > 0 {
		select {
		case <-p.settled:
		case <-ctx.Done():
			return
		}
	}
}

// abandon answers what no stage will take any more.
func (p *Pipeline) abandon() {
	p.open.Or(shut)
	for _, e := range p.queue.close() {
		p.leave(e)
	}
	p.lineup.close()
	for s := p.lineup.take(); s != nil; s = p.lineup.take() {
		p.leave(s.entry)
	}
}

// leave answers a job that was taken and not reached before Run ended.
func (p *Pipeline) leave(e *entry) {
	p.finish(e, &Answer{Reason: wire.Busy, Detail: ErrClosed.Error(), Abandoned: true})
}

// refuse answers a job without an inference.
func (p *Pipeline) refuse(e *entry, reason wire.Reason, detail string) {
	p.finish(e, &Answer{Reason: reason, Detail: detail})
}

// finish fills in the times and answers. A job that hung may come to it twice.
func (p *Pipeline) finish(e *entry, a *Answer) {
	if e.answered.Swap(true) {
		return
	}
	a.Total = p.now() - e.arrived
	a.Decode = e.decode
	a.Queue = max(0, a.Total-a.Decode-a.Infer)
	a.Met = a.Reason == "" && a.Total <= e.Deadline
	p.cfg.Counters.answered(a)
	e.Answer(a)
	p.settle()
}

// shortOfTime says in numbers why a job was shed.
func shortOfTime(slack, deadline time.Duration, why gone) string {
	return fmt.Sprintf("%.1f ms were left of %.1f ms: %s", float64(slack)/1e6, float64(deadline)/1e6, why)
}
