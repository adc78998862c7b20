package fleet

import (
	"errors"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

// changeOf returns what a message changes of its device; nil for one that is no
// document of a device.
func changeOf(t wire.Topic, m mqtt.Message) (func(*entry), error) {
	switch {
	case t.Kind == wire.KindDesired:
		return document(m, func(e *entry, v *wire.Desired) { e.Desired = v })
	case t.IsGroup():
		return nil, nil // no group publishes anything
	case t.Kind == wire.KindState:
		return document(m, func(e *entry, v *wire.State) { e.State = v })
	case t.Kind == wire.KindCaps:
		return document(m, func(e *entry, v *wire.Caps) { e.Caps = v })
	case t.Kind == wire.KindReported:
		return document(m, func(e *entry, v *wire.Reported) { e.Reported = v })
	case t.Kind == wire.KindTelemetry:
		return document(m, func(e *entry, v *wire.Telemetry) { e.Telemetry = v })
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
}
