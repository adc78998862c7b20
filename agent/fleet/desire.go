package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
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

// DesireFilters is what a station must subscribe to for Desire.
func DesireFilters(fleet string) []string {
	return append(ListFilters(fleet), wire.FleetFilter(fleet, wire.KindDesired))
}

// Desire publishes what a device or a group is to pursue, retained, with a
// version greater than any desired in the fleet, and waits until every device that
// is online and meant has reported, no longer than patience. A device that is off
// gets it when it is back. It is retained until the next, also if all reject it.
// It fails if it took its version at the same time as another operator. It lists
// the fleet first, which a station can do once.
func (s *Station) Desire(ctx context.Context, fleet, target string, aim wire.Aim, patience time.Duration) ([]Report, error) {
	st, err := s.standing(ctx, target)
	if err != nil {
		return nil, err
	}
	if len(st.meant) == 0 {
		return nil, fmt.Errorf("no device of fleet %s answers to %s; see `limber fleet ls`", fleet, target)
	}
	if st.last == math.MaxUint64 {
		return nil, fmt.Errorf("version %d of the desired state of %s is the last there can be: remove the retained message", st.last, st.place)
	}
	d := wire.Desired{Version: st.last + 1, Mode: aim.Mode, Goal: aim.Goal}
	b, err := json.Marshal(d)
	if err == nil {
		err = s.Publish(ctx, mqtt.Message{Topic: wire.Address{Fleet: fleet, Device: target}.Desired(), Payload: b, QoS: 1, Retained: true})
	}
	if err != nil {
		return nil, fmt.Errorf("desired state: %w", err)
	}
	return s.reports(ctx, newWish(target, d, st, patience), patience)
}

// standing is what a desired state is set upon.
type standing struct {
	meant  []Device
	others map[string]bool // the devices that are known not to be meant
	last   uint64          // the greatest version, and
	place  string          // who has it
}

func (s *standing) note(version uint64, place string) {
	if version > s.last {
		s.last, s.place = version, place
	}
}

// standing lists the devices that a target means. The greatest version is that of
// all that is desired in the fleet, for a device takes the greatest of its own and
// its groups', and of what those that are meant report.
func (s *Station) standing(ctx context.Context, target string) (standing, error) {
	st := standing{others: map[string]bool{}}
	found := map[string]*Device{}
	err := s.settled(ctx, func(m mqtt.Message) {
		read(found, m)
		if t, err := wire.ParseTopic(m.Topic); err == nil && t.Kind == wire.KindDesired {
			if d, err := decoded[wire.Desired](m); err == nil {
				st.note(d.Version, t.Device)
			}
		}
	})
	for _, d := range sorted(found) {
		if !d.In(target) {
			st.others[d.Name] = d.Caps != nil // without these it may be in the group
			continue
		}
		st.meant = append(st.meant, d)
		if d.Reported != nil {
			st.note(max(d.Reported.Version, d.Reported.AppliedVersion), d.Name)
		}
	}
	return st, err
}

// reports waits for the reports of the devices that are online, and for the wish
// itself to come back: whatever was set there before it has come by then.
func (s *Station) reports(ctx context.Context, w *wish, patience time.Duration) ([]Report, error) {
	wait, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for w.open > 0 || !w.back {
		m, err := s.Next(wait)
		if err != nil {
			break // time is over for those who have not reported
		}
		if err := w.take(m); err != nil {
			return nil, err
		}
	}
	return w.reports, ctx.Err()
}

// wish is a desired state that was published, and what became of it.
type wish struct {
	target  string
	desired wire.Desired
	others  map[string]bool // devices that it is not meant for
	back    bool            // the broker handed it on
	reports []Report
	at      map[string]int // the place of each device among the reports
	open    int            // devices that are online and have not reported
}

func newWish(target string, d wire.Desired, st standing, patience time.Duration) *wish {
	w := &wish{target: target, desired: d, others: st.others, at: map[string]int{}}
	for i, m := range st.meant {
		r := Report{Device: m.Name, Version: d.Version, Pending: true, online: m.Online(), Detail: "it is off and gets it when it is back"}
		if r.online {
			r.Detail = "no report within " + patience.String()
			w.open++
		}
		w.at[m.Name] = i
		w.reports = append(w.reports, r)
	}
	return w
}

// take looks at what came. Its error says that the wish was crossed by another.
func (w *wish) take(m mqtt.Message) error {
	t, err := wire.ParseTopic(m.Topic)
	switch {
	case err != nil:
	case t.Kind == wire.KindDesired && t.Device == w.target:
		return w.takeDesired(m)
	case t.Kind == wire.KindReported:
		w.takeReport(t.Device, m)
	}
	return nil
}

// takeDesired tells the wish from one of another operator, who counted from the
// same last version: devices would take whichever came first, and both operators
// its report for their own.
func (w *wish) takeDesired(m mqtt.Message) error {
	d, err := decoded[wire.Desired](m)
	switch {
	case err != nil || d.Version < w.desired.Version:
	case d.Version == w.desired.Version && d.Aim().Same(w.desired.Aim()):
		w.back = true
	default:
		return fmt.Errorf("another operator set version %d of the desired state of %s meanwhile: set it again", d.Version, w.target)
	}
	return nil
}

// takeReport keeps the report of a device about the wish. One that has something
// else in force is about another of the same version, or was overtaken by a
// command. A member of the group that the list missed is told of, too.
func (w *wish) takeReport(device string, m mqtt.Message) {
	r, err := decoded[wire.Reported](m)
	if err != nil || r.Version != w.desired.Version {
		return
	}
	got := Report{Device: device, Version: r.Version, Status: r.Status, Reason: r.Reason, Nearest: r.Nearest, Mode: r.Mode, Goal: r.Goal, Detail: r.Detail}
	aim := wire.Aim{Mode: r.Mode, Goal: r.Goal}
	elsewhere := r.Status == wire.Applied && !aim.Same(w.desired.Aim())
	at, listed := w.at[device]
	switch {
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
