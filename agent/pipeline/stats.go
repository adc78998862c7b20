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

// stats counts since the start and keeps the times of the last answers.
type stats struct {
	mu     sync.Mutex
	counts Counts
	stages [4][]time.Duration // queue, decode, infer, total: since the last Snapshot, at most window each
	next   int                // where a full window is overwritten
	op     int
	mode   governor.Mode
	slow   float64
	busy   time.Duration     // spent inferring
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

// Counts of jobs since the pipeline was made.
type Counts struct {
	Jobs    uint64 // submitted
	Refused uint64 // answered with a reason
	Missed  uint64 // answered with classes, but after the deadline
}

// Quantiles of a stage over one interval.
type Quantiles struct{ P50, P95 time.Duration }

// Snapshot is the pipeline's state for telemetry.
type Snapshot struct {
	Counts
	Waiting   int // jobs in the queue now
	Operating int
	Mode      governor.Mode
	Slowdown  float64

	Ended                       int // jobs that were answered with classes since the last Snapshot
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

func (s *stats) accepted() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.Jobs++
}

func (s *stats) answered(a *Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy += a.Infer / time.Duration(max(1, a.Batch))
	if a.Reason != "" {
		s.counts.Refused++
		return
	}
	if !a.Met {
		s.counts.Missed++
	}
	for i, d := range [...]time.Duration{a.Queue, a.Decode, a.Infer, a.Total} {
		if len(s.stages[i]) < window {
			s.stages[i] = append(s.stages[i], d)
		} else {
			s.stages[i][s.next%window] = d
		}
	}
	s.next++
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

// Busy is how long inferences ran since the pipeline was made.
func (p *Pipeline) Busy() time.Duration {
	p.stats.mu.Lock()
	defer p.stats.mu.Unlock()
	return p.stats.busy
}

// Snapshot returns the state and begins a new interval for the quantiles.
func (p *Pipeline) Snapshot() Snapshot {
	waiting := p.queue.size()
	s := p.stats
	s.mu.Lock()
	defer s.mu.Unlock()
	snap := Snapshot{Counts: s.counts, Waiting: waiting, Operating: s.op, Mode: s.mode, Slowdown: s.slow, Ended: s.next,
		Decisions: s.decisions()}
	for i, q := range []*Quantiles{&snap.Queue, &snap.Decode, &snap.Infer, &snap.Total} {
		*q = quantiles(s.stages[i])
		s.stages[i] = s.stages[i][:0]
	}
	s.next = 0
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
