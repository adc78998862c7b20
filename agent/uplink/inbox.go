package uplink

import (
	"sync"
	"sync/atomic"

	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/store"
)

// inbox holds what came in until it is acknowledged. Digests are worked out
// without its lock.
type inbox struct {
	last atomic.Uint64 // number of the last result

	mu       sync.Mutex
	open     map[string]*Request // guarded by mu: without an answer in the outbox, by key
	answered map[uint64]*answer  // guarded by mu: whose answer is not on the disk, by the record that it is
}

// answer is what a record of the outbox acknowledges: once it is on the disk, since
// only then its request is known whatever happens.
type answer struct {
	acks      []func()
	kept      bool // it is remembered, so it will be written, also when it was delivered
	delivered bool
	old       bool // it was there when they were looked at last
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
		open.acks, open.cameBy = append(open.acks, r.acks...), r.cameBy
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
func (b *inbox) answer(seq uint64, r *Request, kept bool) *answer {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := &answer{acks: b.end(r), kept: kept}
	b.answered[seq] = a
	return a
}

// disown takes back an answer whose record was not appended, or was lost. Its number
// may be another record's by now.
func (b *inbox) disown(seq uint64, a *answer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if a != nil && b.answered[seq] == a && !a.delivered { // nil: it was not even encoded
		delete(b.answered, seq)
	}
}

// settle acknowledges what a record answers, as often as the broker delivered it: it
// is on the disk.
func (b *inbox) settle(seq uint64) {
	b.mu.Lock()
	a := b.answered[seq]
	delete(b.answered, seq)
	b.mu.Unlock()
	if a != nil {
		give(a.acks)
	}
}

// settled tells whether nothing that was answered waits for an acknowledgement.
func (b *inbox) settled() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, a := range b.answered {
		if len(a.acks) > 0 {
			return false
		}
	}
	return true
}

func give(acks []func()) {
	for _, ack := range acks {
		ack()
	}
}

// delivered notes that the broker has a record. Where nothing is written now that is as
// good as the disk, and so it is for what is not remembered.
func (b *inbox) delivered(seq uint64, unwritten bool) {
	b.mu.Lock()
	a := b.answered[seq]
	wait := a != nil && a.kept && !unwritten
	if wait {
		a.delivered = true
	}
	b.mu.Unlock()
	if !wait {
		b.settle(seq)
	}
}

// attach lets acknowledgements wait for an answer that is not on the disk yet; false if
// there is no such one.
func (b *inbox) attach(seq uint64, acks []func()) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := b.answered[seq]
	if a == nil {
		return false
	}
	a.acks = append(a.acks, acks...)
	return true
}

// aged are the answers that were not on the disk when this was asked the last time, and
// are not now: those that were delivered, and those that were not.
func (b *inbox) aged() (delivered, others map[uint64]*answer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delivered, others = make(map[uint64]*answer), make(map[uint64]*answer)
	for seq, a := range b.answered {
		switch {
		case a.old && a.delivered:
			delivered[seq] = a
		case a.old:
			others[seq] = a
		}
		a.old = true
	}
	return delivered, others
}

// review ends what will not come to the disk: what was lost, and, while nothing is
// written, what was delivered.
func (u *Uplink) review() {
	delivered, others := u.inbox.aged()
	for seq := range delivered {
		u.inbox.delivered(seq, u.outbox.Unwritten())
	}
	for seq, a := range others {
		if !u.outbox.Waits(seq) {
			u.inbox.disown(seq, a)
		}
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
	for _, a := range b.answered {
		a.acks = nil
	}
}

// answer appends the record that answers a request.
func (u *Uplink) answer(r *Request, encode func(seq uint64) (store.Record, error)) {
	var number uint64
	var noted *answer
	_, err := u.outbox.Append(func(seq uint64) (store.Record, error) {
		record, err := encode(seq)
		if err == nil {
			number, noted = seq, u.inbox.answer(seq, r, record.Job != "") // before the record can be delivered, or found
		}
		return record, err
	}, func() {
		u.inbox.settle(number)
		token(u.conn.moved)
	})
	if err == nil {
		return
	}
	u.inbox.disown(number, noted)
	u.inbox.close(r) // without an acknowledgement the broker delivers it again
	u.log.Error("answer lost", "id", r.ID, "err", err)
}
