package fleet

import (
	"cmp"
	"context"
	"slices"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

// Device is what a device has published of itself, retained by the broker.
// What it never published is nil.
type Device struct {
	Name     string         `json:"device"`
	State    *wire.State    `json:"state,omitempty"`
	Caps     *wire.Caps     `json:"caps,omitempty"`
	Reported *wire.Reported `json:"reported,omitempty"`
}

// ListFilters is what a station must subscribe to for List.
func ListFilters(fleet string) []string {
	return []string{wire.FleetFilter(fleet, wire.KindState), wire.FleetFilter(fleet, wire.KindCaps), wire.FleetFilter(fleet, wire.KindReported)}
}

// List returns the devices of the fleet, by name. The broker tells what it
// retains once, after subscribing, so a station can list once.
func (s *Station) List(ctx context.Context) ([]Device, error) {
	found := map[string]*Device{}
	err := s.settled(ctx, func(m mqtt.Message) { read(found, m) })
	if err != nil {
		return nil, err
	}
	return sorted(found), nil
}

// sorted lists the devices by name.
func sorted(found map[string]*Device) (devices []Device) {
	for _, d := range found {
		devices = append(devices, *d)
	}
	slices.SortFunc(devices, func(a, b Device) int { return cmp.Compare(a.Name, b.Name) })
	return devices
}

// read puts a message into its place. What no device could have sent is not
// looked at.
func read(found map[string]*Device, m mqtt.Message) {
	t, err := wire.ParseTopic(m.Topic)
	if err != nil || t.IsGroup() {
		return
	}
	d := found[t.Device]
	if d == nil {
		d = &Device{Name: t.Device}
	}
	switch t.Kind {
	case wire.KindState:
		err = keep(&d.State, m)
	case wire.KindCaps:
		err = keep(&d.Caps, m)
	case wire.KindReported:
		err = keep(&d.Reported, m)
	default:
		return
	}
	if err == nil {
		found[t.Device] = d
	}
}

// keep decodes a message into its place. One that cannot be decoded leaves there
// what came before: half of a message would be taken for what the device said.
func keep[M any](place **M, m mqtt.Message) error {
	v, err := decoded[M](m)
	if err == nil {
		*place = v
	}
	return err
}

func decoded[M any](m mqtt.Message) (*M, error) {
	v := new(M)
	return v, wire.Decode(m.Payload, v)
}

// Online tells whether the device said that it is there and its connection
// stands.
func (d Device) Online() bool { return d.State != nil && d.State.State == wire.Online }

// In tells whether a target, a device or a group, means the device.
func (d Device) In(target string) bool {
	return target == d.Name || target == wire.Everybody ||
		d.Caps != nil && slices.Contains(d.Caps.Groups, target)
}
