package replay

import (
	"fmt"
	"math"
	"time"

	"github.com/limber-edge/limber/agent/governor"
)

// static always runs one member.
type static struct {
	nothing
	member int
}

func (s static) Decide(time.Duration, governor.Queue) (int, bool) { return s.member, false }

// profileOf is the members' profile in milliseconds.
func profileOf(members []governor.Member) []float64 {
	p := make([]float64, len(members))
	for i, m := range members {
		p[i] = milliseconds(m.Latency)
	}
	return p
}

// dynamicOFA is the rule of the runtime demo of Dynamic-OFA (Lou et al. 2021):
// the mean of the last 20 latencies is held against the constraint, and moves
// the member by one. The demo only goes down; this one also climbs, when the
// next larger member would fit with five percent to spare.
type dynamicOFA struct {
	profile  []float64
	member   int
	deadline float64 // ms
	last     []float64
}

const ofaWindow = 20

func newDynamicOFA(members []governor.Member) *dynamicOFA {
	return &dynamicOFA{profile: profileOf(members), member: max(0, len(members)-2)}
}

func (*dynamicOFA) Arrive(time.Duration) {}

func (p *dynamicOFA) Decide(now time.Duration, q governor.Queue) (int, bool) {
	p.deadline = milliseconds(q.Deadline - now)
	return p.member, false
}

func (p *dynamicOFA) Observe(_ time.Duration, _ int, latency time.Duration) {
	p.last = append(p.last, milliseconds(latency))
	if len(p.last) < ofaWindow {
		return
	}
	mean := 0.0
	for _, l := range p.last[len(p.last)-ofaWindow:] {
		mean += l
	}
	mean /= ofaWindow
	switch {
	case mean > p.deadline && p.member > 0:
		p.member, p.last = p.member-1, p.last[:0]
	case p.member+1 < len(p.profile) && mean*p.profile[p.member+1]/p.profile[p.member] < 0.95*p.deadline:
		p.member, p.last = p.member+1, p.last[:0]
	}
}

// oneStep is plain hysteresis: down by one after a miss, up by one after ten
// inferences in time.
type oneStep struct {
	largest, member int
	deadline        time.Duration
	good            int
}

const oneStepGood = 10

func newOneStep(members []governor.Member) *oneStep {
	return &oneStep{largest: len(members) - 1, member: max(0, len(members)-2)}
}

func (*oneStep) Arrive(time.Duration) {}

func (p *oneStep) Decide(now time.Duration, q governor.Queue) (int, bool) {
	p.deadline = q.Deadline - now
	return p.member, false
}

func (p *oneStep) Observe(_ time.Duration, _ int, latency time.Duration) {
	if latency > p.deadline {
		p.member, p.good = max(0, p.member-1), 0
		return
	}
	if p.good++; p.good >= oneStepGood && p.member < p.largest {
		p.member, p.good = p.member+1, 0
	}
}

// alert is ALERT (Wan et al., ATC 2020): a Kalman filter follows one slowdown
// factor and its variance, and the member of highest expected accuracy is
// chosen. With a queue the deadline is the tightest fair share of time, and jobs
// that the smallest member cannot finish are shed, unless nothing was observed
// for 100 ms.
type alert struct {
	profile, points []float64
	mean, variance  float64 // of the slowdown
	gain, noise     float64
	innovation      float64
	last            time.Duration
}

// The constants of the paper, and of its adaptation to a queue.
const (
	alertForget      = 0.3
	alertNoise       = 0.1   // least process noise
	alertMeasurement = 0.001 // measurement noise
	alertHopeless    = 0.7   // of the smallest member's expected latency: less slack than this is shed
	lookahead        = 16    // jobs that share the time
	blind            = 100 * time.Millisecond
)

func newAlert(members []governor.Member) *alert {
	p := &alert{profile: profileOf(members), mean: 1, variance: 0.1, gain: 0.5, noise: alertNoise}
	for _, m := range members {
		p.points = append(p.points, 100*m.Top1)
	}
	return p
}

func (*alert) Arrive(time.Duration) {}

func (p *alert) Decide(now time.Duration, q governor.Queue) (int, bool) {
	slack := milliseconds(q.Deadline - now)
	smallest := max(p.mean, 0.3) * p.profile[0]
	if slack < alertHopeless*smallest && now-p.last <= blind {
		return 0, true
	}
	for n, due := range q.Waiting[:min(len(q.Waiting), lookahead)] {
		slack = min(slack, milliseconds(due-now)/float64(n+2))
	}
	return p.pick(max(slack, 0.1)), false
}

func (p *alert) pick(deadline float64) int {
	best, member := -1.0, 0
	for i, latency := range p.profile {
		z := (deadline/latency - p.mean) / math.Sqrt(max(p.variance, 1e-9))
		if v := p.points[i] * 0.5 * (1 + math.Erf(z/math.Sqrt2)); v > best+1e-9 {
			best, member = v, i
		}
	}
	return member
}

func (p *alert) Observe(now time.Duration, member int, latency time.Duration) {
	p.last = now
	y := milliseconds(latency)/p.profile[member] - p.mean
	kept := p.gain * p.innovation
	p.noise = max(alertNoise, alertForget*p.noise+(1-alertForget)*kept*kept)
	prior := (1-p.gain)*p.variance + p.noise
	p.gain = prior / (prior + alertMeasurement)
	p.variance = (1-p.gain)*p.variance + p.noise
	p.mean += p.gain * y
	p.innovation = y
}

// slackFit is the policy of SuperServe (Khare et al., NSDI 2025) without
// batches: the range of profiled latencies is cut into even buckets, each with
// the most accurate member that fits, and the head's slack picks the bucket.
type slackFit struct {
	nothing
	lowest, width float64 // ms
	buckets       []int   // member
}

const slackBuckets = 32

func newSlackFit(members []governor.Member) *slackFit {
	profile := profileOf(members)
	p := &slackFit{lowest: profile[0], width: (profile[len(profile)-1] - profile[0]) / slackBuckets}
	for b := range slackBuckets + 1 {
		member := 0
		for i, latency := range profile {
			if latency <= p.lowest+float64(b)*p.width+1e-9 {
				member = i
			}
		}
		p.buckets = append(p.buckets, member)
	}
	return p
}

func (p *slackFit) Decide(now time.Duration, q governor.Queue) (int, bool) {
	slack := milliseconds(q.Deadline - now)
	if !(p.width > 0) || slack < p.lowest {
		return 0, false
	}
	return p.buckets[min(slackBuckets, int((slack-p.lowest)/p.width))], false
}

// Policy chooses members as a governor.Governor does, whose methods these are.
// Times are on one clock that begins with the trace.
type Policy interface {
	// Arrive tells of a job that joined the queue.
	Arrive(now time.Duration)
	// Decide chooses the member that runs the job at the head of q, or none.
	Decide(now time.Duration, q governor.Queue) (member int, shed bool)
	// Observe tells what an inference took that ended now.
	Observe(now time.Duration, member int, latency time.Duration)
}

// hinted is a policy that is told the load before it decides.
type hinted interface{ Hint(load int) }

// Entry is a policy with its name in tables; New starts it anew.
type Entry struct {
	Name string
	New  func() Policy
}

// Field is every policy that does not know the future, for members that
// governor.New would take: each member for itself, the rules of others, ours.
func Field(members []governor.Member) []Entry {
	var field []Entry
	for i := range members {
		field = append(field, Entry{fmt.Sprintf("static:%d", i), func() Policy { return static{member: i} }})
	}
	return append(field,
		Entry{"dynamic-ofa", func() Policy { return newDynamicOFA(members) }},
		Entry{"one-step", func() Policy { return newOneStep(members) }},
		Entry{"alert", func() Policy { return newAlert(members) }},
		Entry{"slackfit", func() Policy { return newSlackFit(members) }},
		Entry{"limber", func() Policy { return newLimber(members) }},
		Entry{"limber+hint", func() Policy { return hintedLimber{newLimber(members)} }},
	)
}

// limber is the runtime manager as a device runs it. Its governor is no embedded
// field: it would be told the load.
type limber struct{ governor *governor.Governor }

func newLimber(members []governor.Member) limber {
	g, err := governor.New(members, governor.Mode{}, nil)
	if err != nil {
		panic("replay: " + err.Error()) // Trace.Members let them through
	}
	return limber{g}
}

func (l limber) Arrive(now time.Duration) { l.governor.Arrive(now) }

func (l limber) Decide(now time.Duration, q governor.Queue) (member int, shed bool) {
	d := l.governor.Decide(now, q)
	return d.Member, d.Shed
}

func (l limber) Observe(now time.Duration, member int, latency time.Duration) {
	l.governor.Observe(now, member, 1, latency)
}

// hintedLimber is the same with a monitor that reads the load.
type hintedLimber struct{ limber }

func (l hintedLimber) Hint(load int) { l.governor.Hint(load) }

// nothing is the part of a policy that learns nothing.
type nothing struct{}

func (nothing) Arrive(time.Duration)                      {}
func (nothing) Observe(time.Duration, int, time.Duration) {}
