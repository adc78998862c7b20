package fleet

import (
	"context"

	"github.com/limber-edge/limber/agent/wire"
)

// TelemetryFilters is what a station must subscribe to for Telemetry.
func TelemetryFilters(fleet, device string) []string {
	return []string{wire.Address{Fleet: fleet, Device: device}.Telemetry()}
}

// Telemetry waits for the next telemetry of the device. Its only error is ctx's:
// what cannot be read is passed over.
func (s *Station) Telemetry(ctx context.Context, device string) (*wire.Telemetry, error) {
	for {
		m, err := s.Next(ctx)
		if err != nil {
			return nil, err
		}
		t, err := wire.ParseTopic(m.Topic)
		if err != nil || t.Kind != wire.KindTelemetry || t.Device != device {
			continue
		}
		if v, err := decoded[wire.Telemetry](m); err == nil {
			return v, nil
		}
	}
}
