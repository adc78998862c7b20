package fleet

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
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
	// It expires by this computer's clock. A ttl_ms would count from receipt: the broker
	// keeps commands for devices that are off, and days later they would still run.
	command.ExpiresAt = new(wire.At(time.Now().Add(ttl)))
	b, err := json.Marshal(command)
	if err != nil {
		return nil, fmt.Errorf("command: %w", err)
	}
	to := wire.Address{Fleet: fleet, Device: target}
	return c.Order(ctx, Order{ID: NewID(), To: to, Verb: command.Verb(), Payload: b, Patience: ttl, Told: func(Told) {}})
}

// Order is a command in the words of who gives it.
type Order struct {
	ID       string       // of its own
	To       wire.Address // a device or a group
	Verb     string
	Payload  []byte // with the expiry, see Payload
	Patience time.Duration
	Told     func(Told) // called with each acknowledgement, as they come, one at a time
}

// Told is a state that a command passed on a device.
type Told struct {
	Device string `json:"device"`
	wire.Ack
}

// Words is what the acknowledgement says beside its state: how far the command is, and
// why it failed.
func (t Told) Words() string {
	var parts []string
	if p := t.Progress; p != nil {
		parts = append(parts, progressWords(*p))
	}
	if t.Shadow != nil && t.Shadow.Frames > 0 {
		parts = append(parts, agreementWords(*t.Shadow))
	}
	if t.Detail != "" {
		parts = append(parts, t.Detail)
	}
	if t.RolledBack {
		parts = append(parts, backTo(t.Verb == wire.VerbRelease))
	}
	return Printable(strings.Join(parts, "; "))
}

// agreementWords is what came of comparing a family with the one in use.
func agreementWords(a wire.Agreement) string {
	text := fmt.Sprintf("%d of %d frames agree, %d would be late", a.Agreed, a.Frames, a.Missed)
	if a.P95MS != nil {
		text += fmt.Sprintf(", p95 %.2f ms", *a.P95MS)
	}
	return text
}

// progressWords is how far a family or a release is on its way.
func progressWords(p wire.Progress) string {
	switch p.Step {
	case wire.UpdateFetching:
		if p.Of > 0 {
			return fmt.Sprintf("%s, %.1f of %.1f MiB", p.Step, float64(p.Done)/(1<<20), float64(p.Of)/(1<<20))
		}
	case wire.UpdateTrial:
		return fmt.Sprintf("%s, %d frames answered", p.Step, p.Frames)
	case wire.UpdateProbation:
		text := fmt.Sprintf("%s, %d frames answered, %d late", p.Step, p.Frames, p.Missed)
		if p.P95MS != nil {
			text += fmt.Sprintf(", p95 %.2f ms", *p.P95MS)
		}
		return text
	}
	return string(p.Step)
}

// Payload is that of a command in JSON, "" for one without a word, which expires at a
// time unless it says otherwise.
func Payload(command string, expires time.Time) ([]byte, error) {
	if command == "" {
		command = "{}"
	}
	var c wire.Command
	if err := wire.Decode([]byte(command), &c); err != nil {
		return nil, err
	}
	if c.ExpiresAt != nil || c.TTLMS != nil {
		_, err := c.Expiry(time.Now())
		return []byte(command), err
	}
	fields := map[string]json.RawMessage{} // those as well that this program does not know
	at, err := json.Marshal(wire.At(expires))
	if err == nil {
		err = json.Unmarshal([]byte(command), &fields)
	}
	fields["expires_at"] = at
	b, _ := json.Marshal(fields) // of what was JSON before
	return b, err
}

// Order sends a command and waits, no longer than its patience, until every device that
// is online and meant has ended it. When it returns, all that came was told.
func (c *Client) Order(ctx context.Context, o Order) ([]Outcome, error) {
	devices, err := c.List(ctx)
	if err != nil {
		return nil, err
	}
	got := newAnswers(devices, o.To.Device, o.Patience)
	if len(got.open) == 0 {
		return nil, fmt.Errorf("no device of fleet %s that is online answers to %s; see `limber fleet ls`", o.To.Fleet,
			o.To.Device)
	}
	news := newTellings()
	done := make(chan struct{})
	go func() {
		defer close(done)
		news.tell(o.Told)
	}()
	err = c.send(ctx, o, func(t wire.Topic, m mqtt.Message) bool {
		news.take(t, m)
		return got.take(t, m)
	})
	news.end()
	<-done
	if err != nil {
		return nil, err
	}
	return got.list(), ctx.Err()
}

// dispatchMost is how long a command may take to come back over a link that broke.
const dispatchMost = 10 * time.Second

// Dispatch sends a command and waits for nobody but the broker, which keeps it for
// devices that are off.
func (c *Client) Dispatch(ctx context.Context, o Order) error {
	o.Patience = min(o.Patience, dispatchMost)
	err := c.send(ctx, o, func(t wire.Topic, _ mqtt.Message) bool { return t.Kind == wire.KindCmd })
	if err == nil {
		err = ctx.Err()
	}
	return err
}

// send sends a command; take is that of ask.
func (c *Client) send(ctx context.Context, o Order, take func(wire.Topic, mqtt.Message) bool) error {
	m := mqtt.Message{Topic: o.To.Cmd(o.Verb, o.ID), Payload: o.Payload, QoS: 1}
	err := c.ask(ctx, m, o.Patience, take, route{wire.KindAck, o.ID}, route{wire.KindCmd, o.ID})
	if err != nil && !errors.Is(err, ErrDropped) {
		err = fmt.Errorf("command: %w", err)
	}
	return err
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
