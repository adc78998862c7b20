package wire

import (
	"errors"
	"fmt"
	"time"
)

// Goal is what a user wants of a device.
type Goal struct {
	DeadlineMS *float64 `json:"deadline_ms,omitempty"`
	MinTop1    *float64 `json:"min_top1,omitempty"` // in [0, 1]
	MaxWatts   *float64 `json:"max_watts,omitempty"`
	Prefer     string   `json:"prefer,omitempty"` // accuracy, latency or energy
}

// Desired is the state an operator wants, retained by the broker and applied
// when its version is greater than the last one.
type Desired struct {
	Schema  Schema `json:"schema"`
	Version uint64 `json:"version"` // from 1
	Mode    string `json:"mode,omitempty"`
	Goal    *Goal  `json:"goal,omitempty"`
}

// Reported answers a desired state.
type Reported struct {
	Schema  Schema `json:"schema"`
	Version uint64 `json:"version"` // of the desired state this is about
	Status  Status `json:"status"`  // applied or rejected
	Reason  Reason `json:"reason,omitempty"`
	Mode    string `json:"mode,omitempty"` // in force now
	Member  string `json:"member,omitempty"`
	Detail  string `json:"detail,omitempty"` // what differs from the desired state, and why
}

// Ack is a state a command has passed.
type Ack struct {
	Schema Schema `json:"schema"`
	ID     string `json:"id"`
	Verb   string `json:"verb"`
	State  Step   `json:"state"`
	Reason Reason `json:"reason,omitempty"`
	Detail string `json:"detail,omitempty"`
	TS     Time   `json:"ts"`
}

// Command is an action asked for; its verb and id are in the topic.
type Command struct {
	Schema    Schema   `json:"schema"`
	Mode      string   `json:"mode,omitempty"`       // of the verb mode
	ExpiresAt *Time    `json:"expires_at,omitempty"` // one of the two
	TTLMS     *float64 `json:"ttl_ms,omitempty"`     // counts from receipt, up to a year
}

// maxTTL bounds how long a ledger must remember a command.
const maxTTL = 365 * 24 * time.Hour

// Expiry is when a command received at a time is spent. The time may be over
// already. An error means that the command is invalid.
func (c Command) Expiry(received time.Time) (time.Time, error) {
	switch {
	case c.ExpiresAt == nil && c.TTLMS == nil:
		return time.Time{}, errors.New("the command has no expiry: set expires_at or ttl_ms")
	case c.ExpiresAt != nil && c.TTLMS != nil:
		return time.Time{}, errors.New("the command has two expiries: set either expires_at or ttl_ms")
	case c.ExpiresAt != nil:
		return c.ExpiresAt.Time, nil
	case !(*c.TTLMS > 0 && *c.TTLMS <= Millis(maxTTL)):
		return time.Time{}, fmt.Errorf("ttl_ms: %v is not in (0, %.0f]", *c.TTLMS, Millis(maxTTL))
	}
	return received.Add(duration(*c.TTLMS)), nil
}

// Check tells why a desired state cannot be applied by any device.
func (d Desired) Check() error {
	switch {
	case d.Version == 0:
		return errors.New("version: want a whole number from 1")
	case d.Mode == "" && d.Goal == nil:
		return errors.New("the desired state has neither mode nor goal: set one of them")
	case d.Mode != "" && d.Goal != nil:
		return errors.New("the desired state has both mode and goal: set one of them")
	case d.Goal != nil:
		return d.Goal.Check()
	}
	return nil
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
	case "", "accuracy", "latency", "energy":
	default:
		errs = append(errs, fmt.Errorf("prefer: %.40q is none of accuracy, latency, energy", g.Prefer))
	}
	if g == (Goal{}) {
		errs = append(errs, errors.New("the goal is empty: set deadline_ms, min_top1, max_watts or prefer"))
	}
	return errors.Join(errs...)
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
