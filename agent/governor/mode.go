package governor

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Goal is what the user wants of a device, in figures. What is 0 is not asked
// for. A job's own deadline and floor override it.
type Goal struct {
	Deadline time.Duration // of jobs that name none
	Floor    float64       // least top-1, in [0, 1]
	Watts    float64       // most the device may take, on average
	Prefer   Preference    // what to have more of, within the rest
}

// Preference is what a goal would rather have.
type Preference uint8

// Accuracy is the zero Preference.
const (
	Accuracy Preference = iota
	Latency
	Energy
)

// Mode is a named goal, or one of figures. The zero Mode is balanced; modes
// compare with ==.
type Mode struct {
	kind   kind
	member string // of fixed only
	goal   Goal   // of figures; else zero
}

// kind is in snapshots, and so in decision logs, as its number: a new one goes
// before fixed and raises the format of the logs.
type kind uint8

const (
	balanced kind = iota
	maxAccuracy
	lowLatency
	powerSave
	fixed
)

const (
	fixedPrefix = "fixed:"
	goalName    = "goal"
)

// Modes are the names that ParseMode reads; the last stands for one of each member.
func Modes() []string {
	return []string{balanced: "balanced", maxAccuracy: "max-accuracy", lowLatency: "low-latency", powerSave: "power-save",
		fixed: fixedPrefix + "{member}"}
}

// ParseMode reads the name of a mode:
//
//	balanced      highest expected accuracy that leaves the queue its share
//	max-accuracy  the most accurate member that meets the job's own deadline
//	low-latency   the fastest member within two points of the best
//	power-save    the cheapest member within three points of the best
//	fixed:M       always member M
//
// Whether member M exists only the Governor knows; its SetMode says so.
func ParseMode(s string) (Mode, error) {
	for k := balanced; k < fixed; k++ {
		if m := (Mode{kind: k}); m.String() == s {
			return m, nil
		}
	}
	if member, ok := strings.CutPrefix(s, fixedPrefix); ok && member != "" {
		return Mode{kind: fixed, member: member}, nil
	}
	return Mode{}, fmt.Errorf("mode %q is not known; supported are %s", s, strings.Join(Modes(), ", "))
}

// ModeOf is the mode that pursues a goal of figures: balanced, low-latency or
// power-save by its preference, within its floor and watts.
func ModeOf(g Goal) (Mode, error) {
	kinds := [...]kind{Accuracy: balanced, Latency: lowLatency, Energy: powerSave}
	switch {
	case g == Goal{}:
		return Mode{}, errors.New("the goal asks for nothing")
	case int(g.Prefer) >= len(kinds):
		return Mode{}, fmt.Errorf("preference %d is not known", g.Prefer)
	case g.Deadline < 0 || !(g.Floor >= 0 && g.Floor <= 1) || !(g.Watts >= 0):
		return Mode{}, fmt.Errorf("a goal of %v, top-1 %v and %v W is out of range", g.Deadline, g.Floor, g.Watts)
	}
	return Mode{kind: kinds[g.Prefer], goal: g}, nil
}

// String is the name that ParseMode reads, or "goal" for one of figures.
func (m Mode) String() string {
	switch {
	case m.goal != Goal{}:
		return goalName
	case m.kind == fixed:
		return fixedPrefix + m.member
	}
	return Modes()[m.kind]
}

// modest tells whether the mode wants the smallest member that is accurate enough.
func (m Mode) modest() bool { return m.kind == lowLatency || m.kind == powerSave }

// Goal is what the mode asks for in figures; zero for a named one.
func (m Mode) Goal() Goal { return m.goal }

// Member is the one that fixed:M names, else empty.
func (m Mode) Member() string { return m.member }

// Points of top-1 that a mode gives away for latency, or energy, if its goal has
// no floor.
const (
	latencyPoints = 0.02
	energyPoints  = 0.03
)

// floor is the least top-1 that a job without a floor of its own gets, in a
// family whose best eligible member has this top-1.
func (m Mode) floor(best float64) float64 {
	const exactly = 1e-9 // two points exactly are within
	switch {
	case m.goal.Floor > 0:
		return m.goal.Floor
	case m.kind == lowLatency:
		return best - latencyPoints - exactly
	case m.kind == powerSave:
		return best - energyPoints - exactly
	}
	return 0
}

// Feasible tells whether an unloaded device can have what a mode asks for, and
// if not, the goal of figures nearest to it that it can have, with the reason
// on one line. Members that are not eligible do not count. decode is what the
// frames of this device take before any member sees them, 0 if that is not known.
func (g *View) Feasible(m Mode, decode time.Duration) (nearest Goal, err error) {
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
func (g *View) within(now time.Duration) set {
	if s := g.affordable(now) & g.atLeast(min(g.mode.goal.Floor, g.members[g.eligible.last()].Top1)); s != 0 {
		return s
	}
	return g.affordable(now)
}

// affordable holds the eligible members that jobs at the present rate can use
// within the watts of the goal; the smallest if none can.
func (g *View) affordable(now time.Duration) set {
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
