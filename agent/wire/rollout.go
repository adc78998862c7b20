package wire

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Labels are what operators say of a device. The device does not know them.
type Labels struct {
	Schema Schema            `json:"schema"`
	Labels map[string]string `json:"labels"`
}

// MaxLabels is how many labels a device may have.
const MaxLabels = 32

// Check tells why no device can have the labels.
func (l Labels) Check() error {
	if len(l.Labels) > MaxLabels {
		return fmt.Errorf("labels: %d are more than %d", len(l.Labels), MaxLabels)
	}
	for key, value := range l.Labels {
		if !ValidName(key) || !ValidName(value) {
			return fmt.Errorf("labels: %.80q=%.80q: both must be [A-Za-z0-9_.-]{1,64}", key, value)
		}
	}
	return nil
}

// RolloutCommand is what the controller is asked to do with a rollout. The id of the
// command is in the topic.
type RolloutCommand struct {
	Schema    Schema       `json:"schema"`
	Action    string       `json:"action"`             // Start and so on
	Rollout   string       `json:"rollout"`            // its id
	Spec      *RolloutSpec `json:"spec,omitempty"`     // of Start
	Rollback  bool         `json:"rollback,omitempty"` // of Abort: those done go back
	ExpiresAt *Time        `json:"expires_at,omitempty"`
	TTLMS     *float64     `json:"ttl_ms,omitempty"` // one of the two, see Command
}

// VerbRollout is the verb of the controller's commands.
const VerbRollout = "rollout"

// What a RolloutCommand may ask for.
const (
	RolloutStart   = "start"
	RolloutPause   = "pause"   // start it on no further device
	RolloutResume  = "resume"  // go on
	RolloutApprove = "approve" // let the next phase begin
	RolloutAbort   = "abort"   // end it
	RolloutRetry   = "retry"   // once more on the devices on which it failed
)

// RolloutActions are all there are.
func RolloutActions() []string {
	return []string{RolloutStart, RolloutPause, RolloutResume, RolloutApprove, RolloutAbort, RolloutRetry}
}

// RolloutSpec is what is rolled out, to whom, and what it must show on the way. It asks
// for a family, a release, a mode or a goal, one of the four.
type RolloutSpec struct {
	Update                  // a family, and how a device takes it; sources and retry are a release's as well
	Release *RolloutRelease `json:"release,omitempty"`
	Mode    string          `json:"mode,omitempty"`
	Goal    *Goal           `json:"goal,omitempty"`

	Where  string   `json:"where"`            // which devices; empty: all
	Canary []string `json:"canary,omitempty"` // devices of the first phase, before the others
	// Phases are their sizes, each a number of devices or a percentage of all such as "5%",
	// counted from the first device; empty: DefaultPhases.
	Phases []string `json:"phases,omitempty"`
	Gates  []Gate   `json:"gates,omitempty"` // empty: all that there are for what is rolled out

	Observe int      `json:"observe,omitempty"` // frames that a gate needs; 0: 200
	SoakMS  *float64 `json:"soak_ms,omitempty"` // how long a phase is observed at least; nil: 10 minutes
	ForMS   *float64 `json:"for_ms,omitempty"`  // how long it may take on a device from its start; nil: 24 hours

	MaxUnavailable *Unavailable `json:"max_unavailable,omitempty"`

	Approve   bool `json:"approve,omitempty"`   // each phase waits for Approve
	Follow    bool `json:"follow,omitempty"`    // devices that come to fit later are taken into the last phase
	Supersede bool `json:"supersede,omitempty"` // a rollout of the same kind that overlaps ends
	Rollback  bool `json:"rollback,omitempty"`  // where a gate fails, those done go back
}

// RolloutRelease is a release of the program, for devices of several architectures.
type RolloutRelease struct {
	Version   string       `json:"version"`
	Manifests []ReleaseFor `json:"manifests"`           // one for each architecture
	Downgrade bool         `json:"downgrade,omitempty"` // as of ReleaseOrder
	OneWay    bool         `json:"one_way,omitempty"`   // likewise
}

// ReleaseFor names the manifest of a release for an architecture.
type ReleaseFor struct {
	Arch   string `json:"arch"`   // as Caps have it
	Digest string `json:"digest"` // "sha256:" and hex digits
}

// maxArchs is for how many architectures there may be a release.
const maxArchs = 16

// Check tells why no device can take it.
func (r RolloutRelease) Check() error {
	if n := len(r.Manifests); n < 1 || n > maxArchs {
		return fmt.Errorf("release.manifests: %d: want those of 1 to %d architectures", n, maxArchs)
	}
	for i, m := range r.Manifests {
		if !ValidName(m.Arch) || r.Digest(m.Arch) != m.Digest {
			return fmt.Errorf("release.manifests: %d: %.80q is no architecture such as arm64, or is named twice", i, m.Arch)
		}
		if err := (ReleaseOrder{Version: r.Version, Digest: m.Digest}).Check(); err != nil {
			return fmt.Errorf("release.%w", err)
		}
	}
	return nil
}

// Digest is that of the manifest for an architecture; "" where there is none.
func (r RolloutRelease) Digest(arch string) string {
	for _, m := range r.Manifests {
		if m.Arch == arch {
			return m.Digest
		}
	}
	return ""
}

// Gate is a limit that a phase must keep.
type Gate struct {
	Name  string `json:"name"`  // GateSuccess and so on
	Limit string `json:"limit"` // a figure such as "0.95"; with "x" behind it, times the baseline
}

// The gates.
const (
	GateAgreement = "agreement" // frames with the same first class as the family before, of those compared; at least
	GateSuccess   = "success"   // devices that succeeded, of those that ended; at least
	GateMisses    = "misses"    // frames answered after their deadline, of all answered; at most
	GateP95       = "p95"       // of infer; at most
)

// Unavailable bounds how many devices with one value of a label are between locked and
// committed at once.
type Unavailable struct {
	N     int    `json:"n"`
	Label string `json:"label"`
}

// Kind is what the spec rolls out: "family", "release", "mode" or "goal".
func (s RolloutSpec) Kind() string {
	switch {
	case s.Family != nil:
		return VerbFamily
	case s.Release != nil:
		return VerbRelease
	case s.Goal != nil:
		return VerbGoal
	}
	return VerbMode
}

// Check tells why no controller can do it, as far as the form shows.
func (s RolloutSpec) Check() error {
	asked := 0
	for _, given := range []bool{s.Family != nil, s.Release != nil, s.Goal != nil, s.Mode != ""} {
		if given {
			asked++
		}
	}
	switch {
	case asked != 1:
		return errors.New("spec: want one of family, release, mode and goal")
	case s.Shadow != nil && s.Family == nil:
		return errors.New("shadow: it is of a family, nothing else is compared")
	case s.Family != nil:
		return s.Update.Check()
	case s.Release != nil:
		return s.checkRelease()
	case s.Goal != nil:
		return s.Goal.Check()
	}
	return nil
}

func (s RolloutSpec) checkRelease() error {
	switch {
	case s.Probation != nil || s.Force:
		return errors.New("probation, force: they are of a family; a release has a trial, and waits for the lock")
	case s.Rollback && s.Release.OneWay:
		return errors.New("rollback: the version before cannot read the state that a one-way release leaves")
	}
	return cmp.Or(s.Release.Check(), checkSources(s.Sources))
}

// Check tells why no controller can obey.
func (c RolloutCommand) Check() error {
	switch {
	case !slices.Contains(RolloutActions(), c.Action):
		return fmt.Errorf("action: %.80q is none of %v", c.Action, RolloutActions())
	case !ValidName(c.Rollout):
		return fmt.Errorf("rollout: %.80q is not [A-Za-z0-9_.-]{1,64}", c.Rollout)
	case (c.Action == RolloutStart) != (c.Spec != nil):
		return errors.New("spec: start has one, nothing else has")
	case c.Spec != nil:
		return c.Spec.Check()
	}
	return nil
}

// Expiry is that of Command.
func (c RolloutCommand) Expiry(received time.Time) (time.Time, error) {
	return Command{ExpiresAt: c.ExpiresAt, TTLMS: c.TTLMS}.Expiry(received)
}

// RolloutState is where a rollout stands.
type RolloutState string

// The states of a rollout; the last three are final.
const (
	RolloutRunning  RolloutState = "running"
	RolloutWaiting  RolloutState = "waiting" // for evidence, or for a device to be online; Why says which
	RolloutPaused   RolloutState = "paused"
	RolloutApproval RolloutState = "approval" // waits for Approve
	RolloutDone     RolloutState = "done"
	RolloutFailed   RolloutState = "failed" // a gate did
	RolloutAborted  RolloutState = "aborted"
)

// Final tells whether nothing follows.
func (s RolloutState) Final() bool {
	return s == RolloutDone || s == RolloutFailed || s == RolloutAborted
}

// Rollout is a rollout as the controller retains it. One of more than MaxControl bytes
// has no Devices, which follow in Parts messages of their own, rollout/{id}.{n} with n
// from 1, that have nothing else but the id.
type Rollout struct {
	Schema  Schema          `json:"schema"`
	ID      string          `json:"id"`
	Kind    string          `json:"kind,omitempty"`
	TS      *Time           `json:"ts,omitempty"` // of its start
	State   RolloutState    `json:"state,omitempty"`
	Why     string          `json:"why,omitempty"`   // it waits, was paused or has failed
	Spec    *RolloutSpec    `json:"spec,omitempty"`  // as it was asked for, with what it left to defaults
	Phase   int             `json:"phase,omitempty"` // the one under way, from 1
	Phases  []RolloutPhase  `json:"phases,omitempty"`
	Devices []RolloutDevice `json:"devices,omitempty"`
	Parts   int             `json:"parts,omitempty"` // that have the devices
}

// RolloutPhase is a part of the devices, which take it together.
type RolloutPhase struct {
	Size   int           `json:"size"` // devices in it
	State  string        `json:"state"`
	Counts RolloutCounts `json:"counts"`
	Gates  []RolloutGate `json:"gates,omitempty"` // as far as they were looked at
}

// The states of a phase.
const (
	PhasePending = "pending"
	PhaseRunning = "running"
	PhasePassed  = "passed"
	PhaseFailed  = "failed"
)

// RolloutCounts are the devices of a phase by their states.
type RolloutCounts struct {
	Pending    int `json:"pending,omitempty"`
	Offline    int `json:"offline,omitempty"`
	Running    int `json:"running,omitempty"`
	Succeeded  int `json:"succeeded,omitempty"`
	Failed     int `json:"failed,omitempty"`
	TimedOut   int `json:"timed_out,omitempty"`
	Already    int `json:"already,omitempty"`
	Superseded int `json:"superseded,omitempty"`
	Cancelled  int `json:"cancelled,omitempty"`
	RolledBack int `json:"rolled_back,omitempty"`
}

// RolloutGate is what became of a gate.
type RolloutGate struct {
	Name    string   `json:"name"`
	Value   *float64 `json:"value,omitempty"`    // absent where there is none yet
	Limit   float64  `json:"limit,omitempty"`    // in figures, the baseline being known
	LimitBy string   `json:"limit_by,omitempty"` // as it was asked for
	Frames  uint64   `json:"frames"`             // that the value is of
	Verdict string   `json:"verdict"`            // GatePass and so on
}

// The verdicts of a gate.
const (
	GatePass = "pass"
	GateFail = "fail"
	GateWait = "wait" // there is not enough evidence
)

// RolloutDevice is where a rollout stands on a device.
type RolloutDevice struct {
	Device  string `json:"device"`
	Machine string `json:"machine,omitempty"`
	State   string `json:"state"` // DevicePending and so on
	Reason  Reason `json:"reason,omitempty"`
	Detail  string `json:"detail,omitempty"`
	Attempt int    `json:"attempt,omitempty"` // commands that it was sent, from 1
	TS      *Time  `json:"ts,omitempty"`      // since when
	// Shadow is what came of comparing the family with the one in use, as the device said lastly.
	Shadow *Agreement `json:"shadow,omitempty"`
}

// The states of a device in a rollout.
const (
	DevicePending    = "pending"
	DeviceOffline    = "offline" // it would be its turn
	DeviceRunning    = "running" // it was commanded
	DeviceSucceeded  = "succeeded"
	DeviceFailed     = "failed"
	DeviceTimedOut   = "timed_out"
	DeviceAlready    = "already"    // it was there before
	DeviceSuperseded = "superseded" // another rollout took its place
	DeviceCancelled  = "cancelled"  // the rollout ended before its turn
	DeviceRolledBack = "rolled_back"
)
