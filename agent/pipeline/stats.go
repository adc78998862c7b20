package pipeline

import (
	"slices"
	"sync"
	"time"

	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/governor/logbook"
)

// Counters add up what becomes of jobs, over all pipelines that share them: one after
// the other, or two while one relieves the other. The zero value is ready.
type Counters struct {
	whole *Counters // that these are a part of; nil: of none
	mu    sync.Mutex
	now   Snapshot
}

// Part is counters that begin now, and of which c counts everything as well.
func (c *Counters) Part() *Counters { return &Counters{whole: c} }

// Snapshot is what Counters held at one moment, since they began, or took up between
// two.
type Snapshot struct {
	Counts
	Busy     time.Duration            // spent inferring
	Switches [governor.Reasons]uint64 // of the operating member, by the reason of the decision

	Queue, Decode, Infer, Total Histogram // of the jobs that were answered with classes
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

// Counts of jobs since the counters began.
type Counts struct {
	Jobs    uint64 // submitted, those included whose place a newer frame took
	Refused uint64 // answered with a reason; those that were abandoned count by Counters.Refuse alone
	Missed  uint64 // answered with classes, but after the deadline
}

// State is what a pipeline is at.
type State struct {
	Waiting   int // jobs in the queue now
	Operating int
	Mode      governor.Mode
	Slowdown  float64
	Decisions []Explained // the last ones, newest first, at most 8
}

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

// change changes what is counted, here and in the whole. It allocates nothing.
func (c *Counters) change(do func(*Snapshot)) {
	for ; c != nil; c = c.whole {
		c.mu.Lock()
		do(&c.now)
		c.mu.Unlock()
	}
}

// Refuse counts a job that no pipeline answers, or none any more: one that was abandoned
// is counted already.
func (c *Counters) Refuse(counted bool) {
	c.change(func(s *Snapshot) {
		s.Refused++
		if !counted {
			s.Jobs++
		}
	})
}

func (c *Counters) submitted() { c.change(func(s *Snapshot) { s.Jobs++ }) }

func (c *Counters) answered(a *Answer) { c.change(func(s *Snapshot) { s.answered(a) }) }

func (c *Counters) switched(why governor.Reason) { c.change(func(s *Snapshot) { s.Switches[why]++ }) }

func (s *Snapshot) answered(a *Answer) {
	s.Busy += a.Infer / time.Duration(max(1, a.Batch))
	switch {
	case a.Superseded, a.Abandoned:
		return
	case a.Reason != "":
		s.Refused++
		return
	case !a.Met:
		s.Missed++
	}
	s.Queue.observe(a.Queue)
	s.Decode.observe(a.Decode)
	s.Infer.observe(a.Infer)
	s.Total.observe(a.Total)
}

// Snapshot is what the counters hold now.
func (c *Counters) Snapshot() Snapshot {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Since is how long the stages took after earlier, a former snapshot of the same
// counters or the zero one. Whoever keeps the last one it saw has intervals of its own.
func (s *Snapshot) Since(earlier *Snapshot) Snapshot {
	return Snapshot{Queue: s.Queue.Since(&earlier.Queue), Decode: s.Decode.Since(&earlier.Decode),
		Infer: s.Infer.Since(&earlier.Infer), Total: s.Total.Since(&earlier.Total)}
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

// Infers tells whether an inference is under way.
func (p *Pipeline) Infers() bool { return p.watchdog.watching() }

// State is what the pipeline is at now.
func (p *Pipeline) State() State {
	now := State{Waiting: p.queue.size()}
	s := p.stats
	s.mu.Lock()
	defer s.mu.Unlock()
	now.Operating, now.Mode, now.Slowdown, now.Decisions = s.op, s.mode, s.slow, s.decisions()
	return now
}
