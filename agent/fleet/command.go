package fleet

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"time"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

// Outcome is how a command ended on one device.
type Outcome struct {
	Device string      `json:"device"`
	State  wire.Step   `json:"state"` // the last state it told of
	Reason wire.Reason `json:"reason,omitempty"`
	Detail string      `json:"detail,omitempty"`
	// Nearest is the goal nearest to an infeasible one that the device can have.
	Nearest *wire.Goal `json:"nearest,omitempty"`
}

// CommandFilters is what a station must subscribe to for Command.
func CommandFilters(fleet string) []string {
	return append(ListFilters(fleet), wire.FleetFilter(fleet, wire.KindAck))
}

// NewID returns an id for a job or a command that nobody else uses.
func NewID() string { return rand.Text() }

// Command sends a device or a group a command that is good for ttl and waits, no
// longer than that, until every device that is online and meant has ended it. A
// device that is off and comes back later than that, by its own clock, refuses it:
// see Desire. Who
// answers without having been listed is told of, too. It lists the fleet first,
// which a station can do once.
func (s *Station) Command(ctx context.Context, fleet, target string, c wire.Command, ttl time.Duration) ([]Outcome, error) {
	devices, err := s.List(ctx)
	if err != nil {
		return nil, err
	}
	got := newAnswers(devices, target, ttl)
	if len(got.open) == 0 {
		return nil, fmt.Errorf("no device of fleet %s that is online answers to %s; see `limber fleet ls`", fleet, target)
	}
	id := NewID()
	if err := s.command(ctx, wire.Address{Fleet: fleet, Device: target}.Cmd(c.Verb(), id), c, ttl); err != nil {
		return nil, err
	}
	wait, cancel := context.WithTimeout(ctx, ttl)
	defer cancel()
	for len(got.open) > 0 {
		m, err := s.Next(wait)
		if err != nil {
			break // time is over for those who have not answered
		}
		if o, ok := acked(m, id); ok {
			got.take(o)
		}
	}
	return got.outcomes, ctx.Err()
}

// answers is what is known of how a command ended.
type answers struct {
	outcomes []Outcome
	at       map[string]int  // the place of each device among them
	open     map[string]bool // the devices that have not ended it
}

func newAnswers(devices []Device, target string, ttl time.Duration) *answers {
	a := &answers{at: map[string]int{}, open: map[string]bool{}}
	for _, d := range devices {
		if d.In(target) && d.Online() {
			a.put(Outcome{Device: d.Name, State: wire.CommandTimedOut, Detail: "no answer within " + ttl.String()})
			a.open[d.Name] = true
		}
	}
	return a
}

func (a *answers) put(o Outcome) {
	a.at[o.Device] = len(a.outcomes)
	a.outcomes = append(a.outcomes, o)
}

// take keeps the last state of a device. One that the list missed, or had as
// lost, is meant as well: nobody else knows the command's id.
func (a *answers) take(o Outcome) {
	at, listed := a.at[o.Device]
	switch {
	case !listed:
		a.put(o)
	case a.open[o.Device]:
		a.outcomes[at] = o
	default:
		return // it ended it before
	}
	a.open[o.Device] = true
	if o.State.Final() {
		delete(a.open, o.Device)
	}
}

// acked reads an acknowledgement of the command; false if m is anything else.
func acked(m mqtt.Message, id string) (Outcome, bool) {
	t, err := wire.ParseTopic(m.Topic)
	if err != nil || t.Kind != wire.KindAck || t.ID != id {
		return Outcome{}, false
	}
	ack, err := decoded[wire.Ack](m)
	if err != nil {
		return Outcome{}, false
	}
	return Outcome{Device: t.Device, State: ack.State, Reason: ack.Reason, Detail: ack.Detail, Nearest: ack.Nearest}, true
}

// command publishes a command that expires by this computer's clock. A ttl_ms
// would count from receipt: the broker keeps commands for devices that are off,
// and days later they would still run.
func (s *Station) command(ctx context.Context, topic string, c wire.Command, ttl time.Duration) error {
	c.ExpiresAt = new(wire.At(time.Now().Add(ttl)))
	b, err := json.Marshal(c)
	if err == nil {
		err = s.Publish(ctx, mqtt.Message{Topic: topic, Payload: b, QoS: 1})
	}
	if err != nil {
		return fmt.Errorf("command: %w", err)
	}
	return nil
}
