// Package mqtt keeps one connection to an MQTT 3.1.1 broker.
//
//	        ┌───────────── full jitter ─────────────┐
//	        ▼                                       │
//	dial → CONNECT → SUBSCRIBE → up → broken ───────┘
//	                              └──→ asked to stop: DISCONNECT
//
// Of several brokers the one behind that which was lost is dialled first, and one
// that works is kept.
//
// A connection is never repaired: every attempt gets a client of its own, so
// no state of the library outlives the socket it belonged to. What was not
// acknowledged when a connection broke is reported as [ErrDown], "outcome
// unknown", and sending it again is the owner's business, for only the owner
// knows what is durable.
//
// The rule that makes it correct: a [Link] says "delivered" only for a PUBACK
// read from the connection that carried the PUBLISH. Every wait therefore
// selects on that connection's end as well, since the library leaves the
// tokens of a broken connection open for ever.
//
// Between the socket and the library sits a limiter that reads the broker's
// bytes first. The library allocates whatever length a packet declares and
// panics on some malformed ones; the limiter lets neither reach it. The socket
// also keeps its own time: reads and writes are given up when no byte has
// moved, not when a packet takes long, so a slow link is not a broken one. Nor is
// an answer late while a packet before it is still arriving.
//
// A broker that hangs up again and again may be ill, or another client may have the
// same id and take the session each time. MQTT 3.1.1 does not say which. The state
// that this client publishes at its will's topic does: where the broker keeps that
// of another one, there is another one. It is asked for on suspicion only, in a
// SUBSCRIBE and an UNSUBSCRIBE before the connection is used.
//
// Sessions are persistent unless the configuration says otherwise, so that the
// broker keeps jobs for a device that is away, and filters that it was once asked
// for, which are taken back when they are not wanted any more. Nothing is ever
// resent from here.
package mqtt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"
)

var (
	// ErrDown says that there is no connection, or that it broke before the
	// broker's acknowledgement arrived: the outcome is unknown and the caller
	// sends again.
	ErrDown = errors.New("broker not connected")
	// ErrRefused says that the broker answered CONNECT with a refusal.
	ErrRefused = errors.New("broker refused the connection")
	// ErrHangsUp says, once in a row, that the broker hung up again and again soon
	// after it had accepted a connection. Why is not known.
	ErrHangsUp = errors.New("the broker hangs up soon after each connection: does another client have this id?")
	// ErrRival says that it did, and that it keeps the state of another client with
	// the same id. Two that take the session from each other run the same jobs twice,
	// so this one now keeps away for a while.
	ErrRival = errors.New("another client has this id and takes the session: give each an id of its own")
	// ErrBadPacket says that the broker sent what MQTT or a limit forbids; the
	// connection was closed before the packet was stored.
	ErrBadPacket = errors.New("bad packet")
)

// Message is one application message, in either direction.
type Message struct {
	Topic     string
	Payload   []byte // a receiver may keep it; a sender leaves it alone until the outcome is known
	QoS       byte   // 0 or 1 outbound; a broker may deliver 2
	Retained  bool
	Duplicate bool // inbound only: the broker may have delivered it before
	Oversize  int  // inbound only: declared bytes of a payload over MaxPayload, which was discarded; else 0
}

// Subscription is a topic filter with the greatest QoS wanted for it.
type Subscription struct {
	Filter string
	QoS    byte // 0 or 1
}

// Handler is told what happens on a Link. Connected, Denied and Lost are
// called one after another by Run itself.
type Handler interface {
	// Connected follows the answer to the subscriptions. connSeq is the number
	// that Will was asked with; sessionPresent is false when the broker has
	// forgotten what it kept. It may publish, and holds up nothing but the
	// notice of the next loss.
	Connected(connSeq uint64, sessionPresent bool)
	// Denied lists the filters the broker refuses, after Connected and whenever
	// the list changes; nil means that a later attempt was granted them all.
	Denied(filters []string)
	// Lost follows each attempt that was not successful and each connection
	// that broke, with the reason; not an end that was asked for.
	Lost(err error)
	// Receive is called by one goroutine, in the order of arrival, and must
	// neither block nor publish. A persistent session may deliver before
	// Connected, and never does after Lost. Calling ack, once and from any
	// goroutine, queues the PUBACK and never blocks; it does nothing when the
	// connection is gone.
	Receive(m Message, ack func())
}

// Counts are totals since New.
type Counts struct {
	Connections uint64 // connections whose CONNECT was accepted
	Refused     uint64 // CONNECTs answered with a refusal
	Denied      uint64 // filters answered with 0x80
	BadPackets  uint64 // connections closed because of ErrBadPacket
	Oversize    uint64 // messages whose payload was discarded
}

// Link is one client of one broker. Its methods may be called from any
// goroutine.
type Link struct {
	cfg     Config
	targets []target
	handler Handler
	log     *slog.Logger
	current atomic.Pointer[session] // the connection that is up, or nil
	hurry   chan struct{}           // holds one token when a pause is to end

	connections, refused, denied, badPackets, oversize atomic.Uint64

	roundTrip atomic.Int64 // nanoseconds from SUBSCRIBE to SUBACK, of the last connection
	latency   latency      // of PUBACKs

	// patient is set by the first packet over MaxPacket, which closes the
	// connection. The broker will deliver it again; from then on the payload of
	// such a packet, too, is discarded as it arrives, or it would close every
	// connection to come.
	patient atomic.Bool
}

// New checks the configuration and reads the certificates it names; it starts
// nothing.
func New(cfg Config, h Handler, log *slog.Logger) (*Link, error) {
	targets, err := cfg.check()
	if err != nil {
		return nil, err
	}
	return &Link{cfg: cfg, targets: targets, handler: h, log: log, hurry: make(chan struct{}, 1)}, nil
}

// Run connects, serves and reconnects until ctx ends, then disconnects cleanly,
// so that the broker keeps the will to itself. What was handed over before ctx
// ended, such as a farewell, leaves before the DISCONNECT. Being asked to stop
// is not an error; there is no other end.
//
// Of a list of brokers one after the other is tried without a pause, the pauses
// are between the rounds; the first that works is kept, and when it is lost the one
// behind it is next.
func (l *Link) Run(ctx context.Context) error {
	pauses := newPauses(l.cfg, len(l.targets))
	var last error // what the log was told last
	for seq := uint64(1); ; seq++ {
		at := l.targets[int((seq-1)%uint64(len(l.targets)))]
		lived, err := l.connect(ctx, at, seq, pauses.suspicious())
		if ctx.Err() != nil {
			return nil
		}
		l.count(err)
		away, err := pauses.next(lived, err)
		switch {
		case lived > 0:
			l.log.Warn("broker lost", "broker", at.name, "err", err)
		case !sameKind(err, last):
			l.log.Warn("broker not reached", "broker", at.name, "err", err)
		}
		last = err
		l.handler.Lost(err)
		if !l.sleep(ctx, away) {
			return nil
		}
	}
}

// Hurry ends the pause between two attempts to connect: this one, or the next
// if there is none now.
func (l *Link) Hurry() {
	select {
	case l.hurry <- struct{}{}:
	default:
	}
}

// connect makes one attempt and serves it to its end; lived is how long it
// carried messages, 0 if it never did. On suspicion it looks for another client
// with this id.
func (l *Link) connect(ctx context.Context, at target, seq uint64, suspicious bool) (lived time.Duration, err error) {
	s, err := l.open(ctx, at, seq)
	if err != nil {
		return 0, err
	}
	denied, err := s.begin(ctx, suspicious)
	if err != nil {
		if ctx.Err() != nil {
			s.disconnect() // asked to stop: the broker keeps the will to itself
		} else {
			s.abandon(err)
		}
		return 0, err
	}
	began := time.Now()
	s.start()
	l.current.Store(s)
	defer l.current.Store(nil)
	l.handler.Connected(seq, s.present)
	l.log.Info("broker connected", "broker", at.name)
	err = l.serve(ctx, s, denied)
	if err != nil && s.stranger.Load() {
		err = fmt.Errorf("%w: %w", errStranger, err)
	}
	return time.Since(began), err
}

// serve returns when the connection is over: the reason it broke, or nil when
// ctx ended and the broker was told.
func (l *Link) serve(ctx context.Context, s *session, denied []Subscription) error {
	if len(denied) > 0 {
		l.tellDenied(denied)
	}
	retry := time.NewTicker(l.cfg.RetryDenied)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			l.current.Store(nil)
			s.disconnect()
			return nil
		case <-s.stream.down:
			s.abandon(s.stream.cause)
			return s.stream.cause
		case <-retry.C:
			denied = l.again(ctx, s, denied)
		}
	}
}

// again asks for the filters that were refused and returns those that still
// are.
func (l *Link) again(ctx context.Context, s *session, denied []Subscription) []Subscription {
	if len(denied) == 0 {
		return nil
	}
	still, err := s.subscribe(ctx, denied)
	if err != nil {
		s.stream.fail(err)
		return denied
	}
	if len(still) != len(denied) {
		l.tellDenied(still)
	}
	return still
}

// tellDenied reports which filters are refused; a device that is deaf on a
// topic must not look healthy.
func (l *Link) tellDenied(denied []Subscription) {
	var filters []string
	for _, d := range denied {
		filters = append(filters, d.Filter)
	}
	if len(filters) > 0 {
		l.log.Warn("subscription refused", "topic", strings.Join(filters, " "))
	} else {
		l.log.Info("subscriptions granted")
	}
	l.handler.Denied(filters)
}

// Publish waits for the broker's acknowledgement (QoS 1) or for the socket to
// take the message (QoS 0). Its errors are ErrDown, ctx's, and a complaint
// about the message itself, which sending again would not mend.
func (l *Link) Publish(ctx context.Context, m Message) error {
	select {
	case err := <-l.Send(ctx, m):
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Send hands a message over without waiting for its outcome, which is the one
// value the channel will carry: what Publish would have returned. Messages of
// one goroutine go out in the order of its calls. ctx bounds only the wait for
// room among the messages the socket has yet to take.
func (l *Link) Send(ctx context.Context, m Message) <-chan error {
	d := delivery{Message: m, done: make(chan error, 1)}
	if err := l.checkMessage(m); err != nil {
		d.done <- err
	} else if s := l.current.Load(); s == nil {
		d.done <- ErrDown
	} else if err := s.out.enqueue(ctx, s.stream.down, d); err != nil {
		d.done <- err
	}
	return d.done
}

// Offer hands a message over if that takes no wait, and tells whether it did. Half
// of the room is left to Send, so that what nobody waits for holds up nothing. The
// outcome is not told.
func (l *Link) Offer(m Message) bool {
	s := l.current.Load()
	return s != nil && l.checkMessage(m) == nil && s.out.offer(delivery{Message: m, done: make(chan error, 1)})
}

// Probe returns when the broker has answered a request that changes nothing and that
// is sent now, behind the acknowledgements of what was received: a broker that still
// had more to send, and room for it, has begun with that before. Its errors are
// ErrDown, ctx's, and that there was no answer.
func (l *Link) Probe(ctx context.Context) error {
	s := l.current.Load()
	if s == nil {
		return fmt.Errorf("probe the broker: %w", ErrDown)
	}
	if err := s.probe(ctx); err != nil {
		return fmt.Errorf("probe the broker: %w", err)
	}
	return nil
}

// RoundTrip is how long the broker took to answer the subscriptions of the last
// connection; next to nothing if there are none.
func (l *Link) RoundTrip() time.Duration { return time.Duration(l.roundTrip.Load()) }

// Acknowledged is how long the broker takes to acknowledge a publish of QoS 1: the
// median of the last eight, and that of the last minute; 0 where there were none.
func (l *Link) Acknowledged() (recent, minute time.Duration) { return l.latency.medians() }

// NetworkRoundTrip is the shortest way to the broker and back that the kernel has
// measured of late; 0 where that is not known.
func (l *Link) NetworkRoundTrip() time.Duration {
	if s := l.current.Load(); s != nil {
		return networkRoundTrip(s.stream.raw)
	}
	return 0
}

// InFlight is how many messages were handed over whose outcome is not known.
func (l *Link) InFlight() int {
	if s := l.current.Load(); s != nil {
		return s.out.count()
	}
	return 0
}

// Counts returns the totals so far.
func (l *Link) Counts() Counts {
	return Counts{
		Connections: l.connections.Load(),
		Refused:     l.refused.Load(),
		Denied:      l.denied.Load(),
		BadPackets:  l.badPackets.Load(),
		Oversize:    l.oversize.Load(),
	}
}

func (l *Link) count(err error) {
	switch {
	case errors.Is(err, ErrRefused):
		l.refused.Add(1)
	case errors.Is(err, ErrBadPacket):
		l.badPackets.Add(1)
		if errors.Is(err, errTooLarge) {
			l.patient.Store(true)
		}
	}
}

func (l *Link) checkMessage(m Message) error {
	switch {
	case !ValidTopic(m.Topic):
		return fmt.Errorf("publish to %q: not a topic name", m.Topic)
	case m.QoS > 1:
		return fmt.Errorf("publish to %s: QoS %d, want 0 or 1", m.Topic, m.QoS)
	case len(m.Payload) > l.cfg.MaxPacket:
		return fmt.Errorf("publish to %s: payload of %d bytes is over the limit of %d", m.Topic, len(m.Payload),
			l.cfg.MaxPacket)
	}
	return nil
}

// sameKind tells whether two failures deserve one line in the log.
func sameKind(a, b error) bool {
	if (a == nil) != (b == nil) {
		return false
	}
	return errors.Is(a, ErrRefused) == errors.Is(b, ErrRefused) &&
		errors.Is(a, ErrBadPacket) == errors.Is(b, ErrBadPacket)
}

// sleep is false when ctx ended first.
func (l *Link) sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-l.hurry:
		return true
	case <-ctx.Done():
		return false
	}
}
