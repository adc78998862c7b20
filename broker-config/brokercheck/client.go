package brokercheck

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/limber-edge/limber/agent/mqtt"
)

// quiet is how long nothing may come before nothing more is expected.
const quiet = 500 * time.Millisecond

// room is how many messages a client keeps that no check has looked at.
const room = 8192

// client is one connection of one check. When it is lost it is not made again.
type client struct {
	*mqtt.Link
	hold       bool          // messages are not acknowledged
	connected  chan struct{} // closed when it is; what follows is set by then
	conn       net.Conn
	remembered bool // the broker had a session of this client
	lost       chan error
	arrived    chan mqtt.Message
	end        context.CancelFunc
	ended      chan struct{}
}

// option is how a client differs from one with a clean session and no subscription.
type option func(*mqtt.Config, *client)

func subscribed(filters ...string) option {
	return func(cfg *mqtt.Config, _ *client) {
		for _, f := range filters {
			cfg.Subscriptions = append(cfg.Subscriptions, mqtt.Subscription{Filter: f, QoS: 1})
		}
	}
}

// atMostOnce has the subscriptions before it made with QoS 0.
func atMostOnce(cfg *mqtt.Config, _ *client) {
	for i := range cfg.Subscriptions {
		cfg.Subscriptions[i].QoS = 0
	}
}

// holding leaves messages without an acknowledgement.
func holding(_ *mqtt.Config, c *client) { c.hold = true }

// persistent has the broker keep the session.
func persistent(cfg *mqtt.Config, _ *client) { cfg.CleanSession = false }

func withWill(m mqtt.Message) option {
	return func(cfg *mqtt.Config, _ *client) { cfg.Will = func(uint64) mqtt.Message { return m } }
}

// open connects a client of the operator.
func (p probe) open(ctx context.Context, id string, options ...option) (*client, error) {
	return connect(ctx, p.cfg.Operator, id, options)
}

// openClearing connects one of the operator by whose will, which is to retain nothing,
// the broker itself forgets what it retains of a topic when this client is killed. Some
// refuse a will without bytes (mochi), and are cleared by the next run.
func (p probe) openClearing(ctx context.Context, id, topic string, options ...option) (*client, error) {
	nothing := withWill(mqtt.Message{Topic: topic, QoS: 1, Retained: true})
	c, err := p.open(ctx, id, append(options, nothing)...)
	if errors.Is(err, mqtt.ErrRefused) || errors.Is(err, mqtt.ErrBadPacket) { // which is how those refuse it
		return p.open(ctx, id, options...)
	}
	return c, err
}

// openDevice connects one of the device.
func (p probe) openDevice(ctx context.Context, options ...option) (*client, error) {
	return connect(ctx, p.cfg.Device, "device", options)
}

func connect(ctx context.Context, b mqtt.Broker, id string, options []option) (*client, error) {
	cfg, err := b.Config("limber-check-" + id)
	if err != nil {
		return nil, err
	}
	c := &client{connected: make(chan struct{}), lost: make(chan error, len(b.URL)),
		arrived: make(chan mqtt.Message, room), ended: make(chan struct{})}
	cfg.CleanSession, cfg.MaxPayload, cfg.Dial = true, cfg.MaxPacket, c.dial
	for _, set := range options {
		set(&cfg, c)
	}
	if c.Link, err = mqtt.New(cfg, c, slog.New(slog.DiscardHandler)); err != nil {
		return nil, err
	}
	run, end := context.WithCancel(context.WithoutCancel(ctx))
	c.end = end
	go func() {
		defer close(c.ended)
		c.Run(run) // has no error
	}()
	return c, c.up(ctx, len(b.URL))
}

// up waits for the connection; each of some brokers may fail but the last.
func (c *client) up(ctx context.Context, brokers int) error {
	var err error
	for range brokers {
		select {
		case <-c.connected:
			return nil
		case err = <-c.lost:
		case <-ctx.Done():
			err = errors.Join(err, ctx.Err())
		}
	}
	c.close()
	return err
}

// errOver ends the attempts of a client that had its connection.
var errOver = errors.New("the connection is not made again")

// dial keeps the connection, so that it can be cut. The link calls it and Connected
// one after the other.
func (c *client) dial(ctx context.Context, network, address string) (net.Conn, error) {
	select {
	case <-c.connected:
		return nil, errOver
	default:
	}
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	c.conn = conn
	return conn, err
}

// close ends the connection in order.
func (c *client) close() {
	c.end()
	<-c.ended
}

// cut ends it as a power cut does: nothing is said.
func (c *client) cut() {
	c.conn.Close()
	<-c.lost
	c.close()
}

// Connected, Denied, Lost and Receive serve the link.
func (c *client) Connected(_ uint64, present bool) {
	c.remembered = present
	close(c.connected)
}

func (c *client) Denied([]string) {} // counted by the link

func (c *client) Lost(err error) {
	select {
	case c.lost <- err:
	default:
	}
}

func (c *client) Receive(m mqtt.Message, ack func()) {
	if !c.hold {
		ack()
	}
	select {
	case c.arrived <- m:
	default: // far more than any check expects
	}
}

// await returns the next message of the topic; others are passed over.
func (c *client) await(ctx context.Context, topic string) (mqtt.Message, error) {
	for {
		select {
		case m := <-c.arrived:
			if m.Topic == topic {
				return m, nil
			}
		case <-ctx.Done():
			return mqtt.Message{}, ctx.Err()
		}
	}
}

// none waits for a while and complains of a message of the topic.
func (c *client) none(ctx context.Context, topic string) error {
	ctx, cancel := context.WithTimeout(ctx, quiet)
	defer cancel()
	if _, err := c.await(ctx, topic); err == nil {
		return fmt.Errorf("a message of %s came", topic)
	}
	return nil
}

// pending returns what the broker had for this client when it was called: all that
// comes before a message of its own, and for a while after it.
func (c *client) pending(ctx context.Context) (messages []mqtt.Message, err error) {
	mark := topic("mark", "job/1")
	if err := c.Publish(ctx, mqtt.Message{Topic: mark, QoS: 1, Payload: []byte("mark")}); err != nil {
		return nil, err
	}
	var settled <-chan time.Time
	for {
		select {
		case m := <-c.arrived:
			if m.Topic == mark {
				settled = time.After(quiet)
				continue
			}
			messages = append(messages, m)
		case <-settled:
			return messages, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// first returns the payloads of the next n messages below a topic that have not
// come before, in the order of arrival; fewer when no more come.
func (c *client) first(ctx context.Context, n int) (payloads []string) {
	seen := map[string]bool{}
	for len(payloads) < n {
		select {
		case m := <-c.arrived:
			if text := string(m.Payload); !seen[text] {
				seen[text] = true
				payloads = append(payloads, text)
			}
		case <-ctx.Done():
			return payloads
		}
	}
	return payloads
}

// send publishes n messages to topic, numbered from 1 on, with QoS 1 and without
// waiting for one before the next. It returns when all are acknowledged.
func (c *client) send(ctx context.Context, topic string, n int) error {
	outcomes := make([]<-chan error, 0, n)
	for i := range n {
		outcomes = append(outcomes, c.Send(ctx, mqtt.Message{Topic: topic, QoS: 1, Payload: fmt.Appendf(nil, "%d", i+1)}))
	}
	for i, outcome := range outcomes {
		select {
		case err := <-outcome:
			if err != nil {
				return fmt.Errorf("publish %d of %d: %w", i+1, n, err)
			}
		case <-ctx.Done():
			return fmt.Errorf("%d of %d publishes were acknowledged", i, n)
		}
	}
	return nil
}

// settle returns when the broker has put what this client sent where it belongs: some
// (mochi) acknowledge a message before that, but take the next one after it.
func (c *client) settle(ctx context.Context) error {
	return c.send(ctx, topic("mark", "job/1"), 1)
}
