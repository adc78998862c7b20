package pipeline

import (
	"slices"
	"sync"
	"time"

	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/governor/logbook"
)

// window is how many of the last answers the quantiles are taken over.
const window = 1024

// Account adds up what becomes of jobs, over all pipelines that have it: one after
// the other, or two while one relieves the other. The zero value is ready.
type Account struct {
	mu     sync.Mutex
	counts Counts
	stages [4][]time.Duration // queue, decode, infer, total: since the last interval, at most window each
	next   int                // where a full window is overwritten
	busy   time.Duration      // spent inferring
}

// stats is what a pipeline's governor does.
type stats struct {
	mu     sync.Mutex
	op     int
	mode   governor.Mode
	slow   float64
	recent [recent]Explained // the last decisions
	made   int               // decisions; the next one goes to recent[made%recent]
}

// recent is how many decisions are kept explained.
const recent = 8

// Explained is a decision with what led to it.
type Explained struct {
	At      time.Time // when it was taken
	Belief  governor.Belief
	Options []governor.Option // by rising latency
	Infer   time.Duration     // what the inference took, in a cascade both; 0 if there was none, or it has not ended
	governor.Decision
}

// Counts of jobs since the account was opened.
type Counts struct {
	Jobs    uint64 // submitted, those included whose place a newer frame took
	Refused uint64 // answered with a reason
	Missed  uint64 // answered with classes, but after the deadline
}

// Quantiles of a stage over one interval.
type Quantiles struct{ P50, P95 time.Duration }

// Interval is the pipeline's state for telemetry, and what it did lately.
type Interval struct {
	Counts
	Waiting   int // jobs in the queue now
	Operating int
	Mode      governor.Mode
	Slowdown  float64

	Ended                       int // jobs that were answered with classes since the last interval
	Queue, Decode, Infer, Total Quantiles

	Decisions []Explained // the last ones, newest first, at most 8
}

// newStats keeps figures of that many members.
func newStats(members int) *stats {
	s := &stats{slow: 1}
	for i := range s.recent {
		s.recent[i].Options = make([]governor.Option, 0, members)
	}
	return s
}

// decided keeps a decision with what the governor says of it.
func (s *stats) decided(at time.Time, d governor.Decision, g *logbook.Book) {
	belief := g.Belief()
	s.mu.Lock()
	defer s.mu.Unlock()
	e := &s.recent[s.made%recent]
	s.made++
	*e = Explained{At: at, Decision: d, Belief: belief, Options: g.Options(e.Options[:0])}
}

// inferred adds to the last decision what came of it.
func (s *stats) inferred(took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.recent[(s.made-1)%recent].Infer = took
}

// decisions are copies of those that are kept, newest first. The caller holds mu.
func (s *stats) decisions() (all []Explained) {
	for i := s.made - 1; i >= max(0, s.made-recent); i-- {
		e := s.recent[i%recent]
		e.Options = slices.Clone(e.Options)
		all = append(all, e)
	}
	return all
}

func (c *Account) submitted() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts.Jobs++
}

func (c *Account) answered(a *Answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy += a.Infer / time.Duration(max(1, a.Batch))
	if a.Superseded {
		return
	}
	if a.Reason != "" {
		c.counts.Refused++
		return
	}
	if !a.Met {
		c.counts.Missed++
	}
	for i, d := range [...]time.Duration{a.Queue, a.Decode, a.Infer, a.Total} {
		if len(c.stages[i]) < window {
			c.stages[i] = append(c.stages[i], d)
		} else {
			c.stages[i][c.next%window] = d
		}
	}
	c.next++
}

// Busy is how long inferences ran since the account was opened.
func (c *Account) Busy() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.busy
}

// balance writes the account into an interval and begins the next.
func (c *Account) balance(snap *Interval) {
	c.mu.Lock()
	defer c.mu.Unlock()
	snap.Counts, snap.Ended = c.counts, c.next
	for i, q := range []*Quantiles{&snap.Queue, &snap.Decode, &snap.Infer, &snap.Total} {
		*q = quantiles(c.stages[i])
		c.stages[i] = c.stages[i][:0]
	}
	c.next = 0
}

func (s *stats) governed(op int, mode governor.Mode, slow float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.op, s.mode, s.slow = op, mode, slow
}

// Governed returns the operating member and the mode in force.
func (p *Pipeline) Governed() (operating int, mode governor.Mode) {
	p.stats.mu.Lock()
	defer p.stats.mu.Unlock()
	return p.stats.op, p.stats.mode
}

// CloseInterval returns the state, with the figures of the account since the last
// call, and begins a new interval: one goroutine may call it.
func (p *Pipeline) CloseInterval() Interval {
	snap := Interval{Waiting: p.queue.size()}
	p.cfg.Account.balance(&snap)
	s := p.stats
	s.mu.Lock()
	defer s.mu.Unlock()
	snap.Operating, snap.Mode, snap.Slowdown, snap.Decisions = s.op, s.mode, s.slow, s.decisions()
	return snap
}

// quantiles sorts v.
func quantiles(v []time.Duration) Quantiles {
	if len(v) == 0 {
		return Quantiles{}
	}
	slices.Sort(v)
	return Quantiles{P50: v[len(v)/2], P95: v[len(v)*95/100]}
}
