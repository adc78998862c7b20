package rollout

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/limber-edge/limber/agent/wire"
)

// perPart is how many devices a part of a document has: as many as fit under
// wire.MaxControl whatever they say, so that a device never moves to another part.
const perPart = 150

// maxWord is the length limit of a device's machine and reason, in bytes.
const maxWord = 16

// maxDetail is the length limit of a device's detail, in bytes of JSON.
const maxDetail = 96

// Document is the rollout as others see it. The first is rollout/{id}; where it would be
// more than wire.MaxControl bytes with the devices, these are in the parts that follow,
// perPart in each.
func (r *Record) Document() []wire.Rollout {
	doc := wire.Rollout{ID: r.ID, Kind: r.Spec.Kind(), TS: &r.Start, State: r.State, Why: r.Why, Spec: &r.Spec,
		Phase: r.Phase + 1}
	for p := range r.Phases {
		doc.Phases = append(doc.Phases, wire.RolloutPhase{Size: r.Phases[p].Size, State: r.Phases[p].State,
			Counts: r.counts(p), Gates: r.Phases[p].Gates})
		begun := r.begun(p)
		devices := r.of(p)
		for i := range devices {
			doc.Devices = append(doc.Devices, devices[i].document(begun))
		}
	}
	if b, err := json.Marshal(doc); err == nil && len(b) <= wire.MaxControl {
		return []wire.Rollout{doc}
	}
	all := []wire.Rollout{doc}
	for part := range slices.Chunk(doc.Devices, perPart) {
		all = append(all, wire.Rollout{ID: r.ID, Devices: part})
	}
	all[0].Devices, all[0].Parts = nil, len(all)-1
	return all
}

// document is the device as others see it.
func (d *device) document(begun bool) wire.RolloutDevice {
	is := wire.RolloutDevice{Device: d.Name, Machine: d.Machine, State: d.shown(begun), Reason: d.Reason,
		Detail: d.Detail, Attempt: d.Attempt, TS: new(wire.At(time.UnixMilli(d.Since))), Shadow: d.Shadow.told()}
	if d.Stray && is.Detail == "" {
		is.Detail = "it does not fit any more, and keeps its place"
	}
	return is
}

// short is a text of at most maxDetail bytes as JSON.
func short(text string) string {
	if b, err := json.Marshal(text); err == nil && len(b)-2 <= maxDetail {
		return text
	}
	room := maxDetail - len("...")
	var cut strings.Builder
	for _, c := range text {
		b, _ := json.Marshal(string(c))
		if room -= len(b) - 2; room < 0 || c == utf8.RuneError {
			break
		}
		cut.WriteRune(c)
	}
	return cut.String() + "..."
}

// UnmarshalJSON reads a Record that was stored. It takes none whose parts do not fit
// together.
func (r *Record) UnmarshalJSON(b []byte) error {
	type plain Record
	var is plain
	if err := json.Unmarshal(b, &is); err != nil {
		return err
	}
	*r = Record(is)
	if err := r.check(); err != nil {
		return fmt.Errorf("rollout %.80q: %w", r.ID, err)
	}
	return nil
}

// check tells what does not fit together.
func (r *Record) check() error {
	size := 0
	for _, p := range r.Phases {
		if !slices.Contains([]string{wire.PhasePending, wire.PhaseRunning, wire.PhasePassed, wire.PhaseFailed}, p.State) {
			return fmt.Errorf("%.40q is no state of a phase", p.State)
		}
		if p.Size < 0 || p.Size > len(r.Devices)-size {
			return errors.New("the phases have other devices than the rollout")
		}
		size += p.Size
	}
	switch {
	case checkID(r.ID, nil) != nil:
		return errors.New("the id is none")
	case size != len(r.Devices) || r.Phase < 0 || r.Phase >= len(r.Phases):
		return errors.New("the phases have other devices than the rollout")
	case !slices.Contains(states(), r.State):
		return fmt.Errorf("%.40q is no state of a rollout", r.State)
	case r.Spec.SoakMS == nil || r.Spec.ForMS == nil:
		return errors.New("the spec is not complete")
	}
	for i := range r.Devices {
		if err := r.checkDevice(&r.Devices[i]); err != nil {
			return err
		}
	}
	return check(r.Spec)
}

// states are those of a rollout.
func states() []wire.RolloutState {
	return []wire.RolloutState{wire.RolloutRunning, wire.RolloutWaiting, wire.RolloutPaused, wire.RolloutApproval,
		wire.RolloutDone, wire.RolloutFailed, wire.RolloutAborted}
}

// deviceStates are those of a device, as a Record has them.
func deviceStates() []string {
	return []string{wire.DevicePending, wire.DeviceRunning, wire.DeviceSucceeded, wire.DeviceFailed, wire.DeviceTimedOut,
		wire.DeviceAlready, wire.DeviceSuperseded, wire.DeviceCancelled, wire.DeviceRolledBack}
}

// checkDevice tells what of a device does not fit to the rest.
func (r *Record) checkDevice(d *device) error {
	_, sent := r.Sent[d.Sent]
	_, cancel := r.Sent[d.Cancel]
	switch {
	case !slices.Contains(deviceStates(), d.State):
		return fmt.Errorf("device %.80q: %.40q is no state", d.Name, d.State)
	case !wire.ValidName(d.Name):
		return fmt.Errorf("device %.80q is no name", d.Name)
	case d.Sent != 0 && !sent || d.Cancel > 0 && !cancel || d.State == wire.DeviceRunning && d.Sent == 0 ||
		d.Sent != 0 && d.State != wire.DeviceRunning && d.State != wire.DeviceTimedOut:
		return fmt.Errorf("device %s: its command is not there", d.Name)
	case d.Before < 0 || d.Before > len(r.Before) || d.Back && d.Before == 0:
		return fmt.Errorf("device %s: what it goes back to is not there", d.Name)
	case d.Before > 0 && !r.Before[d.Before-1].of(r.Spec.Kind()):
		return fmt.Errorf("device %s: it goes back to something else", d.Name)
	case d.Shadow.check() != nil:
		return fmt.Errorf("device %s: %w", d.Name, d.Shadow.check())
	}
	return nil
}
