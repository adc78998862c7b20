// Package fleet is the operator's side: who is there, what they run, and what
// they are to do.
//
//	             ┌────────────────── Client: one connection ─────────────────────┐
//	documents ──▶│ Receive ──▶ Registry ──▶ Devices, Device: values of a moment  │──▶ List
//	and events   │    │            └─────▶ Subscription: who changed, newest wins │──▶ AwaitOnline
//	             │    ▼                                                          │
//	acks, ──────▶│  router, by id ──▶ Command  (acks of its id)                  │──▶ outcomes
//	results      │                ──▶ Exchange (results of its ids)              │──▶ answers
//	             │                ──▶ Desire   (its target, and the reports)     │──▶ reports
//	             └───────────────────────────────────────────────────────────────┘
//
// MQTT 3.1.1 acknowledges a publish that the broker drops, for whom it may not be
// from. A Command and a Desire are therefore their own first listeners: what does not
// come back was dropped, see ask.
//
// What a device retains, its last telemetry and its last events are one value in
// the Registry, which a message replaces whole: readers keep what they were given.
// An answer belongs to the operation whose id it has; several run at once on one
// Client. The goroutine of the link's reader does all this and never waits for a
// reader of the picture or for an operation: a Subscription holds the names of who
// changed, an operation keeps of each device what it needs, and both are bounded by
// the number of devices. What comes too late is nobody's; what is too much, or
// cannot be read, is counted.
//
// The rule that makes it simple: nothing here decides what is true. That is retained
// at the broker, and a command's answer comes from the device, not from the fact that
// it was sent.
//
// What goes on reads a Subscription: Changes tells of documents that changed, Events of each
// event once, a Ranking has the devices in the order in which they are to be looked at, and
// a Board is that as the table of a terminal. Which devices are meant says a Where.
// Labels are the one document that operators write of a device, and that it does not know.
//
// A Mailbox is the same connection without the picture: it hands over each message,
// for those who play a camera or a device, or measure one.
package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

// Client is an operator's connection to a broker. Its methods may be called from
// any goroutine, several operations at once.
type Client struct {
	conn
	registry *Registry
	router   *router

	state   sync.Mutex // guards what follows
	arrived time.Time  // when the connection began, or a retained message came after that
	version uint64     // the greatest of a desired state that this client took
}

// Open assembles a client that subscribes to filters, QoS 1: see ListFilters and its
// like.
func Open(cfg mqtt.Config, log *slog.Logger, filters ...string) (*Client, error) {
	return OpenBehind(func(c *Client) mqtt.Handler { return c }, cfg, log, filters...)
}

// OpenBehind is Open for who hears as well what the link tells: the handler stands
// before the client, and hands on to it all that it hears.
func OpenBehind(handler func(*Client) mqtt.Handler, cfg mqtt.Config, log *slog.Logger,
	filters ...string) (*Client, error) {
	c := newClient()
	if err := c.assemble(cfg, handler(c), log, filters); err != nil {
		return nil, err
	}
	return c, nil
}

func newClient() *Client {
	return &Client{conn: newConn(), arrived: time.Now(),
		registry: &Registry{devices: map[string]*entry{}, subscriptions: map[*Subscription]struct{}{}},
		router:   &router{waiting: map[route][]*waiter{}}}
}

// Registry is the picture of the fleet.
func (c *Client) Registry() *Registry { return c.registry }

// Connected serves the link. The broker tells anew what it retains.
func (c *Client) Connected(connSeq uint64, present bool) {
	c.touch()
	c.conn.Connected(connSeq, present)
}

// touch notes that retained messages may follow.
func (c *Client) touch() {
	c.state.Lock()
	c.arrived = time.Now()
	c.state.Unlock()
}

// Receive brings a message into the picture, and to the operation that waits for it.
func (c *Client) Receive(m mqtt.Message, ack func()) {
	ack()
	if m.Retained {
		c.touch()
	}
	if t, err := wire.ParseTopic(m.Topic); err == nil {
		c.registry.apply(t, m)
		c.router.deliver(t, m)
	}
}

// How long nothing may come before the retained messages are taken to be complete:
// MQTT 3.1.1 does not mark the last one. A link that takes long for an answer may
// take as long between two messages. A program that was held up for as long sees the
// time pass and not what came meanwhile, so an answer of the broker has the last word.
const (
	quietLeast = 300 * time.Millisecond
	quietTrips = 3
	quietMost  = 10 * time.Second
)

// listMost bounds the wait altogether: a link that breaks again and again brings
// the retained messages anew each time.
const listMost = 2 * time.Minute

// settle waits until no retained message has come for a while on this connection, nor
// while the broker answered a question then; a busy fleet is never quiet altogether.
func (c *Client) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, listMost,
		fmt.Errorf("the list of the fleet did not end within %v: does the link break again and again?", listMost))
	defer cancel()
	for {
		last, err := c.quiet(ctx)
		if err == nil {
			err = c.probe(ctx)
		}
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, mqtt.ErrDown):
			c.touch() // for the next connection
		case err != nil || c.last().Equal(last):
			return err
		}
	}
}

// quiet waits until no retained message has come for a while, and returns when the last
// one did. Its only error is ctx's.
func (c *Client) quiet(ctx context.Context) (last time.Time, err error) {
	for {
		last = c.last()
		rest := time.Until(last.Add(min(max(quietLeast, quietTrips*c.roundTrip()), quietMost)))
		if rest <= 0 {
			return last, nil
		}
		select {
		case <-time.After(rest):
		case <-ctx.Done():
			return last, ctx.Err()
		}
	}
}

// last is when the last retained message came, or might have begun to.
func (c *Client) last() time.Time {
	c.state.Lock()
	defer c.state.Unlock()
	return c.arrived
}

// AwaitOnline waits until the device says that it is there: what is sent to it before
// would reach nobody. Its only error is ctx's, and with it comes what is known of the
// device.
func (c *Client) AwaitOnline(ctx context.Context, device string) (Device, error) {
	s := c.registry.Subscribe(device)
	defer s.Close()
	return s.Until(ctx, Device.Online)
}

// AwaitTelemetry waits for telemetry of the device other than what is known, which
// may be nil. Its only error is ctx's.
func (c *Client) AwaitTelemetry(ctx context.Context, device string, known *wire.Telemetry) (*wire.Telemetry, error) {
	s := c.registry.Subscribe(device)
	defer s.Close()
	d, err := s.Until(ctx, func(d Device) bool { return d.Telemetry != nil && d.Telemetry != known })
	return d.Telemetry, err
}

// ListFilters is what a client must subscribe to for List.
func ListFilters(fleet string) []string {
	return fleetFilters(fleet, wire.KindState, wire.KindCaps, wire.KindReported, wire.KindLabels)
}

// CommandFilters is what a client must subscribe to for Command: commands as well, for
// its own must come back.
func CommandFilters(fleet string) []string {
	return append(ListFilters(fleet), fleetFilters(fleet, wire.KindAck, wire.KindCmd)...)
}

// DesireFilters is what a client must subscribe to for Desire.
func DesireFilters(fleet string) []string {
	return append(ListFilters(fleet), wire.FleetFilter(fleet, wire.KindDesired))
}

// ExchangeFilters is what a client must subscribe to for Exchange and AwaitOnline.
func ExchangeFilters(device wire.Address) []string {
	return []string{device.Filter(wire.KindResult), device.State()}
}

// TelemetryFilters is what a client must subscribe to for AwaitTelemetry.
func TelemetryFilters(fleet, device string) []string {
	return []string{wire.Address{Fleet: fleet, Device: device}.Telemetry()}
}

// RegistryFilters is all that a Registry can show of a fleet.
func RegistryFilters(fleet string) []string {
	return append(DesireFilters(fleet), fleetFilters(fleet, wire.KindTelemetry, wire.KindEvent)...)
}

func fleetFilters(fleet string, kinds ...wire.Kind) (filters []string) {
	for _, kind := range kinds {
		filters = append(filters, wire.FleetFilter(fleet, kind))
	}
	return filters
}

// List returns the devices of the fleet, by name, once the broker has told all that
// it retains.
func (c *Client) List(ctx context.Context) ([]Device, error) {
	if err := c.settle(ctx); err != nil {
		return nil, err
	}
	return c.registry.Devices(), nil
}
