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
	conn     connection
	lines    *lines
	window   chan struct{} // holds a token for each in flight
	outcomes chan delivery
}

// sent is what was published: records that are not acknowledged yet, and answers that are
// to be published again.
type sent struct {
	again chan publication

	mu      sync.Mutex
	seqs    map[uint64]struct{} // guarded by mu; at most inFlight
	repeats int                 // guarded by mu: answers that were published again, likewise
	aside   []publication       // guarded by mu: of again, for the next connection
}

func (s *sent) add(p publication) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.repeat {
		s.repeats++
	} else {
		s.seqs[p.Seq] = struct{}{}
	}
}

func (s *sent) remove(p publication) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.repeat {
		s.repeats--
	} else {
		delete(s.seqs, p.Seq)
	}
}

// put keeps answers that were taken to be published again over a connection that had
// ended: their requests may have come by the next one.
func (s *sent) put(p ...publication) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.aside = append(s.aside, p...)
}

func (s *sent) takeAside() (aside []publication) {
	s.mu.Lock()
	defer s.mu.Unlock()
	aside, s.aside = s.aside, nil
	return aside
}

func (s *sent) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.seqs)
	s.repeats = 0
}

// idle tells whether no answer that was published again waits for the broker.
func (s *sent) idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.repeats == 0
}

func (s *sent) has(seq uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.seqs[seq]
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
	s := u.newSender(c)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.send(ctx) })
	g.Go(func() error { return s.confirm(ctx) })
	g.Wait() // the connection or ctx ended
	u.sent.clear()
}

func (u *Uplink) newSender(c connection) *sender {
	p := newPace(u.cfg.ReplayPerSecond, u.cfg.ReplayBytes, func() bool { return strained(u.link.Acknowledged()) },
		rand.N(drainJitter))
	return &sender{Uplink: u, conn: c,
		lines: &lines{outbox: u.outbox, again: u.sent.again, aside: u.sent.takeAside(), fetches: u.fetches,
			pace: p},
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
		if m.fetch {
			s.link.Offer(mqtt.Message{Topic: m.Topic, Payload: m.Payload})
			<-s.window
			continue
		}
		if m.repeat && s.conn.over() {
			s.sent.put(append(s.lines.aside, m)...)
			return errLost
		}
		d := delivery{publication: m}
		s.sent.add(m)
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
	} else {
		s.Uplink.conn.taken.Add(1)
	}
	if d.repeat {
		give(d.acks)
	} else {
		s.inbox.delivered(d.Seq, s.outbox.Unwritten())
		s.outbox.Delivered(d.Seq)
	}
	s.sent.remove(d.publication)
	token(s.Uplink.conn.moved)
}
