package fleet

import (
	"context"
	"fmt"
	"slices"

	"github.com/limber-edge/limber/agent/wire"
)

// ParseSeverity reads the severity of an event.
func ParseSeverity(s string) (wire.Severity, error) {
	if !slices.Contains(severities(), wire.Severity(s)) {
		return "", fmt.Errorf("%.40q is none of info, warning, error", s)
	}
	return wire.Severity(s), nil
}

// severities are those that there are, by how much they matter.
func severities() []wire.Severity {
	return []wire.Severity{wire.SeverityInfo, wire.SeverityWarning, wire.SeverityError}
}

// EventFilters is what a client must subscribe to for Events.
func EventFilters(fleet string) []string {
	return append(ListFilters(fleet), wire.FleetFilter(fleet, wire.KindEvent))
}

// EventReader tells of each event once. Of a device whose events are not read in time it
// has the last MaxEvents, and says how many went.
type EventReader struct {
	changes *Subscription
	where   Where
	least   wire.Severity
	heard   map[string]uint64 // of each device, how many were told of
}

// Heard is what a device told of.
type Heard struct {
	Device string
	Events []Event // oldest first
	Lost   uint64  // how many came before them, and were not read in time
}

// Events begins with those that are known of the devices that fit, and goes on with what
// comes; of a severity or a worse one. One that no version knows is told of as well. The
// caller closes it. Only one goroutine may call Next at a time.
func (r *Registry) Events(where Where, least wire.Severity) *EventReader {
	return &EventReader{r.Subscribe(), where, least, map[string]uint64{}}
}

// Close ends it.
func (r *EventReader) Close() { r.changes.Close() }

// Next waits for events of a device. Its only error is ctx's.
func (r *EventReader) Next(ctx context.Context) (Heard, error) {
	for {
		d, err := r.changes.Next(ctx)
		if err != nil {
			return Heard{}, err
		}
		if h := r.take(d); len(h.Events) > 0 || h.Lost > 0 {
			return h, nil
		}
	}
}

// take is what is new of a device.
func (r *EventReader) take(d Device) Heard {
	h := Heard{Device: d.Name}
	told := r.heard[d.Name]
	if r.heard[d.Name] = d.Heard; d.Heard == 0 {
		delete(r.heard, d.Name) // it is gone, or has told nothing
	}
	if told > d.Heard {
		told = 0 // it went and came again
	}
	fresh := d.Heard - told
	if kept := uint64(len(d.Events)); fresh > kept {
		h.Lost, fresh = fresh-kept, kept
	}
	if !r.where.Fits(d) {
		return Heard{}
	}
	for _, e := range d.Events[len(d.Events)-int(fresh):] {
		if rank := slices.Index(severities(), e.Severity); rank < 0 || rank >= slices.Index(severities(), r.least) {
			h.Events = append(h.Events, e)
		}
	}
	return h
}
