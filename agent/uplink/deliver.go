package uplink

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/store"
)

const (
	inFlight    = 32          // publishes without an acknowledgement yet
	drainJitter = time.Second // longest pause before a backlog is sent, so that a fleet does not all send at once
)

// errLost ends what belongs to a connection that broke.
var errLost = errors.New("connection lost")

// delivery is a publish whose outcome is not known yet.
type delivery struct {
	seq     uint64
	outcome <-chan error
}

// deliver sends what the outbox holds over each connection, in order, until ctx
// ends.
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

// drain sends records until the connection is lost: one goroutine publishes, with a
// window, and one waits for the acknowledgements in the same order.
func (u *Uplink) drain(ctx context.Context, c connection) {
	ctx, cancel := within(ctx, c.lost)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	window := make(chan delivery, inFlight)
	g.Go(func() error {
		defer close(window)
		return u.send(ctx, window)
	})
	g.Go(func() error { return u.confirm(ctx, window) })
	g.Wait() // the connection or ctx ended
}

// send publishes every record of the outbox, and those that come. Once ctx has
// ended the link takes some messages and others not: it must offer no more, or a
// record would overtake the one before.
func (u *Uplink) send(ctx context.Context, window chan<- delivery) error {
	if err := u.pause(ctx); err != nil {
		return err
	}
	var after [store.Streams]uint64
	for {
		records, more := u.next(&after)
		for _, r := range records {
			d := delivery{r.Seq, u.link.Send(ctx, mqtt.Message{Topic: r.Topic, Payload: r.Payload, QoS: 1})}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			select {
			case window <- d:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if len(records) > 0 {
			continue
		}
		select {
		case <-more:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// next returns the next records of the first stream that has any after those sent, or
// what to wait for.
func (u *Uplink) next(after *[store.Streams]uint64) (records []store.Record, more <-chan struct{}) {
	for _, s := range []store.Stream{store.Control, store.Event, store.Live, store.Late} {
		records, wake := u.outbox.Collect(s, after[s], inFlight)
		if n := len(records); n > 0 {
			after[s] = records[n-1].Seq
			return records, nil
		}
		if more == nil {
			more = wake // closed by whatever comes to any stream after this look
		}
	}
	return nil, more
}

// pause waits a little if there is a backlog.
func (u *Uplink) pause(ctx context.Context) error {
	if depth, _ := u.outbox.Depth(); depth == 0 {
		return nil
	}
	select {
	case <-time.After(rand.N(drainJitter)):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// confirm takes delivered records out of the outbox and acknowledges the requests
// they answer.
func (u *Uplink) confirm(ctx context.Context, window <-chan delivery) error {
	for d := range window {
		select {
		case err := <-d.outcome:
			if errors.Is(err, mqtt.ErrDown) || ctx.Err() != nil {
				return errLost
			}
			if err != nil {
				// Sending it again would fail again, and hold up all the others.
				u.log.Error("message cannot be sent", "seq", d.seq, "err", err)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
		u.outbox.Delivered(d.seq)
		u.inbox.settle(d.seq)
		token(u.conn.moved)
	}
	return nil
}
