package slot

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// schema of phase.json.
const schema = 1

// The phases of an update.
const (
	Idle       = "idle"
	Fetch      = "fetch"       // a release is being brought
	Stage      = "stage"       // and written to the slot that does not run
	Trial      = "trial"       // it is to prove itself
	Confirmed  = "confirmed"   // it has
	RolledBack = "rolled-back" // it has not, and the one before runs
	Undecided  = "undecided"   // it had no link, and neither had the one before
)

// Reason says why a release did not prove itself.
type Reason string

// Reasons that the launcher finds, and those that a release finds itself.
const (
	Crash Reason = "crash" // three starts failed
	Hang  Reason = "hang"  // no heartbeat, or no verdict in time

	NoLink    Reason = "no_link"
	Canary    Reason = "canary"
	Inference Reason = "inference"
	State     Reason = "state" // that of the release before cannot be read
)

func (r Reason) valid() bool {
	return slices.Contains([]Reason{Crash, Hang, NoLink, Canary, Inference, State}, r)
}

// Bounds of what a phase holds.
const (
	maxPhase    = 512 << 10 // bytes of phase.json
	maxRefused  = 64        // digests; the oldest is forgotten
	maxStarts   = 3         // of a release in one trial that failed
	maxCuts     = 10        // of a release in one trial that ended with the machine, before such a one is a failure
	maxStops    = 10        // of a release in one trial that was asked to stop, before such a one is a failure
	maxTrials   = 3         // of a release that never had a link
	maxPayload  = 64 << 10  // bytes of a command
	maxWord     = 128       // bytes of a version, or of an id
	maxTrialSec = 24 * 60 * 60
)

// MaxTail is how much of stderr is kept of a release that failed, in bytes.
const MaxTail = 16 << 10

// Phase is what goes on, phase.json.
type Phase struct {
	Schema      int      `json:"schema"`
	Phase       string   `json:"phase"`
	Slot        Name     `json:"slot"`                  // what is to run
	Previous    Name     `json:"previous"`              // what runs if that cannot
	Version     string   `json:"version,omitempty"`     // of the release that is fetched, staged, on trial or judged
	Digest      string   `json:"digest,omitempty"`      // of its manifest
	Starts      int      `json:"starts,omitempty"`      // in this trial, but for cuts and stops
	Cuts        int      `json:"cuts,omitempty"`        // starts that ended with the machine
	Stops       int      `json:"stops,omitempty"`       // starts that were stopped as asked
	Boot        string   `json:"boot,omitempty"`        // names the machine's run of the last start
	Trials      int      `json:"trials,omitempty"`      // of this digest since it was last allowed
	TrialS      int      `json:"trial_s,omitempty"`     // seconds until the verdict
	Verdict     Reason   `json:"verdict,omitempty"`     // of the release on itself: it failed
	Provisional bool     `json:"provisional,omitempty"` // rolled back for want of a link: Stand or Withdraw
	Refused     []string `json:"refused,omitempty"`     // digests, the oldest first
	Last        *Last    `json:"last,omitempty"`        // verdict
	Command     *Command `json:"command,omitempty"`     // whose end is still to be told
}

// Last is how an update ended.
type Last struct {
	Version string    `json:"version"`
	Outcome string    `json:"outcome"` // Confirmed, RolledBack, Undecided
	Reason  Reason    `json:"reason"`  // empty if confirmed
	Tail    string    `json:"tail"`    // the last words of what failed on stderr, at most 16 KiB
	TS      time.Time `json:"ts"`      // a label: by the clock on the wall
	Told    bool      `json:"told,omitempty"`
}

// Command is the one that asked for the update.
type Command struct {
	ID      string          `json:"id"`
	Payload json.RawMessage `json:"payload"`
}

// Parse reads phase.json.
func Parse(b []byte) (Phase, error) {
	var p Phase
	if len(b) > maxPhase {
		return Phase{}, fmt.Errorf("more than %d bytes", maxPhase)
	}
	if err := json.Unmarshal(b, &p); err != nil {
		return Phase{}, err
	}
	if err := p.validate(); err != nil {
		return Phase{}, err
	}
	return p, nil
}

func (p *Phase) validate() error {
	trial := p.Phase == Trial
	switch {
	case p.Schema != schema:
		return fmt.Errorf("schema %d is not %d", p.Schema, schema)
	case !slices.Contains([]string{Idle, Fetch, Stage, Trial, Confirmed, RolledBack, Undecided}, p.Phase):
		return fmt.Errorf("phase %.80q is not known", p.Phase)
	case !known(p.Slot), !known(p.Previous):
		return fmt.Errorf("slot %.80q or previous %.80q is not known", p.Slot, p.Previous)
	case trial && (p.Slot == Package || p.Slot == p.Previous || p.Digest == "" || p.TrialS < 1):
		return errors.New("a trial lacks its slot, its digest or its time")
	case min(p.Starts, p.Cuts, p.Stops, p.Trials, p.TrialS) < 0 || p.TrialS > maxTrialSec:
		return errors.New("starts, cuts, stops, trials or trial_s out of range")
	case p.Verdict != "" && (!p.Verdict.valid() || !trial):
		return fmt.Errorf("verdict %.80q in phase %s", p.Verdict, p.Phase)
	case p.Provisional && p.Phase != RolledBack:
		return fmt.Errorf("provisional in phase %s", p.Phase)
	}
	return errors.Join(p.validateNames(), p.Last.validate(), p.Command.validate())
}

func known(n Name) bool { return n == Package || n == A || n == B }

func (p *Phase) validateNames() error {
	switch {
	case len(p.Version) > maxWord, len(p.Boot) > maxWord:
		return fmt.Errorf("version or boot of %d bytes", max(len(p.Version), len(p.Boot)))
	case p.Digest != "" && !validDigest(p.Digest):
		return fmt.Errorf("digest %.80q is none", p.Digest)
	case len(p.Refused) > maxRefused:
		return fmt.Errorf("%d digests refused", len(p.Refused))
	}
	for _, d := range p.Refused {
		if !validDigest(d) {
			return fmt.Errorf("refused %.80q is no digest", d)
		}
	}
	return nil
}

func (l *Last) validate() error {
	switch {
	case l == nil:
		return nil
	case !slices.Contains([]string{Confirmed, RolledBack, Undecided}, l.Outcome):
		return fmt.Errorf("last outcome %.80q is not known", l.Outcome)
	case l.Reason != "" && !l.Reason.valid():
		return fmt.Errorf("last reason %.80q is not known", l.Reason)
	case len(l.Version) > maxWord || len(l.Tail) > 3*MaxTail: // a byte that is no UTF-8 becomes three
		return errors.New("last version or tail is too long")
	}
	return nil
}

func (c *Command) validate() error {
	switch {
	case c == nil:
		return nil
	case c.ID == "" || len(c.ID) > maxWord:
		return fmt.Errorf("command id %.80q", c.ID)
	case len(c.Payload) > maxPayload || !json.Valid(c.Payload):
		return fmt.Errorf("command payload of %d bytes, or no JSON", len(c.Payload))
	}
	return nil
}

// InTrial tells whether a release is to prove itself.
func (p *Phase) InTrial() bool { return p.Phase == Trial }

// Spent tells whether a trial had all its starts.
func (p *Phase) Spent() bool { return p.Starts >= maxStarts }

// Cut tells whether the last start ended with the machine, of whose present run boot is the
// name, "" if that is not known. It is none of those that failed then, as long as there are
// not too many: a release may be why its machine goes down.
func (p *Phase) Cut(boot string) bool {
	return p.Starts > 0 && p.Cuts < maxCuts && boot != "" && p.Boot != "" && p.Boot != boot
}

// IsRefused tells whether a digest may not be tried, until it is allowed again.
func (p *Phase) IsRefused(digest string) bool { return slices.Contains(p.Refused, digest) }

func (p *Phase) refuse(digest string) {
	if p.IsRefused(digest) {
		return
	}
	p.Refused = append(p.Refused, digest)
	p.Refused = slices.Delete(p.Refused, 0, max(0, len(p.Refused)-maxRefused))
}

// allow makes a digest that was refused one like any other.
func (p *Phase) allow(digest string) {
	p.Refused = slices.DeleteFunc(p.Refused, func(d string) bool { return d == digest })
	if p.Digest == digest {
		p.Trials = 0
	}
}

// Candidates are the programs that may run in this phase, the best first.
func (p *Phase) Candidates() []Name {
	all := []Name{p.Slot}
	for _, n := range []Name{p.Previous, Package} {
		if !slices.Contains(all, n) {
			all = append(all, n)
		}
	}
	return all
}

// Limit is how long the trial may take, until its verdict is written.
func (p *Phase) Limit() time.Duration { return time.Duration(p.TrialS) * time.Second }
