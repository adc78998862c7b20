package uplink

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

// Document is one that the broker keeps.
type Document int

// The documents.
const (
	State Document = iota
	Caps
	Reported
	documents // how many there are
)

// changes are the documents that are to be published anew.
type changes struct {
	stale   [documents]atomic.Bool
	some    chan struct{} // holds a token while any may be
	leaving chan struct{} // closed when the farewell is to come
	left    chan struct{} // closed when the publisher has ended
	leave   func()        // closes leaving
}

func newChanges() *changes {
	c := &changes{some: make(chan struct{}, 1), leaving: make(chan struct{}), left: make(chan struct{})}
	c.leave = sync.OnceFunc(func() { close(c.leaving) })
	return c
}

// Changed has a document worked out and published anew. It never blocks. Without a
// link there is nothing to do: the next connection is told all of them.
func (u *Uplink) Changed(d Document) {
	u.changed.stale[d].Store(true)
	token(u.changed.some)
}

// publish is the one goroutine that publishes retained documents: all on a new
// connection, for a cluster once more after a while, and those that change. It ends
// with ctx, and before the farewell.
func (u *Uplink) publish(ctx context.Context) error {
	defer close(u.changed.left)
	leaving, cancel := within(ctx, u.changed.leaving)
	defer cancel()
	var c connection
	var again <-chan time.Time
	for {
		select {
		case c = <-u.conn.up:
			u.greet(leaving, c)
			if u.cfg.Again > 0 {
				again = time.After(u.cfg.Again)
			}
		case <-again:
			for d := range documents {
				u.Changed(d)
			}
		case <-u.changed.some:
			u.renew(leaving, c)
		case <-leaving.Done():
			return ctx.Err()
		}
	}
}

// greet publishes birth, capabilities and where this side stands, and then lets the
// sender have the connection.
func (u *Uplink) greet(ctx context.Context, c connection) {
	ctx, cancel := within(ctx, c.lost)
	defer cancel()
	for d := range u.changed.stale {
		u.changed.stale[d].Store(false)
	}
	ok := u.retain(ctx, u.state(wire.Online, c.seq), u.document(Caps, c), u.sync(c), u.document(Reported, c))
	if ok {
		u.conn.greeted.Store(true)
		replace(u.conn.ready, c)
	}
}

// renew publishes the documents that changed.
func (u *Uplink) renew(ctx context.Context, c connection) {
	if c.lost == nil || c.over() {
		return // the greeting of the next connection says it
	}
	ctx, cancel := within(ctx, c.lost)
	defer cancel()
	var stale []mqtt.Message
	for d := range u.changed.stale {
		if u.changed.stale[d].Swap(false) {
			stale = append(stale, u.document(Document(d), c))
		}
	}
	u.retain(ctx, stale...)
}

// retain hands messages to the link in their order, and waits until the broker has
// them. It is false if ctx or the connection ended before.
func (u *Uplink) retain(ctx context.Context, messages ...mqtt.Message) bool {
	var outcomes []<-chan error
	for _, m := range messages {
		outcomes = append(outcomes, u.link.Send(ctx, m))
	}
	for i, outcome := range outcomes {
		select {
		case err := <-outcome:
			if errors.Is(err, mqtt.ErrDown) || ctx.Err() != nil {
				return false
			}
			if err != nil {
				u.log.Error("document not published", "topic", messages[i].Topic, "err", err)
			}
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// document works out what is to be kept.
func (u *Uplink) document(d Document, c connection) mqtt.Message {
	switch d {
	case Caps:
		return retained(u.cfg.Self.Caps(), u.documents.Caps())
	case Reported:
		return retained(u.cfg.Self.Reported(), u.documents.Reported())
	}
	return u.state(wire.Online, c.seq)
}

// state is birth, farewell or will: one topic for all three.
func (u *Uplink) state(p wire.Presence, connSeq uint64) mqtt.Message {
	return retained(u.cfg.Self.State(), wire.State{
		State: p, BootID: u.cfg.Boot, ConnSeq: connSeq, TS: wire.At(time.Now()), Detail: u.documents.Detail(p),
	})
}

// will is what the broker says when this connection ends without a farewell.
func (u *Uplink) will(connSeq uint64) mqtt.Message { return u.state(wire.Lost, connSeq) }

// sync is where this side stands.
func (u *Uplink) sync(c connection) mqtt.Message {
	u.clock.ask(c.seq)
	depth, _ := u.outbox.Depth()
	return message(u.cfg.Self.Sync(), wire.Sync{TS: wire.At(time.Now()), BootID: u.cfg.Boot,
		ConnSeq: c.seq, Version: u.documents.Version(), Seq: u.inbox.last.Load(), Outbox: depth})
}

// Farewell publishes that the device is off, within ctx whatever the link does; no
// retained document follows it. A link that is down gets one attempt more: the
// broker may be telling everybody that the device is lost. Run must be under way.
func (u *Uplink) Farewell(ctx context.Context) error {
	u.changed.leave()
	select {
	case <-u.changed.left: // what it handed over goes out before
	case <-ctx.Done():
		return ctx.Err()
	}
	for failed := u.conn.failed.Load(); ; {
		err := u.link.Publish(ctx, u.state(wire.Offline, u.conn.seq.Load()))
		if !errors.Is(err, mqtt.ErrDown) {
			return err
		}
		u.link.Hurry()
		select {
		case <-u.conn.moved:
		case <-ctx.Done():
			return err
		}
		if u.conn.failed.Load() > failed {
			return err
		}
	}
}
