package fleet

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

// ErrDropped says that the broker acknowledged a message and handed it to nobody: its
// access list does not let this user publish it.
var ErrDropped = errors.New("the broker dropped the command: this name may not steer")

// How long after its acknowledgement a message may take to come back to who sent it.
const (
	echoLeast = 2 * time.Second
	echoTrips = 3 // of the link, beside that
)

// ask publishes a message, and hands what comes on the routes, of which one is that of
// the message itself, to take until that has all, patience is over or ctx ends. Its
// error is that the message was not sent, or ErrDropped: then it has not come back on a
// connection that held. Patience may be over sooner than that is known.
func (c *Client) ask(ctx context.Context, m mqtt.Message, patience time.Duration,
	take func(wire.Topic, mqtt.Message) (last bool), routes ...route) error {
	back := newEcho(m)
	waiter := c.router.wait(func(t wire.Topic, got mqtt.Message) bool {
		back.hear(t, got)
		return take(t, got)
	}, routes...)
	defer c.router.end(waiter)
	breaks := c.breaks()
	if err := c.Publish(ctx, m); err != nil {
		return err
	}
	return c.follow(ctx, breaks, patience, back.heard, waiter.over)
}

// Give publishes a command, and waits until it comes back or is answered, for which the
// client must be subscribed to commands. Its error is that it was not sent, or ErrDropped.
func (c *Client) Give(ctx context.Context, id string, m mqtt.Message) error {
	return c.ask(ctx, m, 0, func(wire.Topic, mqtt.Message) bool { return true },
		route{wire.KindAck, id}, route{wire.KindCmd, id})
}

// follow waits for what becomes of a message that was acknowledged.
func (c *Client) follow(ctx context.Context, breaks uint64, patience time.Duration, heard, over <-chan struct{}) error {
	enough := time.After(patience)
	if err := c.handedOn(ctx, breaks, heard, over); err != nil {
		return err
	}
	select {
	case <-over:
	case <-enough:
	case <-ctx.Done():
	}
	return nil
}

// handedOn waits for a message that was acknowledged to be heard, or for all to be over.
// Its error is ErrDropped. Until then there were so many breaks when it was sent.
func (c *conn) handedOn(ctx context.Context, breaks uint64, heard, over <-chan struct{}) error {
	select {
	case <-heard:
	case <-over:
	case <-ctx.Done():
	case <-time.After(echoLeast + echoTrips*c.roundTrip()):
		if c.breaks() == breaks {
			return ErrDropped
		}
	}
	return nil
}

// echo listens for a message to come back.
type echo struct {
	sent  mqtt.Message
	once  sync.Once
	heard chan struct{} // closed when it came
}

func newEcho(m mqtt.Message) *echo { return &echo{sent: m, heard: make(chan struct{})} }

// hear looks at what came: the message itself, or a device's answer to its id, which no
// other message has.
func (e *echo) hear(t wire.Topic, m mqtt.Message) {
	if t.Kind == wire.KindAck || m.Topic == e.sent.Topic && bytes.Equal(m.Payload, e.sent.Payload) {
		e.once.Do(func() { close(e.heard) })
	}
}

// came tells whether it came back.
func (e *echo) came() bool {
	select {
	case <-e.heard:
		return true
	default:
		return false
	}
}
