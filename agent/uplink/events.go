package uplink

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/store"
)

// pacer publishes at most one event of each kind a second, with how many there were
// since the last one told of.
type pacer struct {
	publish func(wire.Severity, wire.Event)
	held    chan struct{} // holds a token when an event was held back

	mu    sync.Mutex
	kinds map[wire.EventKind]*pending // guarded by mu
}

// pending is what is to be told of one kind.
type pending struct {
	severity wire.Severity
	event    wire.Event
	waiting  uint64 // happenings not told of
	told     time.Time
}

// eventPace is the shortest time between two events of a kind.
const eventPace = time.Second

func newPacer(publish func(wire.Severity, wire.Event)) *pacer {
	return &pacer{publish: publish, held: make(chan struct{}, 1), kinds: make(map[wire.EventKind]*pending)}
}

// Event publishes an event, or holds it back until a second has passed since the
// last of its kind. Of several that were held back the newest is told, from where
// the first began. It never blocks.
func (u *Uplink) Event(s wire.Severity, e wire.Event) { u.events.tell(s, e) }

// EventAtOnce publishes an event, however many of its kind there are. It never
// blocks.
func (u *Uplink) EventAtOnce(s wire.Severity, e wire.Event) {
	u.Keep(s, e)
}

// Keep is EventAtOnce for who wants to know when the event cannot be lost any more, as it
// is on the disk, or with the broker: then kept is true.
func (u *Uplink) Keep(s wire.Severity, e wire.Event) (kept func() bool) {
	stream := store.Event
	if s == wire.SeverityError {
		stream = store.Control
	}
	var durable atomic.Bool
	seq, ok := u.post(stream, message(u.cfg.Self.Event(s), e), func() { durable.Store(true) })
	return func() bool { return ok && (durable.Load() || !u.outbox.Waits(seq)) }
}

func (p *pacer) tell(s wire.Severity, e wire.Event) {
	p.mu.Lock()
	k := p.kinds[e.Kind]
	if k == nil {
		k = new(pending)
		p.kinds[e.Kind] = k
	}
	if k.waiting > 0 {
		e.From = k.event.From
	}
	k.severity, k.event = s, e
	k.waiting++
	due := k.take(eventPace)
	first := k.waiting == 1 // of those that are held back: the others wait for the same moment
	p.mu.Unlock()
	p.send(due)
	if first {
		token(p.held)
	}
}

// flush publishes what was held back since the pace ago, or longer.
func (p *pacer) flush(pace time.Duration) {
	p.mu.Lock()
	var due []pending
	for _, k := range p.kinds {
		due = append(due, k.take(pace)...)
	}
	p.mu.Unlock()
	p.send(due)
}

// take returns what may be published now.
func (k *pending) take(pace time.Duration) []pending {
	now := time.Now()
	if k.waiting == 0 || now.Sub(k.told) < pace {
		return nil
	}
	due := *k
	due.event.TS = wire.At(now)
	if due.waiting > 1 {
		due.event.Count = due.waiting
	}
	k.waiting, k.told = 0, now
	return []pending{due}
}

func (p *pacer) send(due []pending) {
	for _, k := range due {
		p.publish(k.severity, k.event)
	}
}

// next is when something that was held back may be published.
func (p *pacer) next() (at time.Time, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, k := range p.kinds {
		if due := k.told.Add(eventPace); k.waiting > 0 && (!ok || due.Before(at)) {
			at, ok = due, true
		}
	}
	return at, ok
}

// run publishes what is held back when its time has come, until ctx ends.
func (p *pacer) run(ctx context.Context) error {
	for {
		var due <-chan time.Time
		if at, ok := p.next(); ok {
			due = time.After(time.Until(at))
		}
		select {
		case <-p.held:
		case <-due:
			p.flush(eventPace)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
