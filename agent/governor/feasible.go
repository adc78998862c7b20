package governor

import (
	"fmt"
	"time"
)

// Feasible tells whether an unloaded device can have what a mode asks for, and
// if not, the goal of figures nearest to it that it can have, with the reason
// on one line. Members that are not eligible do not count. decode is what the
// frames of this device take before any member sees them, 0 if that is not known.
func (g *Governor) Feasible(m Mode, decode time.Duration) (nearest Goal, err error) {
	if m.kind == fixed {
		_, err := g.find(m.member)
		return Goal{}, err
	}
	goal := m.goal
	nearest = goal
	if best := g.members[g.eligible.last()]; goal.Floor > best.Top1 {
		nearest.Floor = best.Top1
		err = also(err, "no member reaches a top-1 of %v: the most accurate, %s, has %.4f", goal.Floor, best.Name, best.Top1)
	}
	if least := g.members[g.atLeast(nearest.Floor).first()]; goal.Deadline > 0 && decode+least.Latency > goal.Deadline {
		nearest.Deadline = decode + least.Latency
		err = also(err, "%s%s takes %v unloaded%s, the deadline is %v", least.Name, fastestWith(nearest.Floor), least.Latency,
			decoding(decode), goal.Deadline)
	}
	switch {
	case goal.Watts == 0:
	case g.power.Active <= 0:
		nearest.Watts = 0
		err = also(err, "this device cannot measure its power: max_watts has to be left out")
	case goal.Watts <= g.power.Idle:
		nearest.Watts = g.power.Idle + g.power.Active
		err = also(err, "the device takes %.1f W when it does nothing, the goal is %v W", g.power.Idle, goal.Watts)
	}
	return nearest, err
}

// also adds a complaint to those before it, on the same line: they are told in
// the middle of a sentence.
func also(err error, format string, args ...any) error {
	next := fmt.Errorf(format, args...)
	if err == nil {
		return next
	}
	return fmt.Errorf("%w; %w", err, next)
}

// decoding says what is to be added to an inference; nothing where that is not known.
func decoding(took time.Duration) string {
	if took == 0 {
		return ""
	}
	return fmt.Sprintf(" and decoding a frame %v", took.Round(10*time.Microsecond))
}

// fastestWith says of a member what it is the fastest of.
func fastestWith(floor float64) string {
	if floor == 0 {
		return ", the fastest member,"
	}
	return fmt.Sprintf(", the fastest member with a top-1 of %v,", floor)
}

// Power is what the device takes, as far as it can be measured or is known.
type Power struct {
	Idle   float64 // W, with no inference running
	Active float64 // W more while one runs
}

// demandMean is the time constant of the rate of all jobs, ms.
const demandMean = 10_000.0

// SetPower tells what inferences cost from now on. Without it a goal's watts
// cannot be pursued; see Feasible.
func (g *Governor) SetPower(p Power) { g.power = p }

// within holds the eligible members that the goal leaves: those that reach its
// floor, or come closest, and of them those that its watts pay for.
func (g *Governor) within(now time.Duration) set {
	if s := g.affordable(now) & g.atLeast(min(g.mode.goal.Floor, g.members[g.eligible.last()].Top1)); s != 0 {
		return s
	}
	return g.affordable(now)
}

// affordable holds the eligible members that jobs at the present rate can use
// within the watts of the goal; the smallest if none can.
func (g *Governor) affordable(now time.Duration) set {
	watts := g.mode.goal.Watts
	if watts == 0 || g.power.Active <= 0 {
		return g.eligible
	}
	busy := (watts - g.power.Idle) / g.power.Active // share of the time that may be spent on inferences
	gap := g.jobs.at(now).gap()
	s := g.eligible.upTo(g.eligible.first())
	for j := range g.members {
		if g.eligible.has(j) && g.grid.single[j].alone <= busy*gap {
			s |= 1 << j
		}
	}
	return s
}
