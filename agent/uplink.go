package agent

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/store"
)

// connection is one life of the link.
type connection struct {
	seq  uint64
	lost chan struct{} // closed when it breaks
}

// errLost ends what belongs to a connection that broke.
var errLost = errors.New("connection lost")

const (
	inFlight    = 32          // publishes without an acknowledgement yet
	drainJitter = time.Second // longest pause before a backlog is sent, so that a fleet does not all send at once
)

// Connected notes a new connection; the uplink takes it from there.
func (a *Agent) Connected(connSeq uint64, sessionPresent bool) {
	a.connSeq.Store(connSeq)
	a.linkUp.Store(true)
	a.lost = make(chan struct{})
	a.up <- connection{seq: connSeq, lost: a.lost}
	a.turn()
}

// turn notes that the link did what somebody may wait for.
func (a *Agent) turn() {
	select {
	case a.turned <- struct{}{}:
	default:
	}
}

// Lost notes that the link is down, or did not come up.
func (a *Agent) Lost(err error) {
	if errors.Is(err, mqtt.ErrRival) {
		a.fault(err.Error())
	}
	a.linkUp.Store(false)
	a.inbox.hangUp()
	if a.lost != nil {
		close(a.lost)
		a.lost = nil
	} else {
		a.failed.Add(1)
	}
	select { // a connection the uplink has not seen is no use to it any more
	case <-a.up:
	default:
	}
	a.turn()
}

// Denied tells of subscriptions that the broker refuses; the link asks again.
func (a *Agent) Denied(filters []string) {
	if len(filters) > 0 {
		a.fault("the broker refuses to deliver " + joined(filters) + "; see its access rules")
	}
}

// uplink greets the broker on every connection and sends what the outbox holds,
// in order, until ctx ends.
func (a *Agent) uplink(ctx context.Context) error {
	for {
		var c connection
		select {
		case c = <-a.up:
		case <-ctx.Done():
			return ctx.Err()
		}
		err := a.drain(ctx, c)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !errors.Is(err, errLost) {
			return err
		}
	}
}

// delivery is a publish whose outcome is not known yet.
type delivery struct {
	seq     uint64
	outcome <-chan error
}

// drain sends records until the connection is lost: one goroutine publishes,
// with a window, and one waits for the acknowledgements in the same order.
func (a *Agent) drain(ctx context.Context, c connection) error {
	g, gctx := errgroup.WithContext(ctx)
	window := make(chan delivery, inFlight)
	g.Go(func() error {
		select {
		case <-c.lost:
			return errLost
		case <-gctx.Done():
			return gctx.Err()
		}
	})
	g.Go(func() error {
		defer close(window)
		if err := a.greet(gctx, c.seq); err != nil {
			return err
		}
		return a.send(gctx, window)
	})
	g.Go(func() error { return a.confirm(gctx, window) })
	return g.Wait()
}

// greet publishes birth, capabilities and where this side stands.
func (a *Agent) greet(ctx context.Context, connSeq uint64) error {
	depth, _ := a.parts.Outbox.Depth()
	version := a.savedDesired().newest()
	greeting := []<-chan error{
		a.sayOnline(ctx, connSeq),
		a.sayCaps(ctx),
		a.link.Send(ctx, a.message(a.self.Sync(), false, wire.Sync{TS: wire.At(time.Now()), BootID: a.boot,
			ConnSeq: connSeq, Version: version, Seq: a.lastSeq.Load(), Outbox: depth})),
		a.sayReported(ctx, nil),
	}
	for _, outcome := range greeting {
		if err := settled(ctx, outcome); err != nil {
			return lost(err)
		}
	}
	if depth == 0 {
		return nil
	}
	select {
	case <-time.After(rand.N(drainJitter)):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// send publishes every record of the outbox, and those that come. Once ctx has
// ended the link takes some messages and others not: it must offer no more, or a
// record would overtake the one before.
func (a *Agent) send(ctx context.Context, window chan<- delivery) error {
	for after := uint64(0); ; {
		records, err := a.parts.Outbox.Next(ctx, after, inFlight)
		if err != nil {
			return err
		}
		for _, r := range records {
			d := delivery{r.Seq, a.link.Send(ctx, mqtt.Message{Topic: r.Topic, Payload: r.Payload, QoS: 1})}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			select {
			case window <- d:
			case <-ctx.Done():
				return ctx.Err()
			}
			after = r.Seq
		}
	}
}

// confirm takes delivered records out of the outbox and acknowledges the jobs
// they answer.
func (a *Agent) confirm(ctx context.Context, window <-chan delivery) error {
	for d := range window {
		select {
		case err := <-d.outcome:
			if errors.Is(err, mqtt.ErrDown) || ctx.Err() != nil {
				return errLost
			}
			if err != nil {
				// Sending it again would fail again, and hold up all the others.
				a.log.Error("message cannot be sent", "seq", d.seq, "err", err)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
		a.parts.Outbox.Delivered(d.seq)
		a.inbox.settle(d.seq)
	}
	return nil
}

// settled waits for the outcome of a publish.
func settled(ctx context.Context, outcome <-chan error) error {
	select {
	case err := <-outcome:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// lost turns the link's error for a broken connection into errLost.
func lost(err error) error {
	if errors.Is(err, mqtt.ErrDown) {
		return errLost
	}
	return err
}

// message encodes a control message for a topic of this device, QoS 1.
func (a *Agent) message(topic string, retained bool, payload any) mqtt.Message {
	b, err := json.Marshal(payload)
	if err != nil {
		panic("agent: a message of package wire cannot be encoded: " + err.Error())
	}
	return mqtt.Message{Topic: topic, Payload: b, QoS: 1, Retained: retained}
}

// sayOnline publishes the birth, but never after the farewell.
func (a *Agent) sayOnline(ctx context.Context, connSeq uint64) <-chan error {
	a.standing.Lock()
	defer a.standing.Unlock()
	if a.left {
		done := make(chan error, 1)
		done <- nil
		return done
	}
	return a.link.Send(ctx, a.state(wire.Online, connSeq))
}

// sayFarewell publishes that the device is off.
func (a *Agent) sayFarewell(ctx context.Context) error {
	a.standing.Lock()
	a.left = true
	outcome := a.link.Send(ctx, a.state(wire.Offline, a.connSeq.Load()))
	a.standing.Unlock()
	return settled(ctx, outcome)
}

// state is birth, farewell or will: one topic for all three.
func (a *Agent) state(p wire.Presence, connSeq uint64) mqtt.Message {
	s := wire.State{State: p, BootID: a.boot, ConnSeq: connSeq, TS: wire.At(time.Now())}
	if err := a.unfit(); err != nil {
		s.Detail = err.Error()
	}
	return a.message(a.self.State(), true, s)
}

// will is what the broker says when this connection ends without a farewell.
func (a *Agent) will(connSeq uint64) mqtt.Message { return a.state(wire.Lost, connSeq) }

// post appends a control message to the outbox.
func (a *Agent) post(topic string, payload any) {
	b := a.message(topic, false, payload).Payload
	_, err := a.parts.Outbox.Append(func(uint64) (store.Record, error) {
		return store.Record{Topic: topic, Payload: b}, nil
	}, nil)
	if err != nil {
		a.log.Error("message lost", "topic", topic, "err", err)
	}
}
