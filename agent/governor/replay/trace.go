// Package replay runs the runtime manager and the field's other policies over
// recorded load, and says how far each stays behind one that knows the future.
//
//	                    ┌──────── latency of the member chosen ───────┐
//	                    ▼                                             │
//	trace ── step ──▶ Policy ── member ──▶ latency at this step ──────┴──▶ Score
//	                    ▲
//	Arrivals ── queue ──┘                  (Simulate instead of Run)
//
// A trace has the latency of every member at every step, so that any policy can
// be asked what it would have done. The one rule: a policy learns the latency of
// the member it chose and nothing else; only one with a Hint method is told the
// load. The policy of Limber is governor.Governor itself, not a copy of it.
package replay

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/limber-edge/limber/agent/governor"
)

// Step is one moment of a trace.
type Step struct {
	At      time.Duration   // since the beginning
	Phase   int             // number of the stretch of constant load; 0 is unloaded
	Load    int             // what the load generator was set to, such as CPU-bound processes
	Latency []time.Duration // of every member, run at this moment
}

// Trace is a recording; it has at least one step, and a phase 0.
type Trace []Step

// The bounds of a trace that Read takes.
const (
	maxLine  = 4096    // bytes
	maxSteps = 1 << 20 // half a day at the usual pace
)

// Read reads a trace: a line a step, with its seconds, phase and load, then the
// latencies of members in milliseconds. Empty lines and those that begin with #
// are skipped. An error names the line.
func Read(r io.Reader, members int) (Trace, error) {
	var t Trace
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	n := 1
	for ; lines.Scan(); n++ {
		text := strings.TrimSpace(lines.Text())
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		s, err := readStep(strings.Fields(text), members)
		if err == nil && len(t) > 0 && s.At < t[len(t)-1].At {
			err = fmt.Errorf("%v is before the step above", s.At)
		}
		if err == nil && len(t) == maxSteps {
			err = fmt.Errorf("more than %d steps", maxSteps)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		t = append(t, s)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("line %d: %w", n, err)
	}
	if !slices.ContainsFunc(t, Step.quiet) {
		return nil, fmt.Errorf("no step of phase 0, which is unloaded and gives the members' profile")
	}
	return t, nil
}

func readStep(fields []string, members int) (Step, error) {
	if len(fields) != 3+members {
		return Step{}, fmt.Errorf("%d fields, want %d: seconds, phase, load and the latencies of the %d members whose "+
			"top-1 was given", len(fields), 3+members, members)
	}
	seconds, err := number(fields[0])
	if err != nil {
		return Step{}, fmt.Errorf("seconds: %w", err)
	}
	s := Step{At: ms(1e3 * seconds), Latency: make([]time.Duration, members)}
	if s.Phase, err = strconv.Atoi(fields[1]); err != nil {
		return Step{}, fmt.Errorf("phase: %w", err)
	}
	if s.Load, err = strconv.Atoi(fields[2]); err != nil {
		return Step{}, fmt.Errorf("load: %w", err)
	}
	for i, f := range fields[3:] {
		latency, err := number(f)
		if err == nil && ms(latency) <= 0 {
			err = fmt.Errorf("%s ms is not positive", f)
		}
		if err != nil {
			return Step{}, fmt.Errorf("latency of member %d: %w", i, err)
		}
		s.Latency[i] = ms(latency)
	}
	return s, nil
}

// number reads a number from 0 to a day of milliseconds.
func number(text string) (float64, error) {
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0, err
	}
	if !(v >= 0 && v <= 24*3600*1e3) {
		return 0, fmt.Errorf("%s is not between 0 and 24 hours", text)
	}
	return v, nil
}

// ms converts milliseconds to the nearest nanosecond.
func ms(x float64) time.Duration { return time.Duration(math.Round(x * float64(time.Millisecond))) }

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// quiet tells that nothing competed at this step.
func (s Step) quiet() bool { return s.Phase == 0 }

// String is the line that Read reads.
func (s Step) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%.4f %d %d", s.At.Seconds(), s.Phase, s.Load)
	for _, l := range s.Latency {
		fmt.Fprintf(&b, " %.4f", milliseconds(l))
	}
	return b.String()
}

// Members are sub-networks with these values of top-1, profiled by phase 0: the
// median of each one's latency. They are named s0, s1 and so on. One that took
// no longer than the one before counts as barely slower: policies want an order.
// The error is governor.New's about top-1 that does not rise.
func (t Trace) Members(top1 []float64) ([]governor.Member, error) {
	members := make([]governor.Member, len(top1))
	for j := range members {
		var quiet []time.Duration
		for _, s := range t {
			if s.quiet() {
				quiet = append(quiet, s.Latency[j])
			}
		}
		slices.Sort(quiet)
		members[j] = governor.Member{Name: fmt.Sprintf("s%d", j), Top1: top1[j], Latency: quiet[len(quiet)/2]}
		if j > 0 {
			members[j].Latency = max(members[j].Latency, members[j-1].Latency+1)
		}
	}
	if _, err := governor.New(members, governor.Mode{}, nil); err != nil {
		return nil, fmt.Errorf("phase 0: %w", err)
	}
	return members, nil
}

// stretch is a run of steps under one load, as half-open indices.
type stretch struct{ from, to int }

func (t Trace) stretches() (all []stretch) {
	from := 0
	for i := 1; i <= len(t); i++ {
		if i == len(t) || t[i].Phase != t[from].Phase || t[i].Load != t[from].Load {
			all = append(all, stretch{from, i})
			from = i
		}
	}
	return all
}

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
