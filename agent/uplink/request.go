package uplink

import (
	"context"
	"encoding/binary"
	"sync"
	"time"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/store"
)

// Request is a job, a frame, a command or a desired state, between its receipt and
// its end.
type Request struct {
	Kind        wire.Kind
	Address     wire.Address // of the device or the group it came to; none of a Source on topics of its own
	Verb        string       // of a command
	ID          string       // of a job or a command; of a frame, as it was given
	Source      string       // of a frame
	Latest      bool         // a newer frame of its source may take its place
	ResultTopic string       // of a frame; empty: result/{id}
	Message     mqtt.Message // its payload may be let go of when it was handed on
	Received    time.Time
	Conflict    bool  // its id was used before, with other bytes
	Fault       error // not nil: whether it was answered before cannot be read
	Fatal       bool  // it ended the agent before, twice: it is to be refused, not decoded

	uplink *Uplink
	digest func() store.Digest
	acks   []func() // guarded by the inbox: one for each time it was delivered
	course
}

// course is what is known of a request on its way.
type course struct {
	cameBy    <-chan struct{} // closed when the connection that brought it is over
	line      lineOf          // of its answer
	suspected bool            // it is a job or a frame that may have ended the last run
	serve     func()          // has it decoded, once suspects let it
	ended     chan struct{}   // nil, or closed when it ends
}

// wait waits for the end of a request that was handed on; false where ctx ends first.
func (c *course) wait(ctx context.Context) bool {
	select {
	case <-c.ended:
		return true
	case <-ctx.Done():
		return false
	}
}

// newRequest is a request that arrived just now.
func (u *Uplink) newRequest(kind wire.Kind, m mqtt.Message, ack func()) *Request {
	return &Request{
		Kind: kind, Message: m, Received: time.Now(),
		uplink: u, acks: []func(){ack}, course: course{cameBy: *u.conn.attempt.Load()},
		digest: sync.OnceValue(func() store.Digest { return digestOf(m) }),
	}
}

// digestOf names the bytes of a message. A payload that was discarded is named by
// its size.
func digestOf(m mqtt.Message) store.Digest {
	if m.Oversize > 0 {
		return store.DigestOf(binary.BigEndian.AppendUint64([]byte("oversize"), uint64(m.Oversize)))
	}
	return store.DigestOf(m.Payload)
}

// Digest names the bytes of the request. Whoever asks first works it out: of one
// that is not known it is needed with the answer, and until then a frame is on its
// way to a decoder.
func (r *Request) Digest() store.Digest { return r.digest() }

// key is what the request is known by while it is open, and its answer after that.
// No id has a slash, so no command is taken for a job.
func (r *Request) key() string {
	if r.Kind == wire.KindCmd {
		return r.Verb + "/" + r.ID
	}
	return r.ID
}

// nameless tells whether it is a frame that was given no id yet.
func (r *Request) nameless() bool { return r.Kind == wire.KindFrame && r.ID == "" }

// Answer puts the last word on the request into the outbox; it is to be called
// once. encode is called with the number of the record, quickly and under a lock: it
// must not call the uplink. The answer is remembered for an hour, unless the request
// is a conflict or a fault, and copies of the request get it again. The broker's
// acknowledgements follow when it is on the disk; where nothing is written now, and of
// one that is not remembered, when it was delivered.
func (r *Request) Answer(topic string, encode func(seq uint64) ([]byte, error)) {
	u := r.uplink
	digest := r.Digest()
	u.answer(r, func(seq uint64) (store.Record, error) {
		payload, err := encode(seq)
		record := store.Record{Topic: topic, Payload: payload, Request: digest, Stream: r.stream()}
		if !r.Conflict && r.Fault == nil {
			record.Job = r.key()
		}
		if r.Kind != wire.KindCmd && err == nil {
			u.inbox.last.Store(seq)
		}
		return record, err
	})
}

// lineOf is a stream, once it is known.
type lineOf struct {
	known  bool
	stream store.Stream
}

// Late tells whether the answer, which is being made, is made without the link. It is
// what was said first.
func (r *Request) Late() bool { return r.stream() == store.Late }

// stream is the line that the answer waits in.
func (r *Request) stream() store.Stream {
	switch {
	case r.line.known:
	case r.Kind == wire.KindCmd:
		r.line = lineOf{true, store.Control}
	case r.uplink.conn.there():
		r.line = lineOf{true, store.Live}
	default:
		r.line = lineOf{true, store.Late}
	}
	return r.line.stream
}

// Say puts an earlier state of the request into the outbox. Nothing is acknowledged.
func (r *Request) Say(topic string, payload []byte) {
	r.uplink.post(store.Control, mqtt.Message{Topic: topic, Payload: payload}, nil)
}

// Tell is Say for what nobody wants later: without the link it does nothing.
func (r *Request) Tell(topic string, payload []byte) {
	if r.uplink.conn.there() {
		r.Say(topic, payload)
	}
}

// Drop ends the request without an answer. The broker gets its acknowledgements.
func (r *Request) Drop() {
	for _, ack := range r.uplink.inbox.close(r) {
		ack()
	}
}

// Release ends the request without an answer or an acknowledgement: the broker
// keeps one of QoS 1 and delivers it again to the next connection.
func (r *Request) Release() {
	r.uplink.inbox.close(r)
}
