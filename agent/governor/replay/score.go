package replay

import (
	"slices"
	"time"

	"github.com/limber-edge/limber/agent/governor"
)

// shed stands for a step at which a policy ran nothing.
const shed = -1

// Run asks a policy for a member at every step, each step a job that finds the
// device free, and returns what it chose.
func Run(t Trace, deadline time.Duration, p Policy) []int {
	choices := make([]int, len(t))
	var now time.Duration
	hint, _ := p.(hinted)
	for i, s := range t {
		now = max(now, s.At)
		if hint != nil {
			hint.Hint(s.Load)
		}
		p.Arrive(now)
		member, refused := p.Decide(now, governor.Queue{Deadline: now + deadline})
		if refused {
			choices[i] = shed
			continue
		}
		choices[i] = member
		now += s.Latency[member]
		p.Observe(now, member, s.Latency[member])
	}
	return choices
}

// Score is what a policy reached on a trace with one deadline.
type Score struct {
	Accuracy float64 // effective: mean top-1 with a late inference counted as 0, in [0, 1]
	Regret   float64 // what of the clairvoyant's accuracy is missing, fraction
	Missed   float64 // fraction of steps
	Switches float64 // changes of member per step
	Steady   float64 // the same from the fifth step of each phase
	Down, Up []int   // inferences until settled, for each phase that needed a smaller, or larger, member
}

// A phase is looked at for settling from this length on, and settled is who
// runs a member within these many points of the phase's best.
const (
	settlePhase  = 8
	settlePoints = 0.01
	settled      = 4 // steps of a phase before switches count as steady
)

// Judge scores choices, one for each step of t.
func Judge(t Trace, deadline time.Duration, members []governor.Member, choices []int) Score {
	s := Score{Accuracy: accuracy(t, deadline, members, choices)}
	if best := accuracy(t, deadline, members, Clairvoyant(t, deadline)); best > 0 {
		s.Regret = 1 - s.Accuracy/best
	}
	n := float64(len(t))
	for i, c := range choices {
		if !inTime(t[i], c, deadline) {
			s.Missed += 1 / n
		}
		if i > 0 && switched(choices[i-1], c) {
			s.Switches += 1 / n
		}
	}
	s.Steady = steady(t, choices)
	s.Down, s.Up = settle(t, deadline, members, choices)
	return s
}

func inTime(s Step, member int, deadline time.Duration) bool {
	return member != shed && s.Latency[member] <= deadline
}

func accuracy(t Trace, deadline time.Duration, members []governor.Member, choices []int) float64 {
	sum := 0.0
	for _, top1 := range t.Gained(deadline, members, choices) {
		sum += top1
	}
	return sum / float64(len(t))
}

// Gained is the top-1 of each choice, 0 of one that was not in time.
func (t Trace) Gained(deadline time.Duration, members []governor.Member, choices []int) []float64 {
	gained := make([]float64, len(choices))
	for i, c := range choices {
		if inTime(t[i], c, deadline) {
			gained[i] = members[c].Top1
		}
	}
	return gained
}

// switched tells that another member ran. A step at which none did is no switch.
func switched(before, now int) bool { return before != now && before != shed && now != shed }

func steady(t Trace, choices []int) float64 {
	steps, switches := 0, 0
	for _, r := range t.stretches() {
		for i := r.from + settled; i < r.to; i++ {
			steps++
			if switched(choices[i-1], choices[i]) {
				switches++
			}
		}
	}
	return float64(switches) / float64(max(steps, 1))
}

// settle counts, for each change of load that needs a move, the inferences
// until the choice is within a point of the best member of the phase.
func settle(t Trace, deadline time.Duration, members []governor.Member, choices []int) (down, up []int) {
	for _, r := range t.stretches() {
		if r.from == 0 {
			continue
		}
		n, move := Settled(t[r.from:r.to].Worth(deadline, members), choices[r.from:r.to])
		switch {
		case move < 0:
			down = append(down, n)
		case move > 0:
			up = append(up, n)
		}
	}
	return down, up
}

// Settled counts the inferences of a phase until the choice is within a point of
// the best member, by what each is worth in it. move is negative if that took a
// smaller member than the first choice, positive if a larger one, and 0 if no
// move was needed or the phase is too short to tell.
func Settled(worth []float64, choices []int) (n, move int) {
	best := argmax(worth)
	good := func(choice int) bool { return choice != shed && worth[choice] >= worth[best]-settlePoints }
	if len(choices) < settlePhase || good(choices[0]) {
		return 0, 0
	}
	if n = slices.IndexFunc(choices, good); n < 0 {
		n = len(choices)
	}
	if best < choices[0] {
		return n, -1
	}
	return n, 1
}

// Worth is the effective accuracy of each member over a trace.
func (t Trace) Worth(deadline time.Duration, members []governor.Member) []float64 {
	w := make([]float64, len(members))
	for j, m := range members {
		for _, s := range t {
			if s.Latency[j] <= deadline {
				w[j] += m.Top1 / float64(len(t))
			}
		}
	}
	return w
}

// argmax is the index of the largest value, the first of equals.
func argmax(v []float64) int {
	best := 0
	for i, x := range v {
		if x > v[best] {
			best = i
		}
	}
	return best
}

// Clairvoyant chooses the largest member that is in time at each step: nothing
// can be better.
func Clairvoyant(t Trace, deadline time.Duration) []int {
	choices := make([]int, len(t))
	for i, s := range t {
		for j, l := range s.Latency {
			if l <= deadline {
				choices[i] = j
			}
		}
	}
	return choices
}

// PhaseOracle chooses for each phase the member that turns out to be best in it.
func PhaseOracle(t Trace, deadline time.Duration, members []governor.Member) []int {
	var choices []int
	for _, r := range t.stretches() {
		best := argmax(t[r.from:r.to].Worth(deadline, members))
		choices = append(choices, slices.Repeat([]int{best}, r.to-r.from)...)
	}
	return choices
}

// BestStatic is the one member that turns out to be best over all.
func BestStatic(t Trace, deadline time.Duration, members []governor.Member) []int {
	return slices.Repeat([]int{argmax(t.Worth(deadline, members))}, len(t))
}

// Pool is the mean over deadlines, with the phases of all of them.
func Pool(scores []Score) (p Score) {
	n := float64(len(scores))
	for _, s := range scores {
		p.Accuracy += s.Accuracy / n
		p.Regret += s.Regret / n
		p.Missed += s.Missed / n
		p.Switches += s.Switches / n
		p.Steady += s.Steady / n
		p.Down, p.Up = append(p.Down, s.Down...), append(p.Up, s.Up...)
	}
	return p
}

// Median is the upper median of some counts, 0 of none.
func Median(n []int) int {
	if len(n) == 0 {
		return 0
	}
	return slices.Sorted(slices.Values(n))[len(n)/2]
}

// Chooser chooses members for the whole of a trace.
type Chooser struct {
	Name   string
	Choose func(t Trace, deadline time.Duration) []int
}

// Choosers are the Field, the policy that Limber's began with, and those that
// know the future.
func Choosers(members []governor.Member) (all []Chooser) {
	for _, e := range append(Field(members), Entry{"loadgrid", func() Policy { return newLoadGrid(members) }}) {
		all = append(all, Chooser{e.Name, func(t Trace, d time.Duration) []int { return Run(t, d, e.New()) }})
	}
	return append(all,
		Chooser{"best-static", func(t Trace, d time.Duration) []int { return BestStatic(t, d, members) }},
		Chooser{"phase-oracle", func(t Trace, d time.Duration) []int { return PhaseOracle(t, d, members) }},
		Chooser{"oracle", Clairvoyant})
}
