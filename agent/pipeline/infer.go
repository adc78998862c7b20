package pipeline

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/limber-edge/limber/agent/frame"
	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/governor/logbook"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
)

// executor is the goroutine that owns the governor and the sessions.
type executor struct {
	*Pipeline
	gov      *logbook.Book
	watchdog *watchdog
	sessions []family.Session // by member; nil until one was handed over
	eligible []bool
	able     bool          // at least one is eligible
	scaler   *frame.Scaler // for a job that finds the device free, and for a member of another resolution than foreseen
	batch    []*slot       // that are inferred at once: one, or governor.Batch
	images   [][]float32   // theirs
	waiting  []time.Duration
	arrivals []time.Duration
	logits   []float32
	tail     float64       // what inferences take on average, in units of what their members need
	between  time.Duration // the end of an inference and the next decision, while others wait, likewise
	overhead time.Duration // of a job beyond its predicted latency while others wait, a moving average
	ended    time.Duration // of the last inference, if jobs waited then; else 0
	beside   time.Duration // spent since then on what is no overhead: waiting for a decoder, or decoding
	answer   Answer
	top      [5]Class
}

func newExecutor(p *Pipeline) (*executor, error) {
	scaler, err := frame.NewScaler(p.cfg.Preprocess)
	if err != nil {
		return nil, err
	}
	n := len(p.cfg.Members)
	return &executor{
		Pipeline: p, gov: logbook.New(p.gov, p.log), watchdog: p.watchdog,
		sessions: make([]family.Session, n), eligible: make([]bool, n),
		scaler:  scaler,
		tail:    1,
		waiting: make([]time.Duration, 0, governor.Lookahead),
		logits:  make([]float32, governor.Batch*p.cfg.Classes),
	}, nil
}

// run serves frames and orders, one at a time, until ctx ends. Before there is a
// session, only orders are taken.
func (f *executor) run(ctx context.Context) error {
	defer f.gov.Close()
	for {
		if f.able && (f.serveNext() || f.serveOwn(ctx)) {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case o := <-f.orders:
				f.obeyed(o)
			default:
			}
			continue
		}
		start := time.Now()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case o := <-f.orders:
			f.obeyed(o)
		case <-f.lineup.ready:
			f.beside += time.Since(start)
		case <-f.queue.direct:
		case <-f.gov.Due():
			f.gov.Flush()
		}
	}
}

// serveNext takes the most urgent of the decoded frames; false means that there
// is none.
func (f *executor) serveNext() bool {
	s := f.lineup.take()
	if s == nil {
		return false
	}
	f.serve(s)
	f.lineup.release(s)
	return true
}

// serveOwn takes a job straight from the queue, unless a decoder has begun with
// one; false means that there was none to serve. While jobs wait it leaves decoding
// to others: what it had in its processor's cache, the weights, would go.
func (f *executor) serveOwn(ctx context.Context) bool {
	if f.ended > 0 && f.workers() > 0 {
		return false
	}
	for e := f.next(true); e != nil; e = f.next(true) {
		s := f.lineup.own()
		served := f.prepare(ctx, f.scaler, s, e)
		f.beside += e.decode
		if served {
			f.serve(s)
		}
		f.lineup.release(s)
		if served {
			return true
		}
	}
	return false
}

// obeyed carries out an order and tells who gave it.
func (f *executor) obeyed(o order) {
	o.done <- o.do(f)
	f.able = slices.Contains(f.eligible, true)
}

// use takes a member into use in a session, or out of it without one.
func (f *executor) use(member int, s family.Session) error {
	if s == nil && !f.eligible[member] { // it never came into use, or hung
		f.sessions[member] = nil
		return nil
	}
	eligible := slices.Clone(f.eligible)
	eligible[member] = s != nil
	if err := f.gov.SetEligible(eligible); err != nil {
		return err
	}
	f.sessions[member], f.eligible = s, eligible
	f.publish()
	if s == nil {
		return nil
	}
	return f.gov.SetBatch(member, f.cfg.Members[member].Batch)
}

// publish shows the governor's state to the other goroutines.
func (f *executor) publish() {
	op := f.gov.Operating()
	f.hotR.Store(int64(f.cfg.Members[op].R))
	f.wideR.Store(int64(f.widest(op)))
	f.stats.governed(op, f.gov.Mode(), f.gov.Slowdown())
}

// widest is the largest resolution of the members that the mode may choose for a
// job without a floor.
func (f *executor) widest(op int) int {
	if f.gov.Mode().Member() != "" {
		return f.cfg.Members[op].R
	}
	r := f.cfg.Members[op].R
	for i, m := range f.cfg.Members {
		if f.eligible[i] {
			r = max(r, m.R)
		}
	}
	return r
}

// serve decides on one frame and answers it, and those that run with it.
func (f *executor) serve(s *slot) {
	e := s.entry
	f.queue.done(e)
	d, with := f.decide(e)
	if d.Switched {
		f.cfg.Counters.switched(d.Reason)
		f.watch.Switched(d.Previous, d.Operating, f.gov.Explain(d))
	}
	f.publish()
	f.pace.tell(f, d.Waiting)
	f.stats.decided(f.epoch.Add(e.due-d.Slack), d, f.gov)
	if d.Shed {
		f.shed(e, d)
		return
	}
	f.meetOverhead()
	f.batch = f.lineup.takeMore(append(f.batch[:0], s), d.Batch-1, with)
	for _, mate := range f.batch[1:] {
		f.queue.done(mate.entry)
		e.mates = append(e.mates, mate.entry)
	}
	f.answer = Answer{Choice: d.Reason, Batch: len(f.batch)}
	err := f.infer(s, d)
	f.stats.inferred(f.answer.Infer)
	f.gov.Ended(f.finishAll(err))
	if f.ended, f.beside = 0, 0; f.queue.busy() {
		f.ended = f.now()
	}
}

// finishAll answers the jobs that were inferred and tells whether all of them
// are in time.
func (f *executor) finishAll(err error) (met bool) {
	met = true
	for i, s := range f.batch {
		logits := f.logits[i*f.cfg.Classes:][:f.cfg.Classes]
		fault := err
		if fault == nil {
			f.answer.Top, fault = f.cfg.Members[f.answer.Member].best(f.top[:0], logits)
		}
		f.answer.Reason, f.answer.Detail = "", ""
		if fault != nil {
			f.answer.Reason, f.answer.Top = wire.Internal, nil
			f.answer.Detail = fmt.Sprintf("member %s: %v", f.cfg.Members[f.answer.Member].Name, fault)
		}
		f.finish(s.entry, &f.answer)
		met = met && f.answer.Met
		if i > 0 {
			f.lineup.release(s)
		}
	}
	return met
}

// infer runs the member that was decided on, in a cascade only if a smaller one
// is not sure of what it saw.
func (f *executor) infer(s *slot, d governor.Decision) error {
	first, ok := f.first(s.entry, d)
	if !ok {
		return f.look(d.Member, d.Predicted)
	}
	if err := f.look(first, f.gov.Predicted(first)); err != nil {
		return err
	}
	top, err := f.cfg.Members[first].best(f.top[:0], f.logits[:f.cfg.Classes])
	if err != nil {
		return err
	}
	p := top[0].P
	f.answer.First, f.answer.FirstP = first, p
	if p >= f.cfg.Cascade || s.entry.due-f.now() < f.gov.Predicted(d.Member) {
		return nil
	}
	return f.look(d.Member, d.Predicted)
}

// first is the member that begins a cascade: the smallest one that the job
// accepts, if there is time for both.
func (f *executor) first(e *entry, d governor.Decision) (int, bool) {
	if f.cfg.Cascade == 0 || d.Reason != governor.Best && d.Reason != governor.Hold && d.Reason != governor.Queued {
		return 0, false
	}
	first := f.gov.Smallest(f.now(), e.Floor)
	both := f.gov.Predicted(first) + f.gov.Predicted(d.Member)
	return first, first < d.Member && d.Slack >= both
}

func (f *executor) look(member int, predicted time.Duration) error {
	m, n := f.cfg.Members[member], len(f.batch)
	f.images = f.images[:0]
	for _, s := range f.batch {
		f.fit(s, m.R)
		f.images = append(f.images, s.tensor)
	}
	f.current.Store(f.batch[0].entry)
	f.pace.runs(f.now() + predicted)
	start := time.Now()
	f.watchdog.watch(f.sessions[member], max(hangLeast, hangTimes*time.Duration(n)*m.Latency))
	err := f.sessions[member].Run(f.logits[:n*f.cfg.Classes], f.images...)
	took := time.Since(start)
	f.answer.Member, f.answer.Predicted, f.answer.Infer = member, predicted, f.answer.Infer+took
	if f.watchdog.release() {
		err = f.retire(member, took)
	}
	now := f.now()
	f.pace.runs(now)
	f.lastRun.Store(int64(now))
	if err == nil {
		f.stretch(member, n, took)
		f.gov.Observe(now, member, n, took)
	}
	return err
}

// stretch notes how long an inference took. A governor that has seen little expects
// too much on average: what happened counts.
func (f *executor) stretch(member, images int, took time.Duration) {
	if needs := f.gov.Needs(member); images == 1 && needs > 0 {
		f.tail += (min(float64(took)/float64(needs), tailMost) - f.tail) / overheadMemory
	}
}

// fit makes the tensor anew where it was made for another resolution.
func (f *executor) fit(s *slot, r int) {
	if s.pixels == 0 || s.r == r {
		return
	}
	start := time.Now()
	s.make(f.scaler, r)
	s.entry.decode += time.Since(start)
}

// retire takes a member out of use whose run was interrupted, unless it is the
// only one, and tells the observer, who may bring it back in a new session.
func (f *executor) retire(member int, took time.Duration) error {
	left := slices.Clone(f.eligible)
	left[member] = false
	if f.gov.SetEligible(left) == nil {
		f.eligible = left
	}
	f.watch.Hung(member)
	return fmt.Errorf("it was interrupted after %v", took.Round(time.Millisecond))
}

// How the overhead is averaged: over so many jobs, and a stall, which is not
// the device's usual pace, counts for no more than so much.
const (
	overheadMemory = 64
	overheadMost   = 50 * time.Millisecond
	tailMost       = 10.0 // times what a member needs
)

// meetOverhead notes what the job before this one took beyond the latency that
// was predicted for it, from the start of its inference to now, although jobs
// were waiting. What a decoder took is not counted: a longer inference would have
// overlapped with it. While none wait it is forgotten.
func (f *executor) meetOverhead() {
	took, beyond := time.Duration(0), time.Duration(0)
	if f.ended > 0 {
		took = max(0, f.now()-f.ended-f.beside)
		beyond = min(took+f.answer.Infer-f.answer.Predicted, overheadMost) / time.Duration(f.answer.Batch)
		took = min(took, overheadMost) / time.Duration(f.answer.Batch)
	}
	f.between += (took - f.between) / overheadMemory
	f.overhead += (beyond - f.overhead) / overheadMemory
}

// decide shows the governor the queue as it is now. It returns who may run with e.
func (f *executor) decide(e *entry) (governor.Decision, party) {
	f.waiting, f.arrivals = f.queue.glance(f.waiting, f.arrivals)
	for _, t := range f.arrivals {
		f.gov.Arrive(t)
	}
	now, with := f.now(), party{head: e, goal: f.gov.Mode().Goal().Floor}
	if least := f.gov.Smallest(now, e.Floor); least >= 0 {
		with.least = f.cfg.Members[least].Top1
	}
	q := governor.Queue{Deadline: e.due, Floor: e.Floor, Waiting: f.waiting, Ready: f.lineup.count(with),
		Overhead: max(0, f.overhead), Decode: f.cadence(e)}
	return f.gov.Decide(now, q), with
}

// cadence is the time between two frames like e that the decoders hand over, if
// they never wait; 0 where decoding takes its turns with inference.
func (f *executor) cadence(e *entry) time.Duration {
	if e.fit == nil || f.workers() == 0 {
		return 0
	}
	return f.fits.predict(e.fit, e.header) / time.Duration(f.workers())
}

func (f *executor) shed(e *entry, d governor.Decision) {
	f.gov.Ended(false)
	if d.Reason == governor.Infeasible {
		f.refuse(e, wire.Infeasible, "no member in use is as accurate as min_top1 asks")
		return
	}
	f.refuse(e, wire.Busy, shortOfTime(d.Slack, e.Deadline, hopeless))
}
