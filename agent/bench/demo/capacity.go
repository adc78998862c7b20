package demo

import (
	"context"
	"fmt"
	"time"

	"github.com/limber-edge/limber/agent/bench/desk"
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
	if err := desk.SetMode(ctx, c.mailbox, c.self, "fixed:"+member); err != nil {
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
		if _, err := desk.Await(ctx, c.mailbox, wire.KindResult); err != nil {
			return 0, err
		}
		answered++
		c.send(ctx)
	}
	rate := float64(answered) / time.Since(start).Seconds()
	for range capacityWindow {
		if _, err := desk.Await(ctx, c.mailbox, wire.KindResult); err != nil {
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
