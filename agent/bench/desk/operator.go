package desk

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

// Connect runs work with a mailbox that hears what the filters name, and
// disconnects.
func Connect(ctx context.Context, broker string, stderr io.Writer, filters []string,
	work func(context.Context, *fleet.Mailbox) error) error {
	cfg := mqtt.Default()
	cfg.Broker, cfg.ClientID = broker, "limber-"+fleet.NewID()[:12]
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	b, err := fleet.OpenMailbox(cfg, log, filters...)
	if err != nil {
		return err
	}
	return b.While(ctx, func(ctx context.Context) error { return work(ctx, b) })
}

// How long a device may take.
const (
	Silence   = 10 * time.Second // without a word, before it is given up
	StartTime = 2 * time.Minute  // to measure its members and connect
)

// SetMode sets a device's mode and waits until it did; the mailbox hears the
// acknowledgements.
func SetMode(ctx context.Context, b *fleet.Mailbox, self wire.Address, mode string) error {
	command, err := json.Marshal(wire.Command{Mode: mode, TTLMS: new(5000.0)})
	if err != nil {
		return err
	}
	m := mqtt.Message{Topic: self.Cmd(wire.VerbMode, fleet.NewID()), Payload: command, QoS: 1}
	if err := b.Publish(ctx, m); err != nil {
		return err
	}
	for {
		ack, err := awaitAck(ctx, b)
		switch {
		case err != nil || ack.State == wire.CommandSucceeded:
			return err
		case ack.State.Final():
			return fmt.Errorf("mode %s: %s %s", mode, ack.State, ack.Detail)
		}
	}
}

// awaitAck waits for an acknowledgement and drops all other messages.
func awaitAck(ctx context.Context, b *fleet.Mailbox) (ack wire.Ack, err error) {
	ctx, cancel := context.WithTimeout(ctx, Silence)
	defer cancel()
	for {
		m, err := b.Next(ctx)
		if err != nil {
			return ack, fmt.Errorf("the device does not answer: %w", err)
		}
		if t, err := wire.ParseTopic(m.Topic); err == nil && t.Kind == wire.KindAck {
			return ack, wire.Decode(m.Payload, &ack)
		}
	}
}

// AwaitMembers waits until a device, whose state and capabilities the mailbox hears,
// has members in use. The error says why it cannot have any.
func AwaitMembers(ctx context.Context, b *fleet.Mailbox, self wire.Address) (s wire.State, c wire.Caps, err error) {
	for s.BootID == "" || len(c.Members) == 0 {
		m, err := b.Next(ctx)
		if err != nil {
			return s, c, fmt.Errorf("the agent did not come up: %w", err)
		}
		switch m.Topic {
		case self.Caps():
			err = wire.Decode(m.Payload, &c)
		case self.State():
			if err = wire.Decode(m.Payload, &s); err == nil && s.Detail != "" && !strings.HasPrefix(s.Detail, "preparing") {
				err = fmt.Errorf("the agent can use no member on this machine: %s", s.Detail)
			}
		}
		if err != nil {
			return s, c, err
		}
	}
	return s, c, nil
}

// Sent is the error of a message that could not even be sent; whether the broker
// has it is not waited for.
func Sent(outcome <-chan error) error {
	select {
	case err := <-outcome:
		return err
	default:
		return nil
	}
}

// Wait waits for a moment, such as that of the next frame.
func Wait(ctx context.Context, until time.Time) error {
	t := time.NewTimer(time.Until(until))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Client publishes frames to a device and receives their results, and nothing else.
// One goroutine at a time may use it.
type Client struct {
	Mailbox *fleet.Mailbox
	Self    wire.Address // of the device
	name    string       // that its ids begin with
	sent    int
	open    map[string]time.Time // when the frames were sent whose results are missing, by id
}

// ClientFilters is what a client's mailbox must subscribe to.
func ClientFilters(self wire.Address) []string {
	return []string{self.Filter(wire.KindResult), mirror(self).Filter(wire.KindJob)}
}

// mirror is a device that nobody is: what a client sends there, it receives.
func mirror(self wire.Address) wire.Address { return wire.Address{Fleet: self.Fleet, Device: "mirror"} }

// NewClient is a client of a device.
func NewClient(mailbox *fleet.Mailbox, self wire.Address) *Client {
	return &Client{Mailbox: mailbox, Self: self, name: fleet.NewID()[:12], open: map[string]time.Time{}}
}

// send publishes a frame and does not wait.
func (c *Client) send(ctx context.Context, job []byte) error {
	id := fmt.Sprintf("%s-%d", c.name, c.sent)
	c.sent++
	c.open[id] = time.Now()
	return Sent(c.Mailbox.Send(ctx, mqtt.Message{Topic: c.Self.Job(id), Payload: job, QoS: 1}))
}

// receive waits for the next result of a frame of this client, and says how long
// after the frame it came.
func (c *Client) receive(ctx context.Context) (r wire.Result, took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, Silence)
	defer cancel()
	for {
		m, err := c.Mailbox.Next(ctx)
		now := time.Now()
		if err != nil {
			return r, 0, fmt.Errorf("the agent does not answer: %w", err)
		}
		t, err := wire.ParseTopic(m.Topic)
		sent, ours := c.open[t.ID]
		if err != nil || t.Kind != wire.KindResult || !ours {
			continue
		}
		delete(c.open, t.ID)
		if err := wire.Decode(m.Payload, &r); err != nil {
			return r, 0, fmt.Errorf("result %s: %w", t.ID, err)
		}
		return r, now.Sub(sent), nil
	}
}

// Ask publishes a frame and waits for its result.
func (c *Client) Ask(ctx context.Context, job []byte) (wire.Result, time.Duration, error) {
	if err := c.send(ctx, job); err != nil {
		return wire.Result{}, 0, err
	}
	return c.receive(ctx)
}

// Echo publishes a message and waits until it comes back from the broker.
func (c *Client) Echo(ctx context.Context, payload []byte) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, Silence)
	defer cancel()
	topic, start := mirror(c.Self).Job("echo"), time.Now()
	if err := Sent(c.Mailbox.Send(ctx, mqtt.Message{Topic: topic, Payload: payload, QoS: 1})); err != nil {
		return 0, err
	}
	for {
		m, err := c.Mailbox.Next(ctx)
		if err != nil {
			return 0, fmt.Errorf("the broker does not answer: %w", err)
		}
		if m.Topic == topic {
			return time.Since(start), nil
		}
	}
}

// KeepUnderWay keeps a window of frames under way: it sends one whenever another was
// answered, and calls each with every result that comes within a time. It returns
// when none is missing.
func (c *Client) KeepUnderWay(ctx context.Context, jobs [][]byte, window int, d time.Duration,
	each func(*wire.Result, time.Duration)) error {
	next := 0
	send := func() error {
		next++
		return c.send(ctx, jobs[next%len(jobs)])
	}
	end := time.Now().Add(d)
	for range window {
		if err := send(); err != nil {
			return err
		}
	}
	for len(c.open) > 0 {
		r, took, err := c.receive(ctx)
		if err != nil {
			return err
		}
		if !time.Now().Before(end) {
			continue
		}
		each(&r, took)
		if err := send(); err != nil {
			return err
		}
	}
	return nil
}

// fewMore is how often a client asks that has settled.
const fewMore = 20

// Settle asks until the agent answers with a member, which it may still have to
// load, then a few times more; with any if the name is empty.
func (c *Client) Settle(ctx context.Context, job []byte, member string) error {
	for end := time.Now().Add(StartTime); ; {
		r, _, err := c.Ask(ctx, job)
		if err != nil {
			return err
		}
		if r.Status == wire.OK && (member == "" || r.Member == member) {
			break
		}
		if time.Now().After(end) {
			return fmt.Errorf("the agent does not answer with member %s: %s %s", member, r.Member, r.Detail)
		}
	}
	for range fewMore {
		if _, _, err := c.Ask(ctx, job); err != nil {
			return err
		}
	}
	return nil
}
