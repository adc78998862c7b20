package fleet

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

// Report is what a device made of a desired state.
type Report struct {
	Device  string      `json:"device"`
	Version uint64      `json:"version"` // of the desired state
	Status  wire.Status `json:"status,omitempty"`
	Pending bool        `json:"pending,omitempty"` // the device has not said yet; Detail tells why
	Reason  wire.Reason `json:"reason,omitempty"`
	Nearest *wire.Goal  `json:"nearest,omitempty"` // to an infeasible goal, that the device can have
	Mode    string      `json:"mode,omitempty"`    // in force
	Goal    *wire.Goal  `json:"goal,omitempty"`    // in force
	Detail  string      `json:"detail,omitempty"`

	online bool
}

// Failed tells whether the device is there and did not do it.
func (r Report) Failed() bool { return r.Status == wire.Rejected || r.Pending && r.online }

// Desire publishes what a device or a group is to pursue, retained, with a
// version greater than any desired in the fleet, and waits until every device that
// is online and meant has reported, no longer than patience. A device that is off
// gets it when it is back. It is retained until the next, also if all reject it.
// It fails if it took its version at the same time as another operator, or if this
// client set the same target meanwhile.
func (c *Client) Desire(ctx context.Context, fleet, target string, aim wire.Aim,
	patience time.Duration) ([]Report, error) {
	return c.desire(ctx, fleet, target, wire.Desired{Mode: aim.Mode, Goal: aim.Goal}, patience)
}

// ForceDesire is Desire for devices whose last version nobody can follow: it takes the
// one that follows the greatest that is within reach from 0, and has the devices go
// back to it.
func (c *Client) ForceDesire(ctx context.Context, fleet, target string, aim wire.Aim,
	patience time.Duration) ([]Report, error) {
	return c.desire(ctx, fleet, target, wire.Desired{Force: true, Mode: aim.Mode, Goal: aim.Goal}, patience)
}

func (c *Client) desire(ctx context.Context, fleet, target string, d wire.Desired, patience time.Duration) ([]Report,
	error) {
	devices, err := c.List(ctx)
	if err != nil {
		return nil, err
	}
	if d.Version, err = c.newVersion(fleet, target, devices, d.Force); err != nil {
		return nil, err
	}
	request := newDesireRequest(target, d, devices, patience)
	b, err := json.Marshal(request.desired)
	if err == nil {
		topic := wire.Address{Fleet: fleet, Device: target}.Desired()
		err = c.ask(ctx, mqtt.Message{Topic: topic, Payload: b, QoS: 1, Retained: true}, patience, request.take,
			route{wire.KindDesired, target}, route{kind: wire.KindReported})
	}
	if errors.Is(err, ErrDropped) {
		return nil, err
	} else if err != nil {
		return nil, fmt.Errorf("desired state: %w", err)
	}
	reports, err := request.result()
	if err != nil {
		return nil, err
	}
	return reports, ctx.Err()
}

// newVersion takes the version of a desired state: one more than that of all that is
// desired in the fleet, for a device takes the greatest of its own and its groups',
// than what those that are meant report, and than this client took before.
func (c *Client) newVersion(fleet, target string, devices []Device, force bool) (uint64, error) {
	untracked := c.registry.Counts().Untracked
	known := c.registry.desired()
	meant := 0
	for _, d := range devices {
		if !d.In(target) {
			continue
		}
		meant++
		if r := d.Reported; r != nil {
			known = append(known, placed{r.Version, d.Name}, placed{r.AppliedVersion, d.Name})
		}
	}
	c.state.Lock()
	defer c.state.Unlock()
	last := greatest(append(known, placed{c.version, target}), force)
	switch {
	case meant == 0:
		return 0, fmt.Errorf("no device of fleet %s answers to %s; see `limber fleet ls`", fleet, target)
	case untracked > 0:
		return 0, fmt.Errorf("fleet %s has more than %d devices, so the greatest version of a desired state is not known: "+
			"divide it", fleet, MaxDevices)
	case last.version == math.MaxUint64:
		return 0, fmt.Errorf("version %d of the desired state of %s is the last there can be: set another with "+
			"--force-version", last.version, last.place)
	}
	c.version = last.version + 1
	return c.version, nil
}

// placed is a version, and whose it is.
type placed struct {
	version uint64
	place   string
}

// greatest is the greatest version or, where it is to be forced, the greatest that can
// be reached from 0.
func greatest(known []placed, force bool) (last placed) {
	slices.SortFunc(known, func(a, b placed) int { return cmp.Compare(a.version, b.version) })
	for _, k := range known {
		if force && k.version-last.version > wire.VersionReach {
			break
		}
		last = k
	}
	return last
}

// desireRequest is a desired state that was published, and what became of it.
type desireRequest struct {
	target  string
	desired wire.Desired
	others  map[string]bool // devices that it is not meant for

	mu      sync.Mutex // guards what follows
	err     error      // another operator's crossed it
	back    bool       // the broker handed it on
	reports []Report
	at      map[string]int // the place of each device among the reports
	open    int            // devices that are online and have not reported
}

func newDesireRequest(target string, d wire.Desired, devices []Device, patience time.Duration) *desireRequest {
	w := &desireRequest{target: target, desired: d, others: map[string]bool{}, at: map[string]int{}}
	for _, m := range devices {
		if !m.In(target) {
			w.others[m.Name] = m.Caps != nil // without these it may be in the group
			continue
		}
		r := Report{Device: m.Name, Version: d.Version, Pending: true, online: m.Online(),
			Detail: "it is off and gets it when it is back"}
		if r.online {
			r.Detail = "no report within " + patience.String()
			w.open++
		}
		w.at[m.Name] = len(w.reports)
		w.reports = append(w.reports, r)
	}
	return w
}

func (w *desireRequest) result() ([]Report, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.reports), w.err
}

// take looks at what came, and tells whether it was the last: all have reported and
// the desired state itself came back, by when whatever was set there before it has
// come, or another crossed it.
func (w *desireRequest) take(t wire.Topic, m mqtt.Message) (last bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.err != nil:
	case t.Kind == wire.KindDesired:
		w.err = w.takeDesired(m)
	default:
		w.takeReport(t.Device, m)
	}
	return w.err != nil || w.open == 0 && w.back
}

// takeDesired tells the desired state from one of another operator, who counted from the
// same last version: devices would take whichever came first, and both operators
// its report for their own.
func (w *desireRequest) takeDesired(m mqtt.Message) error {
	d, err := decoded[wire.Desired](m)
	switch {
	case err != nil || d.Version < w.desired.Version:
	case d.Version == w.desired.Version && d.Aim().Same(w.desired.Aim()):
		w.back = true
	default:
		return fmt.Errorf("another operator set version %d of the desired state of %s meanwhile: set it again",
			d.Version, w.target)
	}
	return nil
}

// takeReport keeps the report of a device about the desired state. One that has something
// else in force is about another of the same version, or was overtaken by a
// command. A member of the group that the list missed is told of, too.
func (w *desireRequest) takeReport(device string, m mqtt.Message) {
	r, err := decoded[wire.Reported](m)
	if err != nil || r.Version != w.desired.Version {
		return
	}
	got := Report{Device: device, Version: r.Version, Status: r.Status, Reason: r.Reason, Nearest: r.Nearest,
		Mode: r.Mode, Goal: r.Goal, Detail: r.Detail}
	aim := wire.Aim{Mode: r.Mode, Goal: r.Goal}
	elsewhere := r.Status == wire.Applied && !aim.Same(w.desired.Aim())
	at, listed := w.at[device]
	switch {
	case !listed && len(w.reports) == MaxDevices: // no fleet that this program knows has as many
	case !listed && !elsewhere && wire.ValidGroup(w.target) && !w.others[device]:
		w.at[device] = len(w.reports)
		w.reports = append(w.reports, got)
	case listed && w.reports[at].Status == wire.Rejected && r.Status == wire.Applied && !elsewhere:
		w.reports[at] = got // the rejection was that of another of the same version
	case !listed || !w.reports[at].Pending:
	case elsewhere:
		w.reports[at].Detail = "it reports this version with something else in force: " + aim.String()
	default:
		if w.reports[at].online {
			w.open--
		}
		w.reports[at] = got
	}
}
