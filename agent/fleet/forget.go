package fleet

import (
	"context"
	"fmt"
	"time"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

// ForgetFilters is what a client must subscribe to for Forget.
func ForgetFilters(fleet string) []string { return DesireFilters(fleet) }

// Forget clears all that the broker retains of a device, and tells which documents were
// known of it; those that could not be read go as well. A device that is online would
// seem not to be there until it connects again: it is not forgotten unless that is forced.
func (c *Client) Forget(ctx context.Context, fleet, device string, force bool,
	patience time.Duration) (cleared []wire.Kind, err error) {
	if _, err := c.List(ctx); err != nil {
		return nil, err
	}
	d := c.registry.Device(device)
	if d.Online() && !force {
		return nil, fmt.Errorf("%s is online, and could be seen again only once it connects anew: "+
			"stop its agent first, or give --force", device)
	}
	at := wire.Address{Fleet: fleet, Device: device}
	for _, document := range []struct {
		kind  wire.Kind
		topic string
		known bool
	}{
		{wire.KindState, at.State(), d.State != nil},
		{wire.KindCaps, at.Caps(), d.Caps != nil},
		{wire.KindReported, at.Reported(), d.Reported != nil},
		{wire.KindDesired, at.Desired(), d.Desired != nil},
		{wire.KindLabels, at.Labels(), d.Labels != nil},
	} {
		m := mqtt.Message{Topic: document.topic, QoS: 1, Retained: true}
		if err := c.put(ctx, m, document.kind, device, patience); err != nil {
			return cleared, fmt.Errorf("%s of %s: %w", document.kind, device, err)
		}
		if document.known {
			cleared = append(cleared, document.kind)
		}
	}
	return cleared, nil
}
