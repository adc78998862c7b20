package replay

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/limber-edge/limber/agent/governor"
)

// Pattern is a stream of jobs that comes in bursts: a Markov-modulated Poisson
// process with two states.
type Pattern struct {
	Calm, Burst float64       // jobs per second
	Deadline    time.Duration // of each job
}

// String is the pattern as tables name it: jobs per second calm and in bursts,
// and the deadline in milliseconds.
func (p Pattern) String() string {
	return fmt.Sprintf("%v/%v D%d", p.Calm, p.Burst, p.Deadline.Milliseconds())
}

// Patterns are those that policies are compared by.
func Patterns() []Pattern {
	return []Pattern{
		{10, 40, 60 * time.Millisecond}, {20, 80, 60 * time.Millisecond},
		{30, 120, 60 * time.Millisecond}, {20, 80, 100 * time.Millisecond},
	}
}

// The mean stay in each state.
const (
	calmStay  = 1500 * time.Millisecond
	burstStay = 400 * time.Millisecond
)

// Arrivals draws when jobs come until the end, the same for the same seed.
func (p Pattern) Arrivals(until time.Duration, seed uint64) (at []time.Duration) {
	r := rand.New(rand.NewPCG(seed, 0))
	wait := func(mean float64) time.Duration { return ms(r.ExpFloat64() * mean) }
	var now time.Duration
	burst, turn := false, wait(milliseconds(calmStay))
	for now < until {
		rate, stay := p.Calm, burstStay
		if burst {
			rate, stay = p.Burst, calmStay
		}
		next := now + wait(1e3/rate)
		if next > turn { // the gap is without memory: it is drawn anew in the other state
			now, burst = turn, !burst
			turn += wait(milliseconds(stay))
			continue
		}
		now = next
		at = append(at, now)
	}
	return at
}

// Service is what a policy made of a stream of jobs.
type Service struct {
	Met      float64 // fraction answered within the deadline
	Accuracy float64 // effective: mean top-1 with a late or shed job counted as 0, in [0, 1]
	Shed     float64 // fraction
	Switches float64 // changes of member per inference
}

// MeanAccuracy is the mean top-1 of the jobs in time.
func (s Service) MeanAccuracy() float64 {
	if s.Met == 0 {
		return 0
	}
	return s.Accuracy / s.Met
}

// Simulate runs jobs with one deadline through a queue and one worker that is
// as fast as the trace says for the moment a job starts.
func Simulate(t Trace, jobs []time.Duration, deadline time.Duration, members []governor.Member, p Policy) (s Service) {
	n := float64(len(jobs))
	hint, _ := p.(hinted)
	var now time.Duration
	var queue []time.Duration // deadlines
	last, ran := shed, 0
	for len(jobs) > 0 || len(queue) > 0 {
		if len(queue) == 0 {
			now = max(now, jobs[0])
		}
		for len(jobs) > 0 && jobs[0] <= now {
			p.Arrive(jobs[0])
			queue = append(queue, jobs[0]+deadline)
			jobs = jobs[1:]
		}
		head, step := queue[0], t.at(now)
		queue = queue[1:]
		if hint != nil {
			hint.Hint(step.Load)
		}
		member, refused := p.Decide(now, governor.Queue{Deadline: head, Waiting: queue})
		if refused {
			s.Shed += 1 / n
			continue
		}
		if ran++; last != shed && member != last {
			s.Switches++
		}
		last = member
		now += step.Latency[member]
		p.Observe(now, member, step.Latency[member])
		if now <= head {
			s.Met += 1 / n
			s.Accuracy += members[member].Top1 / n
		}
	}
	s.Switches /= float64(max(ran, 1))
	return s
}

// at is the step that tells how fast the device is at a moment.
func (t Trace) at(now time.Duration) Step {
	i, _ := slices.BinarySearchFunc(t, now, func(s Step, at time.Duration) int { return cmp.Compare(s.At, at) })
	return t[min(i, len(t)-1)]
}
