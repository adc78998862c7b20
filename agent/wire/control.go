package wire

import (
	"cmp"
	"errors"
	"fmt"
	"time"
)

// Desired is the state an operator wants, retained by the broker and applied
// when its version is greater than the last one applied, whether that was for
// the device or for one of its groups.
type Desired struct {
	Schema  Schema `json:"schema"`
	Version uint64 `json:"version"` // from 1
	// Force has it applied also where the last one is more than VersionReach ahead of it:
	// one that nobody can follow was applied by mistake.
	Force bool   `json:"force_version,omitempty"`
	Mode  string `json:"mode,omitempty"`
	Goal  *Goal  `json:"goal,omitempty"`
}

// VersionReach is how far a version may be ahead of the last one applied. One that is
// further was not meant: what comes after it would have to be further still.
const VersionReach = 1 << 32

// Reported answers a desired state.
type Reported struct {
	Schema  Schema `json:"schema"`
	Version uint64 `json:"version"` // of the desired state this is about
	Status  Status `json:"status"`  // applied or rejected
	// AppliedVersion is that of the last one applied, where it is greater, or
	// this one was out of its reach.
	AppliedVersion uint64 `json:"applied_version,omitempty"`
	Reason         Reason `json:"reason,omitempty"`
	Nearest        *Goal  `json:"nearest,omitempty"` // to an infeasible goal, that can be had
	Mode           string `json:"mode,omitempty"`    // in force now; "goal" for one of figures
	Goal           *Goal  `json:"goal,omitempty"`    // in force now
	Member         string `json:"member,omitempty"`
	Detail         string `json:"detail,omitempty"` // what differs from the desired state, and why
}

// Ack is a state a command has passed.
type Ack struct {
	Schema  Schema `json:"schema"`
	ID      string `json:"id"`
	Verb    string `json:"verb"`
	State   Step   `json:"state"`
	Reason  Reason `json:"reason,omitempty"`
	Nearest *Goal  `json:"nearest,omitempty"` // to an infeasible goal, that can be had
	Detail  string `json:"detail,omitempty"`
	// Progress is how far a family or a release is on its way, while it is executed.
	Progress *Progress `json:"progress,omitempty"`
	// Shadow is what came of comparing a family with the one in use, up to now or in all.
	Shadow *Agreement `json:"shadow,omitempty"`
	// RolledBack tells of a failed family or release that the one before is in use again.
	RolledBack bool `json:"rolled_back,omitempty"`
	TS         Time `json:"ts"`
}

// Command is an action asked for; its verb and id are in the topic.
type Command struct {
	Schema    Schema `json:"schema"`
	Mode      string `json:"mode,omitempty"`       // of the verb mode
	Goal      *Goal  `json:"goal,omitempty"`       // of the verb goal
	PowerMode string `json:"power_mode,omitempty"` // of the verb power, with one of the two below or none
	// leave the mode to the board's next start
	AtReboot bool `json:"at_reboot,omitempty"`
	// reboot the board now if the mode takes it
	AllowReboot bool `json:"allow_reboot,omitempty"`

	Cancel       string   `json:"cancel,omitempty"` // of the verb cancel: the id of one of the verb family or release
	Update                // of the verb family
	ReleaseOrder          // of the verb release, with Update's Sources and Retry
	ExpiresAt    *Time    `json:"expires_at,omitempty"` // one of the two
	TTLMS        *float64 `json:"ttl_ms,omitempty"`     // counts from receipt, up to a year
}

// The verbs there are.
const (
	VerbMode    = "mode"
	VerbGoal    = "goal"
	VerbPower   = "power"
	VerbFamily  = "family"
	VerbRelease = "release"
	VerbCancel  = "cancel"
)

// Verb is the one that the command belongs to.
func (c Command) Verb() string {
	switch {
	case c.PowerMode != "":
		return VerbPower
	case c.Family != nil:
		return VerbFamily
	case c.Version != "":
		return VerbRelease
	case c.Cancel != "":
		return VerbCancel
	case c.Goal != nil:
		return VerbGoal
	}
	return VerbMode
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

// Check tells why a command of a verb can be obeyed by no device: it asks for
// something else, or for what none can have. Modes are the device's to judge.
func (c Command) Check(verb string) error {
	var missing error
	for _, field := range []struct {
		name, verb string
		given      bool
	}{
		{"mode", VerbMode, c.Mode != ""},
		{"goal", VerbGoal, c.Goal != nil},
		{"power_mode", VerbPower, c.PowerMode != ""},
		{"family", VerbFamily, c.Family != nil},
		{"version", VerbRelease, c.Version != ""},
		{"digest", VerbRelease, c.Digest != ""},
		{"cancel", VerbCancel, c.Cancel != ""},
	} {
		switch {
		case field.given && field.verb != verb:
			return fmt.Errorf("%s: the verb %s takes none: use the verb %s", field.name, verb, field.verb)
		case !field.given && field.verb == verb:
			missing = fmt.Errorf("the command has no %s", field.name)
		}
	}
	switch {
	case missing != nil:
		return missing
	case (c.AtReboot || c.AllowReboot) && verb != VerbPower:
		return fmt.Errorf("at_reboot, allow_reboot: the verb %s takes none: use the verb %s", verb, VerbPower)
	case c.Shadow != nil && verb != VerbFamily:
		return fmt.Errorf("shadow: the verb %s takes none: use the verb %s", verb, VerbFamily)
	case c.AtReboot && c.AllowReboot:
		return errors.New("both at_reboot and allow_reboot: set one of them")
	case c.Goal != nil:
		return c.Goal.Check()
	case c.Family != nil:
		return c.Update.Check()
	case c.Version != "":
		return cmp.Or(c.ReleaseOrder.Check(), checkSources(c.Sources))
	case c.Cancel != "" && !ValidName(c.Cancel):
		return fmt.Errorf("cancel: %.80q is not [A-Za-z0-9_.-]{1,64}", c.Cancel)
	}
	return nil
}

// Aim is what a command of the verb mode or goal asks for.
func (c Command) Aim() Aim { return Aim{Mode: c.Mode, Goal: c.Goal} }

// Check tells why a desired state cannot be applied by any device.
func (d Desired) Check() error {
	if d.Version == 0 {
		return errors.New("version: want a whole number from 1")
	}
	return d.Aim().Check()
}

// Aim is what the desired state asks for.
func (d Desired) Aim() Aim { return Aim{Mode: d.Mode, Goal: d.Goal} }
