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
