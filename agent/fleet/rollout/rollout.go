// Package rollout holds the rules by which a family, a release of the program, a mode or a
// goal reaches the devices of a fleet. It knows no network, no disk and no clock: a Record is told what
// happened and what time it is, and says what is to be sent.
//
//	rollout: running ⇄ waiting ⇄ approval, paused → done
//	            └───────┴──── a gate fails, or abort → (ways back) → failed | aborted
//	phase:   pending → running → passed | failed
//	device:  pending → running → succeeded | failed | timed_out | cancelled
//	            │ └→ already | superseded   └→ (way back) running → rolled_back
//	            └ offline meanwhile, which is no state of its own
//
// The one rule: a command is in the Record, to the byte, before it is sent. Who stores
// the Record, then sends its Commands, and after a crash sends those of the Record that
// was stored, has no device do anything twice: the same bytes under the same id are the
// same command, which the device's ledger answers.
//
// What is not said elsewhere:
//   - A phase passes when some of its devices are there, none of these is pending or
//     running, all gates pass, and it was observed for the soak since. Devices that come
//     back later start at once, as long as the rollout lives; their failures still count
//     against the success of their phase, also when that has passed.
//   - An answer may be lost while the controller is dead. So a device that says of itself
//     at its expiry that it has what it was commanded has done it.
//   - What a device answers after its time is over still counts while the rollout lives: it
//     was off, and did in time what it tells of. Once the rollout has ended its detail says so.
//   - Another machine under the name of a device takes the rollout anew, up to five times:
//     after that it is a failure, so that devices which share a name keep no phase open.
//   - Nobody knows where between fetching and answering a device is that was commanded.
//     So MaxUnavailable counts it from its command until it has answered, offline or not.
//     Devices without the label count as those of one value.
//   - A rollout that ends takes families and releases back that have not begun to activate;
//     those that come through nevertheless go back if they should, unless a later rollout
//     took them since.
//   - A device takes one family or release at a time. So it is not commanded while it is at
//     one, or has still to answer another rollout of either kind.
//   - A device goes back to the release before by a command, as to an older one. Whether that
//     may take the place of the one that runs says its manifest, which the device reads: it
//     refuses what may not, and stays. The program of a package is no release to go back to.
//   - A family is compared on each device before it answers there, where the gate agreement
//     is asked for. A device that cannot compare is not commanded: it would take the family.
//   - A rollout that does nothing but compare changes nothing: no other has to go back behind
//     it, and nothing goes back for it. It lets all devices of a phase tell before it judges,
//     and asks none of them to judge by itself, as that would have the family refused later.
package rollout

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/wire"
)

// Record is a rollout: all that the controller must know of it, as JSON. It is not for
// several goroutines at once.
type Record struct {
	ID      string            `json:"id"`
	Spec    wire.RolloutSpec  `json:"spec"` // complete
	Start   wire.Time         `json:"ts"`
	State   wire.RolloutState `json:"state"`
	Why     string            `json:"why,omitempty"`
	End     *ending           `json:"end,omitempty"`
	Paused  bool              `json:"paused,omitempty"` // by Act
	Held    string            `json:"held,omitempty"`   // why devices that are there were not started by the last Step
	Phase   int               `json:"phase"`            // the one under way, from 0
	Phases  []phase           `json:"phases"`
	Devices []device          `json:"devices"`          // in their order, those of a phase behind one another
	Sent    map[int]sent      `json:"sent,omitempty"`   // commands that are not answered
	Before  []before          `json:"before,omitempty"` // what devices go back to
	Looked  wire.Time         `json:"looked,omitzero"`  // when the gates were last written down

	at map[string]int // the place of each device; made when needed
}

// ending is how a rollout ends, once the commands under way are answered.
type ending struct {
	State wire.RolloutState `json:"state"` // final
	Why   string            `json:"why"`
	Back  bool              `json:"back,omitempty"` // those done go back
}

// phase is a part of the devices, which take it together.
type phase struct {
	Size     int                `json:"size"` // devices in it
	State    string             `json:"state"`
	Approved bool               `json:"approved,omitempty"`
	Retried  wire.Time          `json:"retried,omitzero"` // what was answered before is no evidence
	Base     wire.Time          `json:"base,omitzero"`    // when the baselines were taken: from then on devices start
	Settled  wire.Time          `json:"settled,omitzero"` // when all its devices that are there had first ended
	Passed   wire.Time          `json:"passed,omitzero"`
	Gates    []wire.RolloutGate `json:"gates,omitempty"` // as of Record.Looked
}

// device is where the rollout stands on a device. Its keys are short, as a Record has
// up to fleet.MaxDevices of them.
type device struct {
	identity
	Name    string      `json:"d"`
	State   string      `json:"s"`           // one of wire's, but never offline, which Off tells
	Off     bool        `json:"o,omitempty"` // it is not there
	Stray   bool        `json:"x,omitempty"` // it does not fit any more, and keeps its place
	Back    bool        `json:"k,omitempty"` // it is to go back, is on its way back, or was when it timed out
	Heard   bool        `json:"h,omitempty"` // it has told of its command
	Reason  wire.Reason `json:"r,omitempty"`
	Detail  string      `json:"t,omitempty"` // of at most maxDetail bytes as JSON
	Attempt int         `json:"a,omitempty"` // commands that it was sent
	Since   int64       `json:"c"`           // of its State, Unix time in ms
	Due     int64       `json:"e,omitempty"` // when it times out, likewise; 0: it does not
	Sent    int         `json:"n,omitempty"` // its command that is not answered, of Record.Sent; 0: none
	Cancel  int         `json:"q,omitempty"` // what takes that back, likewise; -1: it was in vain
	Before  int         `json:"b,omitempty"` // what it goes back to, of Record.Before, from 1
	figures
}

// figures are what a device answered, or would have.
type figures struct {
	Base   tally    `json:"l,omitzero"` // its own hour before
	Shadow compared `json:"g,omitzero"` // the candidate beside its family
}

// identity is which machine has the name of a device.
type identity struct {
	Machine string `json:"m,omitempty"`
	Changes int    `json:"w,omitempty"` // how often it was another one
}

// sent is a command, which may be that of several devices.
type sent struct {
	Verb    string          `json:"verb"`
	ID      string          `json:"id"`
	Payload json.RawMessage `json:"payload"`
}

// before is what devices had before the rollout: a family, a release, or a mode or goal.
type before struct {
	Family  *wire.Family  `json:"family,omitempty"`
	Release *wire.Release `json:"release,omitempty"` // without its slot
	Aim     wire.Aim      `json:"aim,omitzero"`
}

// same tells whether two are.
func (b before) same(o before) bool {
	return equal(b.Family, o.Family) && equal(b.Release, o.Release) && b.Aim.Same(o.Aim)
}

func equal[T comparable](a, b *T) bool { return a == b || a != nil && b != nil && *a == *b }

// of tells whether it is what a kind of rollout changes.
func (b before) of(kind string) bool {
	return (b.Family != nil) == (kind == wire.VerbFamily) && (b.Release != nil) == (kind == wire.VerbRelease)
}

// Picture is the fleet as it is known. *fleet.Registry is one.
type Picture interface {
	Devices() []fleet.Device
	Device(name string) fleet.Device // of one that is not known, its name
}

// Where tells which devices a rollout is for.
type Where interface {
	Fits(fleet.Device) bool
}

// View is what is seen of the fleet.
type View struct {
	Picture  Picture
	Where    Where // what the rollout's Spec.Where says
	Evidence *Evidence
	Others   []*Record // the other rollouts
}

// maxID is the length limit of a rollout's id, in bytes: with the number of an attempt
// behind it, it is the id of a command.
const maxID = 48

// New is a rollout of the devices that fit, of which none is started yet: see Step. With
// Supersede it takes the devices that another one has not started from that, so Others
// must be stored with it. Its errors are *wire.Refusal: Invalid for one that cannot be
// done, Precondition where no device fits or one is of an architecture that the release is
// not for, Conflict for one that is in the way of another.
func New(id string, spec wire.RolloutSpec, v View, now time.Time) (*Record, error) {
	spec, err := Complete(spec)
	if err != nil {
		return nil, err
	}
	if err := checkID(id, v.Others); err != nil {
		return nil, err
	}
	r := &Record{ID: id, Spec: spec, Start: wire.At(now), State: wire.RolloutRunning}
	devices := map[string]fleet.Device{}
	var names []string
	for _, d := range v.Picture.Devices() {
		if v.Where.Fits(d) {
			devices[d.Name], names = d, append(names, d.Name)
		}
	}
	if err := r.enlist(names, devices, now); err != nil {
		return nil, err
	}
	if err := r.checkArch(names, devices); err != nil {
		return nil, err
	}
	if err := r.clear(v.Others, now); err != nil {
		return nil, err
	}
	r.tell()
	return r, nil
}

func checkID(id string, others []*Record) error {
	if i := strings.LastIndexByte(id, '.'); i >= 0 && strings.Trim(id[i+1:], "0123456789") == "" {
		return wire.Refuse(wire.Invalid, "rollout: the id %.80q ends as the part of another would: leave out %q", id, id[i:])
	}
	if !wire.ValidName(id) || len(id) > maxID {
		return wire.Refuse(wire.Invalid, "rollout: the id %.80q is not [A-Za-z0-9_.-]{1,%d}", id, maxID)
	}
	if slices.ContainsFunc(others, func(o *Record) bool { return o.ID == id }) {
		return wire.Refuse(wire.Conflict, "rollout: there is one of the id %s: choose another", id)
	}
	return nil
}

// enlist puts the devices in their order, and divides them into phases.
func (r *Record) enlist(names []string, devices map[string]fleet.Device, now time.Time) error {
	for _, name := range r.Spec.Canary {
		if _, ok := devices[name]; !ok {
			return wire.Refuse(wire.Invalid, "canary: %s is not one of the devices that fit %q", name, r.Spec.Where)
		}
	}
	switch {
	case len(names) == 0:
		return wire.Refuse(wire.Precondition, "no device that is known fits %q; see `limber fleet ls`", r.Spec.Where)
	case len(names) > fleet.MaxDevices:
		return wire.Refuse(wire.Invalid, "%d devices fit, more than %d: divide them", len(names), fleet.MaxDevices)
	}
	canaries := slices.Compact(slices.Sorted(slices.Values(r.Spec.Canary)))
	sizes, err := sizes(r.Spec.Phases, len(canaries), len(names))
	if err != nil {
		return &wire.Refusal{Reason: wire.Invalid, Err: err}
	}
	for _, n := range sizes {
		r.Phases = append(r.Phases, phase{Size: n, State: wire.PhasePending})
	}
	for _, name := range ordered(r.ID, r.Spec.Canary, names) {
		r.Devices = append(r.Devices, r.newDevice(devices[name], now))
	}
	return nil
}

// checkArch refuses a release for devices that say of themselves that it cannot be for them.
// Those that say nothing may have said it when their turn comes.
func (r *Record) checkArch(names []string, devices map[string]fleet.Device) error {
	if r.Spec.Release == nil {
		return nil
	}
	var lacking, archs []string
	for _, name := range names {
		if a := arch(devices[name]); a != "" && r.Spec.Release.Digest(a) == "" {
			lacking, archs = append(lacking, name), append(archs, a)
		}
	}
	if lacking == nil {
		return nil
	}
	archs = slices.Compact(slices.Sorted(slices.Values(archs)))
	archs = archs[:min(len(archs), 4)] // there are no more, but for what devices make up
	return wire.Refuse(wire.Precondition, "there is no release %s for %s, which %s would need: add it to the repository, or "+
		"leave them out with %s in where", r.Spec.Release.Version, strings.Join(archs, " and "), some(lacking),
		"arch!="+strings.Join(archs, ",arch!="))
}

// arch is the architecture that a device's program is for; "" if that is not known.
func arch(d fleet.Device) string {
	if d.Caps == nil {
		return ""
	}
	return word(d.Caps.Arch)
}

// newDevice is one that the rollout has not come to, or that is there already.
func (r *Record) newDevice(d fleet.Device, now time.Time) device {
	is := device{identity: identity{Machine: machine(d)}, Name: d.Name, State: wire.DevicePending, Off: !d.Online(),
		Since: now.UnixMilli()}
	if r.has(d) {
		is.State = wire.DeviceAlready
	}
	return is
}

// machine is what the device says of its machine; "" if that is not known.
func machine(d fleet.Device) string {
	if d.Caps == nil {
		return ""
	}
	return word(d.Caps.Machine)
}

// word is what a device says in one short word, or "": it is stored, and told to others
// in documents that bound it.
func word(s string) string {
	if len(s) > maxWord || !wire.ValidName(s) {
		return ""
	}
	return s
}

// has tells whether the device is where the rollout leads. A release on trial may go back.
func (r *Record) has(d fleet.Device) bool {
	is := present(d, r.Spec.Kind())
	switch {
	case r.Spec.Family != nil:
		return is.Family != nil && is.Family.Digest == r.Spec.Family.Digest
	case r.Spec.Release != nil:
		return is.Release != nil && is.Release.Digest == r.Spec.Release.Digest(arch(d)) && updates(d) == ""
	}
	return is.Aim != wire.Aim{} && is.Aim.Same(wire.Aim{Mode: r.Spec.Mode, Goal: r.Spec.Goal})
}

// present is what the device has now of what a kind of rollout changes.
func present(d fleet.Device, kind string) (is before) {
	switch {
	case kind == wire.VerbFamily:
		if d.Caps != nil {
			is.Family = d.Caps.Family
		}
	case kind == wire.VerbRelease:
		is.Release = releaseOf(d)
	case d.Reported == nil:
	case d.Reported.Goal != nil: // its mode is only the word for it
		is.Aim.Goal = d.Reported.Goal
	default:
		is.Aim.Mode = d.Reported.Mode
	}
	return is
}

// releaseOf is the release that a device runs, without its slot; nil where that is the
// program of its package, which has no digest, or cannot be commanded.
func releaseOf(d fleet.Device) *wire.Release {
	if d.Caps == nil || d.Caps.Release == nil {
		return nil
	}
	r := d.Caps.Release
	if (wire.ReleaseOrder{Version: r.Version, Digest: r.Digest}).Check() != nil {
		return nil
	}
	return &wire.Release{Version: r.Version, Digest: r.Digest}
}

// clear makes way for the rollout: others that have devices of it still to change are
// in its way, or with Supersede give up those that they have not started.
func (r *Record) clear(others []*Record, now time.Time) error {
	var rivals []*Record
	for _, o := range others {
		if !r.rivals(o) {
			continue
		}
		if shared := r.shared(o); len(shared) > 0 && !r.Spec.Supersede {
			return wire.Refuse(wire.Conflict, "rollout %s is under way on %s: wait for it, abort it, or supersede it",
				o.ID, some(shared))
		}
		rivals = append(rivals, o)
	}
	for _, o := range rivals {
		for _, name := range r.shared(o) {
			o.supersede(name, r.ID, now)
		}
	}
	return nil
}

// rivals tells whether another rollout lives that changes the same of a device.
func (r *Record) rivals(o *Record) bool { return !o.Final() && r.alike(o) }

// alike tells whether another rollout changes the same of a device. Modes and goals are
// one: what the device pursues.
func (r *Record) alike(o *Record) bool {
	return o.ID != r.ID && subject(o.Spec) == subject(r.Spec)
}

// subject is what a rollout changes of a device.
func subject(s wire.RolloutSpec) string {
	if s.Kind() == wire.VerbGoal {
		return wire.VerbMode
	}
	return s.Kind()
}

// excludes tells of another rollout that lives whether a device obeys one of the two at a time.
func (r *Record) excludes(o *Record) bool {
	return r.rivals(o) || o.ID != r.ID && !o.Final() && updating(o.Spec) && updating(r.Spec)
}

// updating tells whether a rollout has devices take what they fetch: one at a time.
func updating(s wire.RolloutSpec) bool { return s.Family != nil || s.Release != nil }

// shared are the devices of the rollout that the other has still to change.
func (r *Record) shared(o *Record) (names []string) {
	for i := range r.Devices {
		if o.holds(r.Devices[i].Name) {
			names = append(names, r.Devices[i].Name)
		}
	}
	return names
}

// holds tells whether the rollout has still to change a device.
func (r *Record) holds(name string) bool {
	i, ok := r.place(name)
	return ok && !r.Final() && r.Devices[i].open()
}

// commands tells whether a device has still to answer the rollout.
func (r *Record) commands(name string) bool {
	i, ok := r.place(name)
	return ok && r.Devices[i].State == wire.DeviceRunning
}

// returns tells whether a device has still to go back.
func (r *Record) returns(name string) bool {
	i, ok := r.place(name)
	return ok && r.Devices[i].Back && r.Devices[i].open()
}

// open tells whether the device has not ended yet.
func (d *device) open() bool {
	return d.State == wire.DevicePending || d.State == wire.DeviceRunning || d.State == wire.DeviceSucceeded && d.Back
}

// supersede leaves a device that was not started to the rollout by.
func (r *Record) supersede(name, by string, now time.Time) {
	if i, ok := r.place(name); ok && r.Devices[i].State == wire.DevicePending {
		r.Devices[i].end(wire.DeviceSuperseded, "", "by "+by, now)
	}
}

// Final tells whether nothing follows, but for Act(retry).
func (r *Record) Final() bool { return r.State.Final() }

// place is where a device stands in the order.
func (r *Record) place(name string) (int, bool) {
	if r.at == nil {
		r.at = make(map[string]int, len(r.Devices))
		for i := range r.Devices {
			r.at[r.Devices[i].Name] = i
		}
	}
	i, ok := r.at[name]
	return i, ok
}

// of are the devices of a phase.
func (r *Record) of(phase int) []device {
	from := 0
	for _, p := range r.Phases[:phase] {
		from += p.Size
	}
	return r.Devices[from : from+r.Phases[phase].Size]
}

// rank is the place of a device in the order of a rollout, as SHA-256.
func rank(id, name string) string {
	sum := sha256.Sum256([]byte(id + "/" + name))
	return hex.EncodeToString(sum[:])
}

// some names the first of devices, and how many more there are.
func some(names []string) string {
	if len(names) == 1 {
		return names[0]
	}
	return fmt.Sprintf("%s and %d more", names[0], len(names)-1)
}
