// Package fleet is the operator's side: who is there, what they run, and what
// they are to do.
//
//	Station ──subscribe──▶ retained state of every device ──▶ List
//	        ──publish────▶ command ──▶ acknowledgements ────▶ Command
//	        ──retain─────▶ desired state ──▶ reported state ▶ Desire
//	        ──publish────▶ job     ──▶ result ──────────────▶ Next
//
// A Station is one connection. The rule that makes it simple: it keeps no state
// of its own; what is true is retained at the broker, and a command's answer
// comes from the device, not from the fact that it was sent.
package fleet

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/limber-edge/limber/agent/mqtt"
)

// Station is an operator's connection to a broker. Its methods may be called
// from any goroutine, but only one may call Next at a time.
type Station struct {
	link      *mqtt.Link
	roundTrip func() time.Duration // the link's
	mail      chan struct{}        // holds one token when there is something for Next
	open      chan struct{}        // closed on the first connection, once it is known what was denied

	mu       sync.Mutex
	received []mqtt.Message
	once     sync.Once
	lastErr  error
	denied   []string
	seq      uint64        // of the connection that is up, or was last
	next     chan struct{} // closed at the next connection
}

// Open assembles a station that subscribes to filters, QoS 1. Its session ends
// with the connection.
func Open(cfg mqtt.Config, log *slog.Logger, filters ...string) (*Station, error) {
	s := &Station{mail: make(chan struct{}, 1), open: make(chan struct{}), next: make(chan struct{})}
	cfg.CleanSession = true
	cfg.Subscriptions = nil
	for _, f := range filters {
		cfg.Subscriptions = append(cfg.Subscriptions, mqtt.Subscription{Filter: f, QoS: 1})
	}
	link, err := mqtt.New(cfg, s, log)
	if err != nil {
		return nil, err
	}
	s.link, s.roundTrip = link, link.RoundTrip
	return s, nil
}

// Run keeps the connection until ctx ends.
func (s *Station) Run(ctx context.Context) error { return s.link.Run(ctx) }

// Ready waits until the station is connected and subscribed. Its error names
// why it is not.
func (s *Station) Ready(ctx context.Context) error {
	select {
	case <-s.open:
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.denied) > 0 {
		return fmt.Errorf("the broker does not let this user read %v", s.denied)
	}
	if ctx.Err() == nil {
		return nil
	}
	if s.lastErr != nil {
		return s.lastErr
	}
	return ctx.Err()
}

// Connection waits for a connection behind the one of the number after, and returns
// its number; they begin at 1. Its error is ctx's.
func (s *Station) Connection(ctx context.Context, after uint64) (seq uint64, err error) {
	for {
		s.mu.Lock()
		seq, next := s.seq, s.next
		s.mu.Unlock()
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

// Publish sends a message and waits for the broker's acknowledgement.
func (s *Station) Publish(ctx context.Context, m mqtt.Message) error { return s.link.Publish(ctx, m) }

// Send sends a message without waiting; the channel carries the outcome.
func (s *Station) Send(ctx context.Context, m mqtt.Message) <-chan error { return s.link.Send(ctx, m) }

// Next returns the next message that arrived.
func (s *Station) Next(ctx context.Context) (mqtt.Message, error) {
	for {
		if m, ok := s.take(); ok {
			return m, nil
		}
		select {
		case <-s.mail:
		case <-ctx.Done():
			return mqtt.Message{}, ctx.Err()
		}
	}
}

func (s *Station) take() (mqtt.Message, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.received) == 0 {
		return mqtt.Message{}, false
	}
	m := s.received[0]
	s.received = s.received[1:]
	return m, true
}

// How long nothing may come before the retained messages are taken to be complete:
// MQTT 3.1.1 does not mark the last one. A link that takes long for an answer may
// take as long between two messages.
const (
	quietLeast = 300 * time.Millisecond
	quietTrips = 3
	quietMost  = 10 * time.Second
)

// listMost bounds the wait altogether: a link that breaks again and again brings
// the retained messages anew each time.
const listMost = 2 * time.Minute

func (s *Station) quiet() time.Duration {
	return min(max(quietLeast, quietTrips*s.roundTrip()), quietMost)
}

// settled calls each for every message until no retained one has come for a
// while; a busy fleet is never quiet altogether.
func (s *Station) settled(ctx context.Context, each func(mqtt.Message)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, listMost, fmt.Errorf("the list of the fleet did not end within %v: does the link break again and again?", listMost))
	defer cancel()
	quiet := s.quiet()
	for until := time.Now().Add(quiet); time.Now().Before(until); {
		wait, cancel := context.WithDeadline(ctx, until)
		m, err := s.Next(wait)
		cancel()
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return nil // it is quiet
		}
		each(m)
		if m.Retained {
			until = time.Now().Add(quiet)
		}
	}
	return nil
}

// Connected, Denied, Lost and Receive serve the link. Connected leaves it to
// Denied, which follows, to open a station that was refused something.
func (s *Station) Connected(connSeq uint64, _ bool) {
	s.mu.Lock()
	s.seq = connSeq
	close(s.next)
	s.next = make(chan struct{})
	s.mu.Unlock()
	if s.link.Counts().Denied == 0 {
		s.opened()
	}
}

// Denied keeps the refused filters for Ready.
func (s *Station) Denied(filters []string) {
	s.mu.Lock()
	s.denied = filters
	s.mu.Unlock()
	s.opened()
}

func (s *Station) opened() { s.once.Do(func() { close(s.open) }) }

// Lost keeps the reason for Ready.
func (s *Station) Lost(err error) {
	s.mu.Lock()
	s.lastErr = err
	s.mu.Unlock()
}

// Receive keeps a message for Next.
func (s *Station) Receive(m mqtt.Message, ack func()) {
	ack()
	s.mu.Lock()
	s.received = append(s.received, m)
	s.mu.Unlock()
	select {
	case s.mail <- struct{}{}:
	default:
	}
}
