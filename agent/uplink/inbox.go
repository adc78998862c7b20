package uplink

import (
	"sync"

	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/store"
)

// inbox holds what came in until it is acknowledged. Digests are worked out
// without its lock.
type inbox struct {
	mu       sync.Mutex
	open     map[string]*Request // guarded by mu: without an answer in the outbox, by key
	answered map[uint64]*answer  // guarded by mu: not acknowledged, by the record that answers
}

// answer is what a record of the outbox acknowledges.
type answer struct {
	acks []func()
}

// enter makes r the open request of its key and returns r, or the one that is open.
func (b *inbox) enter(r *Request) *Request {
	b.mu.Lock()
	defer b.mu.Unlock()
	if open := b.open[r.key()]; open != nil {
		return open
	}
	b.open[r.key()] = r
	return r
}

// join lets the acknowledgement of a copy of QoS 1 wait for the answer of the open
// request. It is false if that is not open any more.
func (b *inbox) join(open, r *Request) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open[open.key()] != open {
		return false
	}
	if r.Message.QoS > 0 {
		open.acks = append(open.acks, r.acks...)
	}
	return true
}

// frames lists the open frames of a source that the broker may deliver again.
func (b *inbox) frames(source string) (open []*Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.open {
		if r.Kind == wire.KindFrame && r.Source == source && r.Message.QoS > 0 {
			open = append(open, r)
		}
	}
	return open
}

// close ends the wait of a request and returns its acknowledgements. From now on a
// copy of it is looked up among the answers.
func (b *inbox) close(r *Request) (acks []func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.end(r)
}

// end is close; mu is held.
func (b *inbox) end(r *Request) (acks []func()) {
	b.remove(r)
	acks, r.acks = r.acks, nil
	if r.ended != nil && !closed(r.ended) {
		close(r.ended)
	}
	return acks
}

// leave gives the key of a request back to the bytes that it belongs to.
func (b *inbox) leave(r *Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.remove(r)
}

// remove is leave; mu is held.
func (b *inbox) remove(r *Request) {
	if b.open[r.key()] == r {
		delete(b.open, r.key())
	}
}

// answer notes which record acknowledges a request, and ends its wait: who sends a
// copy may have seen the answer already, and nothing else would come.
func (b *inbox) answer(seq uint64, r *Request) *answer {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := &answer{acks: b.end(r)}
	b.answered[seq] = a
	return a
}

// disown takes back an answer whose record was not appended. Its number may be
// another record's by now.
func (b *inbox) disown(seq uint64, a *answer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.answered[seq] == a {
		delete(b.answered, seq)
	}
}

// settle acknowledges what a record answers, as often as the broker delivered it:
// the record was delivered, or it is on the disk.
func (b *inbox) settle(seq uint64) {
	b.mu.Lock()
	a := b.answered[seq]
	delete(b.answered, seq)
	b.mu.Unlock()
	if a == nil {
		return
	}
	for _, ack := range a.acks {
		ack()
	}
}

// hangUp drops the acknowledgements for a connection that broke: they lead nowhere,
// and the broker will deliver those messages again.
func (b *inbox) hangUp() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.open {
		r.acks = nil
	}
	clear(b.answered)
}

// answer appends the record that answers a request.
func (u *Uplink) answer(r *Request, encode func(seq uint64) (store.Record, error)) {
	var number uint64
	var noted *answer
	_, err := u.outbox.Append(func(seq uint64) (store.Record, error) {
		record, err := encode(seq)
		if err == nil {
			number, noted = seq, u.inbox.answer(seq, r) // before the record can be delivered, or found
		}
		return record, err
	}, func() { u.inbox.settle(number) })
	if err == nil {
		return
	}
	u.inbox.disown(number, noted)
	u.inbox.close(r) // without an acknowledgement the broker delivers it again
	u.log.Error("answer lost", "id", r.ID, "err", err)
}
