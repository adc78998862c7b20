package fleet

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
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

// NewID returns an id for a job or a command that nobody else uses.
func NewID() string { return rand.Text() }

// Command sends a device or a group a command that is good for ttl and waits, no
// longer than that, until every device that is online and meant has ended it. A
// device that is off and comes back later than that, by its own clock, refuses it:
// see Desire. Who answers without having been listed is told of, too.
func (c *Client) Command(ctx context.Context, fleet, target string, command wire.Command,
	ttl time.Duration) ([]Outcome, error) {
	devices, err := c.List(ctx)
	if err != nil {
		return nil, err
	}
	got := newAnswers(devices, target, ttl)
	if len(got.open) == 0 {
		return nil, fmt.Errorf("no device of fleet %s that is online answers to %s; see `limber fleet ls`", fleet, target)
	}
	id := NewID()
	// It expires by this computer's clock. A ttl_ms would count from receipt: the broker
	// keeps commands for devices that are off, and days later they would still run.
	command.ExpiresAt = new(wire.At(time.Now().Add(ttl)))
	topic := wire.Address{Fleet: fleet, Device: target}.Cmd(command.Verb(), id)
	b, err := json.Marshal(command)
	if err == nil {
		message := mqtt.Message{Topic: topic, Payload: b, QoS: 1}
		err = c.ask(ctx, message, ttl, got.take, route{wire.KindAck, id}, route{wire.KindCmd, id})
	}
	if errors.Is(err, ErrDropped) {
		return nil, err
	} else if err != nil {
		return nil, fmt.Errorf("command: %w", err)
	}
	return got.list(), ctx.Err()
}

// answers is what is known of how a command ended.
type answers struct {
	mu       sync.Mutex
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

func (a *answers) list() []Outcome {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.outcomes)
}

func (a *answers) put(o Outcome) {
	a.at[o.Device] = len(a.outcomes)
	a.outcomes = append(a.outcomes, o)
}

// take takes an acknowledgement of the command, and tells whether all have ended
// it.
func (a *answers) take(t wire.Topic, m mqtt.Message) (all bool) {
	if t.Kind != wire.KindAck {
		return false
	}
	ack, err := decoded[wire.Ack](m)
	if err != nil {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.keep(Outcome{Device: t.Device, State: ack.State, Reason: ack.Reason, Detail: ack.Detail, Nearest: ack.Nearest})
	return len(a.open) == 0
}

// keep keeps the last state of a device. One that the list missed, or had as
// lost, is meant as well: nobody else knows the command's id.
func (a *answers) keep(o Outcome) {
	at, listed := a.at[o.Device]
	switch {
	case !listed && len(a.outcomes) == MaxDevices:
		return // no fleet that this program knows has as many
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
