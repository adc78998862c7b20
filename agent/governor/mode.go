package governor

import (
	"fmt"
	"strings"
)

// Mode is what the user wants of the governor, by name. The zero Mode is
// balanced; modes compare with ==.
type Mode struct {
	goal   goal
	member string // of goal fixed only
}

type goal uint8

const (
	balanced goal = iota
	maxAccuracy
	lowLatency
	fixed
)

const fixedPrefix = "fixed:"

// ParseMode reads the name of a mode:
//
//	balanced      highest expected accuracy that leaves the queue its share
//	max-accuracy  the most accurate member that meets the job's own deadline
//	low-latency   the fastest member within two points of the best
//	fixed:M       always member M
//
// Whether member M exists only the Governor knows; its SetMode says so.
func ParseMode(s string) (Mode, error) {
	for g := balanced; g < fixed; g++ {
		if m := (Mode{goal: g}); m.String() == s {
			return m, nil
		}
	}
	if member, ok := strings.CutPrefix(s, fixedPrefix); ok && member != "" {
		return Mode{goal: fixed, member: member}, nil
	}
	return Mode{}, fmt.Errorf("mode %q is not known; supported are balanced, max-accuracy, low-latency and fixed:MEMBER", s)
}

// String is the name that ParseMode reads.
func (m Mode) String() string {
	switch m.goal {
	case maxAccuracy:
		return "max-accuracy"
	case lowLatency:
		return "low-latency"
	case fixed:
		return fixedPrefix + m.member
	default:
		return "balanced"
	}
}
