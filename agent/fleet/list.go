package fleet

import (
	"context"

	"github.com/limber-edge/limber/agent/wire"
)

// ListFilters is what a client must subscribe to for List.
func ListFilters(fleet string) []string {
	return fleetFilters(fleet, wire.KindState, wire.KindCaps, wire.KindReported)
}

// CommandFilters is what a client must subscribe to for Command.
func CommandFilters(fleet string) []string {
	return append(ListFilters(fleet), wire.FleetFilter(fleet, wire.KindAck))
}

// DesireFilters is what a client must subscribe to for Desire.
func DesireFilters(fleet string) []string {
	return append(ListFilters(fleet), wire.FleetFilter(fleet, wire.KindDesired))
}

// ExchangeFilters is what a client must subscribe to for Exchange and AwaitOnline.
func ExchangeFilters(device wire.Address) []string {
	return []string{device.Filter(wire.KindResult), device.State()}
}

// TelemetryFilters is what a client must subscribe to for AwaitTelemetry.
func TelemetryFilters(fleet, device string) []string {
	return []string{wire.Address{Fleet: fleet, Device: device}.Telemetry()}
}

// RegistryFilters is all that a Registry can show of a fleet.
func RegistryFilters(fleet string) []string {
	return append(DesireFilters(fleet), fleetFilters(fleet, wire.KindTelemetry, wire.KindEvent)...)
}

func fleetFilters(fleet string, kinds ...wire.Kind) (filters []string) {
	for _, kind := range kinds {
		filters = append(filters, wire.FleetFilter(fleet, kind))
	}
	return filters
}

// List returns the devices of the fleet, by name, once the broker has told all that
// it retains.
func (c *Client) List(ctx context.Context) ([]Device, error) {
	if err := c.settle(ctx); err != nil {
		return nil, err
	}
	return c.registry.Devices(), nil
}
