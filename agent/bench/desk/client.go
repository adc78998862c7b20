package desk

import (
	"context"
	"fmt"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

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
