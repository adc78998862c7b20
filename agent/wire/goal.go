package wire

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Goal is what a user wants of a device, in figures.
type Goal struct {
	DeadlineMS *float64 `json:"deadline_ms,omitempty"` // of jobs that name none
	MinTop1    *float64 `json:"min_top1,omitempty"`    // of jobs that name none, in [0, 1]
	MaxWatts   *float64 `json:"max_watts,omitempty"`   // on average
	Prefer     string   `json:"prefer,omitempty"`      // what to have more of within the rest
}

// What a goal may prefer; nothing stands for accuracy.
const (
	PreferAccuracy = "accuracy"
	PreferLatency  = "latency"
	PreferEnergy   = "energy"
)

// Aim is what a device is to pursue: a mode by its name or a goal of figures,
// one of the two.
type Aim struct {
	Mode string `json:"mode,omitempty"`
	Goal *Goal  `json:"goal,omitempty"`
}

// Check tells why no device can have the aim. Modes are the device's to judge.
func (a Aim) Check() error {
	switch {
	case a == Aim{}:
		return errors.New("neither mode nor goal: set one of them")
	case a.Mode != "" && a.Goal != nil:
		return errors.New("both mode and goal: set one of them")
	case a.Goal != nil:
		return a.Goal.Check()
	}
	return nil
}

// String is the mode, or the goal in words.
func (a Aim) String() string {
	if a.Goal != nil {
		return a.Goal.String()
	}
	return a.Mode
}

// Same tells whether two aims ask for the same, such as what was set and what a
// device reports to be in force.
func (a Aim) Same(b Aim) bool { return a.sense() == b.sense() }

// sense is what an aim comes down to.
type sense struct {
	mode        string
	deadline    time.Duration // in whole microseconds, rounded up, as it comes back from a device
	top1, watts float64
	prefer      string // "" for accuracy
}

func (a Aim) sense() sense {
	if a.Goal == nil {
		return sense{mode: a.Mode}
	}
	s := sense{deadline: (a.Goal.Deadline() + time.Microsecond - 1).Truncate(time.Microsecond), prefer: a.Goal.Prefer}
	if a.Goal.MinTop1 != nil {
		s.top1 = *a.Goal.MinTop1
	}
	if a.Goal.MaxWatts != nil {
		s.watts = *a.Goal.MaxWatts
	}
	if s.prefer == PreferAccuracy {
		s.prefer = ""
	}
	if s == (sense{}) {
		s.mode = "balanced" // which accuracy and nothing else is: a device reports it so
	}
	return s
}

// Check tells why no device can have the goal.
func (g Goal) Check() error {
	var errs []error
	if g.DeadlineMS != nil {
		errs = append(errs, checkDeadline(*g.DeadlineMS))
	}
	if g.MinTop1 != nil {
		errs = append(errs, checkTop1(*g.MinTop1))
	}
	if g.MaxWatts != nil && !(*g.MaxWatts > 0) {
		errs = append(errs, fmt.Errorf("max_watts: %v is not over 0", *g.MaxWatts))
	}
	switch g.Prefer {
	case "", PreferAccuracy, PreferLatency, PreferEnergy:
	default:
		errs = append(errs, fmt.Errorf("prefer: %.40q is none of accuracy, latency, energy", g.Prefer))
	}
	if g == (Goal{}) {
		errs = append(errs, errors.New("the goal is empty: set deadline_ms, min_top1, max_watts or prefer"))
	}
	return oneLine(errs)
}

// oneLine is errors.Join for the middle of a sentence.
func oneLine(errs []error) (all error) {
	for _, err := range errs {
		if all == nil {
			all = err
		} else {
			all = fmt.Errorf("%w; %w", all, err)
		}
	}
	return all
}

func checkDeadline(ms float64) error {
	if !(ms >= MinDeadlineMS && ms <= MaxDeadlineMS) {
		return fmt.Errorf("deadline_ms: %v is not in [%d, %d]", ms, MinDeadlineMS, MaxDeadlineMS)
	}
	return nil
}

func checkTop1(v float64) error {
	if !(v >= 0 && v <= 1) {
		return fmt.Errorf("min_top1: %v is not a fraction in [0, 1]", v)
	}
	return nil
}

// Deadline is that of jobs which name none; 0 if the goal names none either.
func (g Goal) Deadline() time.Duration {
	if g.DeadlineMS == nil {
		return 0
	}
	return duration(*g.DeadlineMS)
}

// String names what the goal asks for, with units.
func (g Goal) String() string {
	var parts []string
	if g.DeadlineMS != nil {
		parts = append(parts, fmt.Sprintf("a deadline of %v ms", *g.DeadlineMS))
	}
	if g.MinTop1 != nil {
		parts = append(parts, fmt.Sprintf("a top-1 of %v", *g.MinTop1))
	}
	if g.MaxWatts != nil {
		parts = append(parts, fmt.Sprintf("at most %v W", *g.MaxWatts))
	}
	if g.Prefer != "" {
		parts = append(parts, "rather "+g.Prefer)
	}
	return strings.Join(parts, ", ")
}
