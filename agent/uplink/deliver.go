package uplink

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/limber-edge/limber/agent/mqtt"
)

const (
	inFlight = 32 // publishes without an acknowledgement yet
	// drainJitter is the longest pause before late results are sent, so that a fleet does
	// not send all of them at once.
	drainJitter = time.Second
)

// errLost ends what belongs to a connection that broke.
var errLost = errors.New("connection lost")

// delivery is a publish and its outcome.
type delivery struct {
	publication
	err error
}

// sender publishes over one connection: one goroutine, with a window. What the broker
// acknowledges is taken in whatever order that comes.
type sender struct {
	*Uplink
	lines    *lines
	window   chan struct{} // holds a token for each in flight
	outcomes chan delivery
}

// flight is the records that were published and not acknowledged yet.
type flight struct {
	mu   sync.Mutex
	seqs map[uint64]struct{} // guarded by mu; at most inFlight
}

func (f *flight) add(seq uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seqs[seq] = struct{}{}
}

func (f *flight) remove(seq uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.seqs, seq)
}

func (f *flight) clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.seqs)
}

func (f *flight) has(seq uint64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, ok := f.seqs[seq]
	return ok
}

// deliver sends what the outbox holds over each connection, each stream in order,
// until ctx ends.
func (u *Uplink) deliver(ctx context.Context) error {
	for {
		select {
		case c := <-u.conn.ready:
			u.drain(ctx, c)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// drain sends records until the connection is lost.
func (u *Uplink) drain(ctx context.Context, c connection) {
	ctx, cancel := within(ctx, c.lost)
	defer cancel()
	s := u.newSender()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.send(ctx) })
	g.Go(func() error { return s.confirm(ctx) })
	g.Wait() // the connection or ctx ended
	u.flight.clear()
}

func (u *Uplink) newSender() *sender {
	p := newPace(u.cfg.ReplayPerSecond, u.cfg.ReplayBytes, func() bool { return strained(u.link.Acknowledged()) },
		rand.N(drainJitter))
	return &sender{Uplink: u, lines: &lines{outbox: u.outbox, again: u.repeats, pace: p},
		window: make(chan struct{}, inFlight), outcomes: make(chan delivery, inFlight)}
}

// strainLeast is what an acknowledgement may take on any link: below, it is not strained
// but uneven.
const strainLeast = 5 * time.Millisecond

// strained tells whether acknowledgements take three times what they took in the last
// minute.
func strained(recent, minute time.Duration) bool {
	return minute > 0 && recent >= max(3*minute, strainLeast)
}

// send publishes every record of the outbox, and those that come. Once ctx has
// ended the link takes some messages and others not: it must offer no more, or a
// record would overtake the one before.
func (s *sender) send(ctx context.Context) error {
	for {
		select {
		case s.window <- struct{}{}: // before it is chosen what goes: the latest that is known counts
		case <-ctx.Done():
			return ctx.Err()
		}
		m, err := s.lines.next(ctx)
		if err != nil {
			return err
		}
		d := delivery{publication: m}
		if !m.repeat {
			s.flight.add(m.Seq)
		}
		outcome := s.link.Send(ctx, mqtt.Message{Topic: m.Topic, Payload: m.Payload, QoS: 1})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		go func() {
			d.err = <-outcome
			s.outcomes <- d // which has room for all that are in flight
		}()
	}
}

// confirm takes delivered records out of the outbox and acknowledges the requests
// they answer.
func (s *sender) confirm(ctx context.Context) error {
	for {
		select {
		case d := <-s.outcomes:
			<-s.window
			if errors.Is(d.err, mqtt.ErrDown) || ctx.Err() != nil {
				return errLost
			}
			s.delivered(d)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// delivered ends what the broker has, or never will.
func (s *sender) delivered(d delivery) {
	if d.err != nil {
		// Sending it again would fail again, and hold up all the others.
		s.log.Error("message cannot be sent", "seq", d.Seq, "err", d.err)
	}
	if d.repeat {
		give(d.acks)
		return
	}
	s.inbox.delivered(d.Seq, s.outbox.Unwritten())
	s.outbox.Delivered(d.Seq)
	s.flight.remove(d.Seq)
	token(s.conn.moved)
}
