package fleet

import (
	"bytes"
	"cmp"
	"errors"
	"slices"
	"sync"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

// The bounds of a Registry: what a device has of events, in JSON, and how many there are.
// A document has at most wire.MaxControl bytes; a device of the field publishes some 10 KiB
// in all.
const (
	MaxDevices    = 10_000          // devices, and groups with a desired state
	MaxEvents     = 64              // of each device, the newest
	MaxEventBytes = wire.MaxControl // bytes of JSON of a device's events; the oldest go first
)

// The room for documents, in bytes as weightOf has it: 64 KiB of JSON may be 3 MiB of
// memory. Once all devices together have more than roomShared, a document that would take
// its device beyond roomOfEach is not taken.
const (
	roomOfEach = 128 << 10
	roomShared = 512 << 20
	perValue   = 128 // of the greatest element of an array
)

// weightOf is how much memory the document of a message may take, at a guess.
func weightOf(m mqtt.Message) int {
	return len(m.Payload) + perValue*bytes.Count(m.Payload, []byte(","))
}

// Device is what a device has published of itself, what it is to pursue, and what
// operators say of it.
// What was never published is nil, or was removed. It is a value of one moment:
// nothing that it points to ever changes, and readers must not change it either.
type Device struct {
	Name     string            `json:"device"`
	State    *wire.State       `json:"state,omitempty"`
	Caps     *wire.Caps        `json:"caps,omitempty"`
	Reported *wire.Reported    `json:"reported,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`

	Desired   *wire.Desired   `json:"-"` // of its own, not of its groups
	Telemetry *wire.Telemetry `json:"-"` // the last
	Pace      Pace            `json:"-"` // since the one before
	Events    []Event         `json:"-"` // the last MaxEvents, oldest first
	Heard     uint64          `json:"-"` // how many events there were, with those that went
}

// Event is an event with what its topic says of it.
type Event struct {
	Severity wire.Severity `json:"severity"`
	wire.Event
}

// Online tells whether the device said that it is there and its connection
// stands.
func (d Device) Online() bool { return d.State != nil && d.State.State == wire.Online }

// In tells whether a target, a device or a group, means the device.
func (d Device) In(target string) bool {
	return target == d.Name || target == wire.Everybody ||
		d.Caps != nil && slices.Contains(d.Caps.Groups, target)
}

// There tells whether the device has published anything: a desired state, or labels, may
// be for one that never was.
func (d Device) There() bool {
	return d.retains() || d.Telemetry != nil || len(d.Events) > 0
}

// retains tells whether the broker retains anything that the device published.
func (d Device) retains() bool { return d.State != nil || d.Caps != nil || d.Reported != nil }

// RegistryCounts are totals of what a Registry did not take.
type RegistryCounts struct {
	Untracked  uint64 // messages of devices beyond MaxDevices, or for which there was no room
	Unreadable uint64 // messages that could not be decoded, or whose payload the link discarded
}

// Registry is a live picture of the fleet, as far as the filters of its Client
// reach. Its methods may be called from any goroutine and never wait for one
// another longer than it takes to change a device. What is removed at the broker while
// the connection is down stays in the picture: the broker does not tell of it.
type Registry struct {
	mu            sync.Mutex
	devices       map[string]*entry // groups with a desired state as well
	subscriptions map[*Subscription]struct{}
	counts        RegistryCounts
	weight        int // of all documents
}

// entry is the present value of a device. A change makes a new one of it.
type entry struct {
	Device
	eventBytes []int   // of each of its events
	weights    weights // of its documents
}

// weights are those of a device's documents, in the order of kinds.
type weights [6]int

// kinds are those of documents.
func kinds() []wire.Kind {
	return []wire.Kind{wire.KindState, wire.KindCaps, wire.KindReported, wire.KindLabels, wire.KindDesired,
		wire.KindTelemetry}
}

// all is the weight of all of them.
func (w weights) all() (sum int) {
	for _, one := range w {
		sum += one
	}
	return sum
}

// Devices returns the devices that have published anything, by name.
func (r *Registry) Devices() []Device {
	r.mu.Lock()
	var devices []Device
	for _, e := range r.devices {
		if e.There() {
			devices = append(devices, e.Device)
		}
	}
	r.mu.Unlock()
	slices.SortFunc(devices, func(a, b Device) int { return cmp.Compare(a.Name, b.Name) })
	return devices
}

// Device returns what is known of a device; of one that is not known, its name.
func (r *Registry) Device(name string) Device {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.device(name)
}

// device is Device; the lock is held.
func (r *Registry) device(name string) Device {
	if e, ok := r.devices[name]; ok {
		return e.Device
	}
	return Device{Name: name}
}

// Counts returns what was not taken.
func (r *Registry) Counts() RegistryCounts {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.counts
}

// desired returns the versions of what is desired in the fleet.
func (r *Registry) desired() (versions []placed) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, entry := range r.devices {
		if d := entry.Desired; d != nil {
			versions = append(versions, placed{d.Version, name})
		}
	}
	return versions
}

// apply brings a message into the picture. What no device could have sent is not
// looked at, and one that cannot be decoded leaves there what came before: half
// of a message would be taken for what the device said.
func (r *Registry) apply(t wire.Topic, m mqtt.Message) {
	change, err := changeOf(t, m)
	if change == nil && err == nil {
		return
	}
	r.mu.Lock()
	if err != nil {
		r.counts.Unreadable++
		r.mu.Unlock()
		return
	}
	var woken []*Subscription
	if r.put(t, weightOf(m), change) {
		woken = r.mark(t.Device)
	}
	r.mu.Unlock()
	for _, s := range woken {
		s.signal()
	}
}

// put makes the change, if there is room for it; the lock is held.
func (r *Registry) put(t wire.Topic, weight int, change func(*entry)) bool {
	was, known := r.devices[t.Device]
	if !known {
		was = &entry{Device: Device{Name: t.Device}}
	}
	is := *was
	change(&is)
	if at := slices.Index(kinds(), t.Kind); at >= 0 {
		is.weights[at] = weight
	}
	if was.retains() && !is.retains() { // it was forgotten: what it said in passing goes as well
		is.forgetHeard()
	}
	gone := is.Desired == nil && is.Labels == nil && !is.There() // its retained messages were removed
	if gone {
		is.weights = weights{}
	}
	more := is.weights.all() - was.weights.all()
	if !known && len(r.devices) == MaxDevices ||
		more > 0 && is.weights.all() > roomOfEach && r.weight+more > roomShared {
		r.counts.Untracked++
		return false
	}
	r.weight += more
	if r.devices[t.Device] = &is; gone {
		delete(r.devices, t.Device)
	}
	return true
}

// changeOf returns what a message changes of its device; nil for one that is no
// document of a device.
func changeOf(t wire.Topic, m mqtt.Message) (func(*entry), error) {
	switch {
	case t.Device == wire.Controller:
		return nil, nil // which is no device
	case t.Kind == wire.KindDesired:
		return document(m, func(e *entry, v *wire.Desired) { e.Desired = v })
	case t.IsGroup():
		return nil, nil // no group publishes anything
	case t.Kind == wire.KindLabels:
		return document(m, func(e *entry, v *wire.Labels) { e.label(v) })
	case t.Kind == wire.KindState:
		return document(m, func(e *entry, v *wire.State) { e.State = v })
	case t.Kind == wire.KindCaps:
		return document(m, func(e *entry, v *wire.Caps) { e.Caps = v })
	case t.Kind == wire.KindReported:
		return document(m, func(e *entry, v *wire.Reported) { e.Reported = v })
	case t.Kind == wire.KindTelemetry:
		return document(m, func(e *entry, v *wire.Telemetry) { e.Pace, e.Telemetry = paceOf(e.Telemetry, v), v })
	case t.Kind == wire.KindEvent:
		return document(m, func(e *entry, v *wire.Event) { e.keepEvent(t.Severity, v, len(m.Payload)) })
	}
	return nil, nil
}

// document decodes a message for put. An empty one removes what was retained: put
// is handed nil.
func document[M any](m mqtt.Message, put func(*entry, *M)) (func(*entry), error) {
	if m.Oversize > 0 {
		return nil, errors.New("its payload was discarded")
	}
	if len(m.Payload) == 0 {
		return func(e *entry) { put(e, nil) }, nil
	}
	v, err := decoded[M](m)
	if err != nil {
		return nil, err
	}
	return func(e *entry) { put(e, v) }, nil
}

func decoded[M any](m mqtt.Message) (*M, error) {
	v := new(M)
	return v, wire.Decode(m.Payload, v)
}

// forgetHeard forgets what nobody retains.
func (e *entry) forgetHeard() {
	e.Telemetry, e.Pace, e.Events, e.eventBytes, e.Heard = nil, Pace{}, nil, nil, 0
	e.weights[slices.Index(kinds(), wire.KindTelemetry)] = 0
}

// label keeps what operators say of the device. Labels that break the contract are none.
func (e *entry) label(v *wire.Labels) {
	if e.Labels = nil; v != nil && len(v.Labels) > 0 && v.Check() == nil {
		e.Labels = v.Labels
	}
}

// keepEvent adds an event of so many bytes, in a list of its own: readers have the
// one before.
func (e *entry) keepEvent(severity wire.Severity, v *wire.Event, bytes int) {
	if v == nil {
		return // events are not retained: there is nothing to remove
	}
	from, sum := len(e.Events), bytes
	for from > 0 && len(e.Events)-from+1 < MaxEvents && sum+e.eventBytes[from-1] <= MaxEventBytes {
		from--
		sum += e.eventBytes[from]
	}
	e.Events = append(append([]Event{}, e.Events[from:]...), Event{severity, *v})
	e.eventBytes = append(append([]int{}, e.eventBytes[from:]...), bytes)
	e.Heard++
}
