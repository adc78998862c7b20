package uplink

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/store"
)

// Receive implements mqtt.Handler: it sorts what arrives and hands everything on at
// once.
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
	r := u.newRequest(t.Kind, m, ack)
	r.Address, r.Verb, r.ID, r.Source = t.Address, t.Verb, t.ID, t.Source
	switch t.Kind {
	case wire.KindJob, wire.KindCmd:
		u.receive(r, false)
	case wire.KindFrame:
		u.receiveFrame(r)
	case wire.KindDesired:
		u.handler.Desired(r)
	default:
		ack()
	}
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
	if u.closed.Load() && r.Message.QoS > 0 {
		r.Release() // the broker will deliver it to the next start
		return
	}
	u.hand(r)
}

// hand passes a request to its handler.
func (u *Uplink) hand(r *Request) {
	if r.Kind == wire.KindCmd {
		u.handler.Command(r)
	} else {
		u.handler.Job(r)
	}
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

// How much may wait for its answer to be read from the disk. A sender that starts
// anew, or a broker after a cut, may bring all that is remembered at once.
const (
	replayBytes = 64 << 20
	replayEach  = 1 << 10 // bytes that a request takes beside its payload
)

// errBehind is the fault of a request that finds no room among these.
var errBehind = errors.New("the disk does not keep up: too many answers are being looked up")

// replays are requests that seem to have been answered, until the answer was read.
type replays struct {
	some chan struct{} // holds a token while any may wait

	mu      sync.Mutex
	waiting []*Request // guarded by mu: by the time they came
	bytes   int        // guarded by mu: that they take
}

// put lets a request wait for the replay; false where there is no room.
func (p *replays) put(r *Request) bool {
	if !p.add(r) {
		return false
	}
	select {
	case p.some <- struct{}{}:
	default:
	}
	return true
}

func (p *replays) add(r *Request) bool {
	size := len(r.Message.Payload) + replayEach
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bytes+size > replayBytes {
		return false
	}
	p.waiting, p.bytes = append(p.waiting, r), p.bytes+size
	return true
}

// take returns the request that waits longest, or nil.
func (p *replays) take() *Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) == 0 {
		p.waiting = nil
		return nil
	}
	r := p.waiting[0]
	p.waiting[0], p.waiting = nil, p.waiting[1:]
	p.bytes -= len(r.Message.Payload) + replayEach
	return r
}

// lookUp has the answer of a request read from the disk.
func (u *Uplink) lookUp(r *Request) {
	if !u.replays.put(r) {
		u.unknown(r, errBehind)
	}
}

// replay answers again what was answered before, until ctx ends.
func (u *Uplink) replay(ctx context.Context) error {
	for ctx.Err() == nil {
		if r := u.replays.take(); r != nil {
			u.again(r)
			continue
		}
		select {
		case <-u.replays.some:
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}

// again sends the stored answer of a request once more, byte for byte. One that has
// none after all is taken in.
func (u *Uplink) again(r *Request) {
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
		u.answer(r, func(uint64) (store.Record, error) {
			return store.Record{Topic: known.Topic, Payload: known.Payload, Stream: r.stream()}, nil
		})
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
