package fleet

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/limber-edge/limber/agent/mqtt"
)

// conn is a connection to a broker whose session ends with it. Its methods may be
// called from any goroutine. Who embeds it receives the messages.
type conn struct {
	*mqtt.Link
	broker    string                      // URL, for people
	roundTrip func() time.Duration        // the link's
	probe     func(context.Context) error // the link's
	open      chan struct{}               // closed on the first connection, once it is known what was denied

	mu      sync.Mutex
	once    sync.Once
	lastErr error
	up      bool
	losses  uint64 // connections and attempts that failed
	denied  []string
	seq     uint64        // of the connection that is up, or was last
	next    chan struct{} // closed at the next connection
}

func newConn() conn { return conn{open: make(chan struct{}), next: make(chan struct{})} }

// assemble makes the link, which subscribes to filters, QoS 1, and hands on to h.
func (c *conn) assemble(cfg mqtt.Config, h mqtt.Handler, log *slog.Logger, filters []string) error {
	cfg.CleanSession = true
	cfg.Subscriptions = nil
	for _, f := range filters {
		cfg.Subscriptions = append(cfg.Subscriptions, mqtt.Subscription{Filter: f, QoS: 1})
	}
	link, err := mqtt.New(cfg, h, log)
	if err != nil {
		return err
	}
	var brokers mqtt.URLs
	brokers.Set(cfg.Broker)
	c.Link, c.broker = link, brokers.Redacted().String()
	c.roundTrip, c.probe = link.RoundTrip, link.Probe
	return nil
}

// Broker is its URL, for people.
func (c *conn) Broker() string { return c.broker }

// Ready waits until the connection stands and is subscribed. Its error names why
// it is not.
func (c *conn) Ready(ctx context.Context) error {
	select {
	case <-c.open:
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.denied) > 0 {
		return fmt.Errorf("the broker does not let this user read %v", c.denied)
	}
	if ctx.Err() == nil {
		return nil
	}
	if c.lastErr != nil {
		return c.lastErr
	}
	return ctx.Err()
}

// connectTime is how long a connection may take that While waits for.
const connectTime = 5 * time.Second

// While connects, runs work, and disconnects. An error that there is no connection
// names the broker.
func (c *conn) While(ctx context.Context, work func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	defer func() {
		cancel()
		<-done
	}()
	wait, stop := context.WithTimeout(ctx, connectTime)
	defer stop()
	if err := c.Ready(wait); err != nil {
		return fmt.Errorf("broker %s: %w", c.broker, err)
	}
	return work(ctx)
}

// Connection waits for a connection behind the one of the number after, and returns
// its number; they begin at 1. Its error is ctx's.
func (c *conn) Connection(ctx context.Context, after uint64) (seq uint64, err error) {
	for {
		c.mu.Lock()
		seq, next := c.seq, c.next
		c.mu.Unlock()
		if seq > after {
			return seq, nil
		}
		select {
		case <-next:
		case <-ctx.Done():
			return seq, ctx.Err()
		}
	}
}

// Connected, Denied and Lost serve the link. Connected leaves it to Denied, which
// follows, to open a connection that was refused something.
func (c *conn) Connected(connSeq uint64, _ bool) {
	c.mu.Lock()
	before := c.next
	c.seq, c.next, c.up = connSeq, make(chan struct{}), true
	c.mu.Unlock()
	close(before)
	if c.Counts().Denied == 0 {
		c.opened()
	}
}

// Denied keeps the refused filters for Ready.
func (c *conn) Denied(filters []string) {
	c.mu.Lock()
	c.denied = filters
	c.mu.Unlock()
	c.opened()
}

func (c *conn) opened() { c.once.Do(func() { close(c.open) }) }

// Lost keeps the reason for Ready.
func (c *conn) Lost(err error) {
	c.mu.Lock()
	c.lastErr, c.up = err, false
	c.losses++
	c.mu.Unlock()
}

// Trouble is why there is no connection; nil while there is one.
func (c *conn) Trouble() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.up {
		return nil
	}
	return c.lastErr
}

// breaks counts what was lost so far: between two calls that return the same no
// message was.
func (c *conn) breaks() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.losses
}
