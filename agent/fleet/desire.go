package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
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
// version greater than any it has seen there, and waits until every device that
// is online and meant has reported, no longer than patience. A device that is off
// gets it when it is back. It is retained until the next, also if all reject it. It lists the fleet first, which a station can do once.
func (s *Station) Desire(ctx context.Context, fleet, target string, aim wire.Aim, patience time.Duration) ([]Report, error) {
	meant, last, err := s.standing(ctx, target)
	if err != nil {
		return nil, err
	}
	if len(meant) == 0 {
		return nil, fmt.Errorf("no device of fleet %s answers to %s; see `limber fleet ls`", fleet, target)
	}
	if last == math.MaxUint64 {
		return nil, fmt.Errorf("version %d of the desired state of %s is the last there can be: remove the retained message", last, target)
	}
	d := wire.Desired{Version: last + 1, Mode: aim.Mode, Goal: aim.Goal}
	b, err := json.Marshal(d)
	if err == nil {
		err = s.Publish(ctx, mqtt.Message{Topic: wire.Address{Fleet: fleet, Device: target}.Desired(), Payload: b, QoS: 1, Retained: true})
	}
	if err != nil {
		return nil, fmt.Errorf("desired state: %w", err)
	}
	return s.reports(ctx, meant, d.Version, patience)
}

// standing lists the devices that a target means, and the greatest version that
// is desired there or that one of them reported.
func (s *Station) standing(ctx context.Context, target string) (meant []Device, last uint64, err error) {
	found := map[string]*Device{}
	err = s.settled(ctx, quiet, func(m mqtt.Message) {
		read(found, m)
		if t, err := wire.ParseTopic(m.Topic); err == nil && t.Kind == wire.KindDesired && t.Device == target {
			if d, err := decoded[wire.Desired](m); err == nil {
				last = max(last, d.Version)
			}
		}
	})
	for _, d := range sorted(found) {
		if !d.In(target) {
			continue
		}
		meant = append(meant, d)
		if d.Reported != nil {
			last = max(last, d.Reported.Version)
		}
	}
	return meant, last, err
}

// reports waits for the reports of the devices that are online.
func (s *Station) reports(ctx context.Context, meant []Device, version uint64, patience time.Duration) ([]Report, error) {
	reports := make([]Report, len(meant))
	open := 0
	for i, d := range meant {
		reports[i] = Report{Device: d.Name, Version: version, Pending: true, online: d.Online(), Detail: "it is off and gets it when it is back"}
		if d.Online() {
			reports[i].Detail = "no report within " + patience.String()
			open++
		}
	}
	wait, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for open > 0 {
		m, err := s.Next(wait)
		if err != nil {
			return reports, ctx.Err() // time is over for those who have not reported
		}
		r, ok := reported(m, version)
		at := slices.IndexFunc(reports, func(w Report) bool { return w.Device == r.Device })
		if !ok || at < 0 || !reports[at].Pending {
			continue
		}
		if reports[at].online {
			open--
		}
		reports[at] = r
	}
	return reports, nil
}

// reported reads a report about a version; false if m is anything else.
func reported(m mqtt.Message, version uint64) (Report, bool) {
	t, err := wire.ParseTopic(m.Topic)
	if err != nil || t.Kind != wire.KindReported {
		return Report{}, false
	}
	r, err := decoded[wire.Reported](m)
	if err != nil || r.Version != version {
		return Report{}, false
	}
	return Report{Device: t.Device, Version: version, Status: r.Status, Reason: r.Reason, Nearest: r.Nearest, Mode: r.Mode, Goal: r.Goal, Detail: r.Detail}, true
}
