package uplink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/store"
)

// Receive sorts what arrives and hands everything on at once.
func (u *Uplink) Receive(m mqtt.Message, ack func()) {
	if source := u.frames.of(m.Topic); source != nil {
		r := u.newRequest(wire.KindFrame, m, ack)
		r.Source, r.ResultTopic = source.Name, source.ResultTopic
		u.receiveFrame(r)
		return
	}
	t, err := wire.ParseTopic(m.Topic)
	switch {
	case errors.Is(err, wire.ErrBadID):
		u.Event(wire.SeverityWarning, wire.Event{Kind: wire.EventBadID, Detail: err.Error()})
		ack()
		return
	case err != nil:
		u.log.Debug("message ignored", "topic", m.Topic, "err", err)
		ack()
		return
	}
	if !u.wanted(m.Topic) {
		u.Event(wire.SeverityWarning, wire.Event{Kind: wire.EventFault, Detail: fmt.Sprintf(
			"the broker delivers what this device did not ask for and leaves alone: %.100q", m.Topic)})
		ack()
		return
	}
	r := u.newRequest(t.Kind, m, ack)
	r.Address, r.Verb, r.ID, r.Source = t.Address, t.Verb, t.ID, t.Source
	switch t.Kind {
	case wire.KindJob, wire.KindCmd:
		u.receive(r, false)
	case wire.KindFrame:
		u.receiveFrame(r)
	case wire.KindSynced:
		u.synced(m)
		ack()
	case wire.KindDesired:
		u.handler.Desired(r)
	case wire.KindBlob:
		if m.Oversize == 0 {
			u.handler.Blob(t, m.Payload)
		}
		ack()
	default:
		ack()
	}
}

// wanted tells whether a topic is one that this device asked for: a session may bring
// others, and so may a broker that confuses two devices.
func (u *Uplink) wanted(topic string) bool {
	return slices.ContainsFunc(u.cfg.Link.Subscriptions, func(s mqtt.Subscription) bool {
		return mqtt.Overlap(s.Filter, topic)
	})
}

// receive lets a job or a command in, unless its key is known; of a fresh one no answer
// is known.
func (u *Uplink) receive(r *Request, fresh bool) {
	open := u.inbox.enter(r)
	switch {
	case open != r && open.Digest() == r.Digest():
		if !u.inbox.join(open, r) {
			u.receive(r, false) // it was ended meanwhile
		}
	case !fresh && u.outbox.Answered(r.key()): // r's bytes, or those of one that is being looked up as well
		u.lookUp(r)
	case open != r:
		u.conflict(r)
	default:
		u.admit(r)
	}
}

// admit hands on a request that is not known, if any is still taken in.
func (u *Uplink) admit(r *Request) {
	if u.leaves(r) {
		return
	}
	if r.Kind != wire.KindCmd {
		if u.suspects.refuses(r) {
			r.Fatal = true
			u.tellFatal(r)
		} else if u.suspects.hold(r) {
			return
		}
	}
	u.hand(r)
}

// tellFatal tells of a request that is refused for what it did before.
func (u *Uplink) tellFatal(r *Request) {
	u.EventAtOnce(wire.SeverityError, wire.Event{TS: wire.At(time.Now()), Kind: wire.EventFault,
		Detail: suspectOf(r).String() + " is refused: the agent was cut off twice while it was served, " +
			"the second time alone"})
}

// hand passes a request to its handler.
func (u *Uplink) hand(r *Request) {
	if r.Kind == wire.KindCmd {
		u.handler.Command(r)
		return
	}
	u.handler.Job(r)
	r.Digest() // while a frame is decoded
}

// conflict hands on a request whose key was used with other bytes. The answer to
// those stays as it is. A job without any bytes is none: that is how a retained one
// is cleared at the broker, and who does it waits for no answer.
func (u *Uplink) conflict(r *Request) {
	u.inbox.leave(r)
	if r.Kind == wire.KindJob && r.Digest() == store.DigestOf(nil) {
		r.Drop()
		return
	}
	r.Conflict = true
	u.hand(r)
}

// errBehind is the fault of a request that finds no room in the backlog.
var errBehind = errors.New("the disk does not keep up: too many answers are being looked up")

// lookUp has the answer of a request read from the disk.
func (u *Uplink) lookUp(r *Request) {
	if !u.replays.put(r) {
		u.unknown(r, errBehind)
	}
}

// replay answers again what was answered before, until ctx ends.
func (u *Uplink) replay(ctx context.Context) error {
	return u.replays.each(ctx, func(r *Request) { u.again(ctx, r) })
}

// again answers a request with its stored answer, byte for byte. One that has none
// after all is taken in.
func (u *Uplink) again(ctx context.Context, r *Request) {
	known, err := u.known(r)
	switch {
	case errors.Is(err, store.ErrNotFound):
		if r.nameless() {
			u.admitFrame(r)
		} else {
			u.receive(r, true)
		}
	case err != nil:
		u.unknown(r, err)
	case known.Request != r.Digest():
		u.conflict(r)
	default:
		u.repeat(ctx, r, known)
	}
}

// repeat answers a request whose answer is known. Where that still waits to be
// published nothing is to be said: the acknowledgement follows when the answer is on
// the disk. One that was published is published anew: it needs no place of its own in
// the outbox, since if the link breaks the broker delivers the request again.
func (u *Uplink) repeat(ctx context.Context, r *Request, known store.Record) {
	acks := u.inbox.close(r)
	waits := !u.sent.has(known.Seq) && u.outbox.Waits(known.Seq) // in this order: it may be delivered now
	if u.inbox.attach(known.Seq, acks) {
		acks = nil
	}
	if waits {
		give(acks)
		return
	}
	select {
	case u.sent.again <- publication{Record: known, repeat: true, acks: acks}:
	case <-r.cameBy: // the acknowledgements lead nowhere
	case <-ctx.Done():
	}
}

// known reads the answer of a request.
func (u *Uplink) known(r *Request) (store.Record, error) {
	if r.nameless() {
		return u.outbox.Alias(frameAlias(r.Source, r.Digest()))
	}
	return u.outbox.Answer(r.key())
}

// unknown hands on a request of which it cannot be said whether it was answered. A
// frame is taken for a new one.
func (u *Uplink) unknown(r *Request, err error) {
	u.log.Error("answer not readable", "topic", r.Message.Topic, "err", err)
	if r.nameless() {
		u.admitFrame(r)
		return
	}
	u.inbox.leave(r)
	r.Fault = fmt.Errorf("whether this was answered before cannot be read: %w", err)
	u.hand(r)
}
