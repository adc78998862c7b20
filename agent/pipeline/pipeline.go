// Package pipeline answers jobs: frames come in with deadlines, classes go out.
//
//	Submit ──▶ queue ──▶ decode ──▶ lineup (4) ──▶ infer ──▶ Answer
//	           by priority,         beside          governor chooses the
//	           then deadline        inference       member, and whether
//	                                                four run at once
//
// Two goroutines work: one decodes frames and makes the tensor for the member
// in use, the other owns the governor and the sessions and infers. How many
// frames are decoded and not yet answered is bounded, so memory is bounded by
// the queue. The rule that makes it correct: every job that was submitted is
// answered exactly once, by whichever stage ends it, whatever happens.
package pipeline

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/limber-edge/limber/agent/frame"
	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/governor/logbook"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
)

// Job is one frame to classify.
type Job struct {
	Body     []byte        // an encoded frame
	Codec    string        // what the sender says it is; empty: its first bytes decide
	Tensor   []float32     // instead of Body: already preprocessed, 3×R×R for the mode's one member
	Received time.Time     // when the deadline began to count
	Deadline time.Duration // from Received
	Floor    float64       // least top-1 the sender accepts, a fraction; 0 is none
	Priority Priority      // served before those of lower priority, however urgent these are
	Answer   func(*Answer) // called exactly once, from a goroutine of the pipeline or of Submit; must not block
}

// Priority is the class of a job.
type Priority int8

// The zero Priority is Normal.
const (
	Low Priority = iota - 1
	Normal
	High
)

// Answer is what became of a job. It is valid until the call it was passed to
// returns.
type Answer struct {
	Reason wire.Reason // why it was refused, or empty
	Detail string      // of a refusal, for a human

	Member    int             // index of the member that answered
	Choice    governor.Reason // why that member
	Top       []Class         // the best classes, best first, at most five
	Predicted time.Duration   // of Member's run, when the member was chosen
	First     int             // of a cascade: index of the member that ran first, which may be Member
	FirstP    float64         // of a cascade: the probability of its best class; else 0
	Abandoned bool            // refused because the pipeline ended before its turn
	Batch     int             // jobs that were inferred at once, this one among them; 0 if none was

	Queue, Decode, Infer time.Duration // spent waiting, decoding, inferring
	Total                time.Duration // from receipt to this answer
	Met                  bool          // answered, and Total is within the deadline
}

// Class is one entry of an answer.
type Class struct {
	Index int
	P     float64 // probability: the softmax of the logits, or what the member gave
}

// Member is one sub-network the pipeline may use.
type Member struct {
	governor.Member
	R     int           // input resolution, pixels a side
	Batch time.Duration // unloaded, for governor.Batch images at once; 0: it takes one only
	// Probabilities says that the member gives these, and no logits of which a
	// softmax makes them.
	Probabilities bool
}

// Config of a pipeline.
type Config struct {
	Members    []Member // by rising latency and accuracy
	Classes    int      // logits, or probabilities, of every member
	Preprocess frame.Preprocess
	Mode       governor.Mode
	QueueJobs  int      // jobs that may wait
	QueueBytes int      // bytes of encoded frames that may wait
	Log        Log      // of decisions
	Account    *Account // where jobs are counted; nil is one of its own

	// Cascade is the probability from which on the smallest member's answer is
	// taken, in (0, 1]; below it the member that was chosen runs as well. 0 is no
	// cascade.
	Cascade float64
	// Load says how many others want a processor now, if that is known; nil
	// never does. It is called before each decision and must take microseconds.
	Load func() (others int, ok bool)
}

// Log is where decisions are logged, to be replayed elsewhere.
type Log struct {
	Path    string // of the newer of two files; empty: nowhere
	Bytes   int64  // of both at most, from 1 MiB
	Version string // of the program
}

// check joins what the governor does not look at.
func (c *Config) check() error {
	var errs []error
	for _, m := range c.Members {
		if m.R < 1 {
			errs = append(errs, fmt.Errorf("member %s: resolution %d: wants pixels a side", m.Name, m.R))
		}
	}
	if c.Classes < 1 {
		errs = append(errs, fmt.Errorf("%d classes: wants at least one", c.Classes))
	}
	if !(c.Cascade >= 0 && c.Cascade <= 1) {
		errs = append(errs, fmt.Errorf("a cascade from a probability of %v: wants one in [0, 1]", c.Cascade))
	}
	if c.QueueJobs < 1 || c.QueueBytes < 1 {
		errs = append(errs, fmt.Errorf("a queue of %d jobs and %d bytes: wants room", c.QueueJobs, c.QueueBytes))
	}
	return errors.Join(errs...)
}

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
	cfg     Config
	watch   Observer
	epoch   time.Time
	queue   *queue
	dog     *watchdog
	stats   *stats
	log     *logbook.Log       // nil: none is kept
	gov     *governor.Governor // Run's, and New's and Remember's before it
	lineup  *lineup
	orders  chan order
	over    chan struct{}         // closed when Run has returned
	current atomic.Pointer[entry] // being inferred, with its mates
	lastRun atomic.Int64          // end of the last inference, nanoseconds since epoch
	hotR    atomic.Int64          // resolution of the operating member
	open    atomic.Int64          // jobs submitted and not yet answered
	settled chan struct{}         // holds one token when open came down to nothing
}

// order changes what the inferring goroutine owns, or asks about it.
type order struct {
	mode    *governor.Mode
	member  int
	session family.Session
	ask     func(*logbook.Book) error
	done    chan<- error
}

// New assembles a pipeline. It has no sessions yet: see Use.
func New(cfg Config, watch Observer) (*Pipeline, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("pipeline: %w", err)
	}
	if cfg.Account == nil {
		cfg.Account = new(Account)
	}
	p := &Pipeline{
		cfg: cfg, watch: watch, epoch: time.Now(),
		stats:   newStats(len(cfg.Members)),
		dog:     newWatchdog(),
		lineup:  newLineup(cfg.Members),
		orders:  make(chan order),
		over:    make(chan struct{}),
		settled: make(chan struct{}, 1),
	}
	p.log = p.logTo(cfg.Log)
	p.queue = newQueue(cfg.QueueJobs, cfg.QueueBytes)
	members := make([]governor.Member, len(cfg.Members))
	for i, m := range cfg.Members {
		members[i] = m.Member
	}
	var err error
	if p.gov, err = governor.New(members, cfg.Mode); err != nil {
		return nil, err
	}
	p.stats.governed(len(cfg.Members)-1, cfg.Mode, 1)
	p.hotR.Store(int64(cfg.Members[len(cfg.Members)-1].R))
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
	return p.order(ctx, order{ask: func(b *logbook.Book) error {
		b.SetPower(w)
		return nil
	}})
}

// Experience returns what the governor has learned. Its error is ctx's.
func (p *Pipeline) Experience(ctx context.Context) (e governor.Experience, err error) {
	err = p.order(ctx, order{ask: func(b *logbook.Book) error {
		e = b.Experience()
		return nil
	}})
	return e, err
}

// now is the time on the clock that jobs, queue and governor share.
func (p *Pipeline) now() time.Duration { return time.Since(p.epoch) }

// Submit takes a job. A full or closed queue answers it busy at once.
func (p *Pipeline) Submit(j Job) {
	p.open.Add(1)
	e := &entry{Job: j, arrived: j.Received.Sub(p.epoch)}
	e.due = e.arrived + j.Deadline
	p.cfg.Account.submitted()
	now := p.now()
	out, err := p.queue.push(e, now)
	for _, old := range out {
		why := "the queue was full and the deadline had passed"
		if old.due >= now {
			why = "the queue was full and a job of higher priority came"
		}
		p.refuse(old, wire.Busy, why)
	}
	switch {
	case errors.Is(err, errClosed):
		p.leave(e)
	case err != nil:
		p.refuse(e, wire.Busy, err.Error())
	}
}

// Use hands over a session for member i, which becomes eligible; nil takes the
// member out of use. When Use has returned, a session that the member had
// before runs no more. The caller closes sessions: those in use after Run has
// returned. Its errors are ctx's, and that no member would be left.
func (p *Pipeline) Use(ctx context.Context, i int, s family.Session) error {
	return p.order(ctx, order{member: i, session: s})
}

// SetMode changes the mode from the next job on. Its errors are ctx's, and a
// fixed member that does not exist.
func (p *Pipeline) SetMode(ctx context.Context, m governor.Mode) error {
	return p.order(ctx, order{mode: &m})
}

// Feasible tells whether the members in use can give what a mode asks for on an
// unloaded device; if not, the error says why, and nearest is the goal that they
// can. Its other error is ctx's.
func (p *Pipeline) Feasible(ctx context.Context, m governor.Mode) (nearest governor.Goal, err error) {
	err = p.order(ctx, order{ask: func(g *logbook.Book) (err error) {
		nearest, err = g.Feasible(m)
		return err
	}})
	return nearest, err
}

func (p *Pipeline) order(ctx context.Context, o order) error {
	done := make(chan error, 1)
	o.done = done
	select {
	case p.orders <- o:
	case <-p.over:
		return errClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-done:
		return err
	case <-p.over:
		return errClosed
	}
}

// Run works until ctx ends, then answers what is left busy. Being asked to
// stop is not an error. It returns ErrHung, without waiting for the goroutine
// that hangs. It may be called once.
func (p *Pipeline) Run(ctx context.Context) error {
	defer close(p.over)
	infer, err := newInferrer(p)
	if err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return p.decode(gctx) })
	g.Go(func() error { return infer.run(gctx) })
	g.Go(func() error { p.writeLog(); return nil })
	done := make(chan error, 1)
	go func() { done <- g.Wait() }()
	select {
	case err = <-done:
	case <-p.dog.hung:
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

// writeLog writes the log until the inferrer has ended.
func (p *Pipeline) writeLog() {
	if p.log != nil {
		p.log.Run()
	}
}

// Drain closes the queue for new jobs and waits until every job that was
// submitted is answered, or ctx ends.
func (p *Pipeline) Drain(ctx context.Context) {
	p.queue.close()
	for p.open.Load() > 0 {
		select {
		case <-p.settled:
		case <-ctx.Done():
			return
		}
	}
}

// abandon answers what no stage will take any more.
func (p *Pipeline) abandon() {
	p.queue.close()
	for e := p.queue.pop(); e != nil; e = p.queue.pop() {
		p.leave(e)
	}
	p.lineup.close()
	for s := p.lineup.take(); s != nil; s = p.lineup.take() {
		p.leave(s.entry)
	}
}

// leave answers a job that came too late for this pipeline.
func (p *Pipeline) leave(e *entry) {
	p.finish(e, &Answer{Reason: wire.Busy, Detail: errClosed.Error(), Abandoned: true})
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
	p.cfg.Account.answered(a)
	e.Answer(a)
	if p.open.Add(-1) == 0 {
		select {
		case p.settled <- struct{}{}:
		default:
		}
	}
}

// shortOfTime says in numbers why a job was shed.
func shortOfTime(slack, deadline time.Duration) string {
	return fmt.Sprintf("%.1f ms were left of %.1f ms: not even the smallest member is likely to make it",
		float64(slack)/1e6, float64(deadline)/1e6)
}
