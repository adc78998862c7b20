package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

// capacity measures what the device can do over the same way that the cameras'
// frames take: broker, agent, broker.
type capacity struct {
	mailbox *fleet.Mailbox
	self    wire.Address
	jobs    [][]byte // the cameras' pictures, with no deadline to speak of
	sent    int
}

const (
	capacityTime   = 600 * time.Millisecond
	capacityWindow = 8 // jobs under way: enough that the device never waits for one
)

// of is how many frames a second the device answers with one member, each
// sent when another was answered. It is the better of two runs: whatever else
// the machine does only makes it less.
func (c *capacity) of(ctx context.Context, member string) (float64, error) {
	if err := c.setMode(ctx, "fixed:"+member); err != nil {
		return 0, err
	}
	best := 0.0
	for range 2 {
		rate, err := c.rate(ctx)
		if err != nil {
			return 0, err
		}
		best = max(best, rate)
	}
	return best, nil
}

// rate is how many jobs a second are answered during one capacityTime.
func (c *capacity) rate(ctx context.Context) (float64, error) {
	for range capacityWindow {
		c.send(ctx)
	}
	answered, start := 0, time.Now()
	for time.Since(start) < capacityTime {
		if _, err := c.await(ctx, wire.KindResult); err != nil {
			return 0, err
		}
		answered++
		c.send(ctx)
	}
	rate := float64(answered) / time.Since(start).Seconds()
	for range capacityWindow {
		if _, err := c.await(ctx, wire.KindResult); err != nil {
			return 0, err
		}
	}
	return rate, nil
}

func (c *capacity) send(ctx context.Context) {
	c.sent++
	c.mailbox.Send(ctx, mqtt.Message{Topic: c.self.Job(fmt.Sprintf("capacity-%d", c.sent)),
		Payload: c.jobs[c.sent%len(c.jobs)], QoS: 1})
}

// await waits for a message of a kind and drops all others.
func (c *capacity) await(ctx context.Context, kind wire.Kind) (mqtt.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		m, err := c.mailbox.Next(ctx)
		if err != nil {
			return m, fmt.Errorf("demo: the device does not answer: %w", err)
		}
		if t, err := wire.ParseTopic(m.Topic); err == nil && t.Kind == kind {
			return m, nil
		}
	}
}

// setMode sets the device's mode and waits until it did.
func (c *capacity) setMode(ctx context.Context, mode string) error {
	ttl := 5000.0
	b, err := json.Marshal(wire.Command{Mode: mode, TTLMS: &ttl})
	if err != nil {
		return err
	}
	m := mqtt.Message{Topic: c.self.Cmd("mode", fleet.NewID()), Payload: b, QoS: 1}
	if err := c.mailbox.Publish(ctx, m); err != nil {
		return err
	}
	for {
		m, err := c.await(ctx, wire.KindAck)
		if err != nil {
			return err
		}
		var ack wire.Ack
		if err := wire.Decode(m.Payload, &ack); err != nil {
			return err
		}
		if ack.State == wire.CommandSucceeded {
			return nil
		}
		if ack.State.Final() {
			return fmt.Errorf("demo: mode %s: %s %s", mode, ack.State, ack.Detail)
		}
	}
}
