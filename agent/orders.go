package agent

import (
	"slices"
	"sync"
	"time"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/store"
)

// order is a command or a desired state that waits for its turn.
type order struct {
	topic    wire.Topic
	msg      mqtt.Message
	received time.Time
	acks     []func() // one for each time it was delivered
}

// key is the command's name in the ledger. Ids belong to their verb: commands
// of two verbs have acknowledgements of their own, and may run at once.
func (o order) key() string { return o.topic.Verb + "/" + o.topic.ID }

// request names the bytes of an order.
func (o order) request() store.Digest { return digestOf(o.msg) }

// ack tells the broker that the order needs it no more.
func (o order) ack() {
	for _, ack := range o.acks {
		ack()
	}
}

// orders are those that wait for one goroutine, in the order in which they came.
//
// A command is obeyed or refused, never both, however often the broker delivers
// it: a copy of one that waits is the same order, one of the order that is being
// carried out has room in any case, and one that was refused stays refused. What
// became of the others the ledger knows.
type orders struct {
	most int           // commands that may wait, and desired states
	some chan struct{} // holds a token while any may be there

	mu      sync.Mutex
	waiting []order   // guarded by mu
	taken   order     // guarded by mu: the last one, which may be under way
	refused []refusal // guarded by mu: the last commands that found no room
}

// refusal names a command that was refused, by its key and its bytes.
type refusal struct {
	key     string
	request store.Digest
}

// refusedMost is how many commands that found no room are remembered: more than a
// broker delivers again at once.
const refusedMost = 1024

func newOrders(most int) *orders {
	return &orders{most: most, some: make(chan struct{}, 1)}
}

// put adds an order; false means that it is a command that finds no room. A
// desired state that finds none takes the place of the oldest: the newer ones
// count.
func (q *orders) put(o order) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	isCmd := o.topic.Kind == wire.KindCmd
	if at := slices.IndexFunc(q.waiting, o.same); isCmd && at >= 0 {
		q.waiting[at].acks = append(q.waiting[at].acks, o.acks...)
		return true
	}
	switch full := q.count(o.topic.Kind) >= q.most; {
	case isCmd && (slices.Contains(q.refused, refusal{o.key(), o.request()}) || full && !o.same(q.taken)):
		q.refused = append(q.refused, refusal{o.key(), o.request()})
		q.refused = q.refused[max(0, len(q.refused)-refusedMost):]
		return false
	case !isCmd && full:
		at := slices.IndexFunc(q.waiting, func(old order) bool { return old.topic.Kind == o.topic.Kind })
		defer q.waiting[at].ack()
		q.waiting = slices.Delete(q.waiting, at, at+1)
	}
	q.waiting = append(q.waiting, o)
	q.tell()
	return true
}

// same tells whether two deliveries are of one command.
func (o order) same(other order) bool {
	return o.topic.Kind == other.topic.Kind && o.key() == other.key() &&
		o.msg.Retained == other.msg.Retained && o.request() == other.request()
}

// count is how many orders of a kind wait. The caller holds mu.
func (q *orders) count(kind wire.Kind) (n int) {
	for _, o := range q.waiting {
		if o.topic.Kind == kind {
			n++
		}
	}
	return n
}

// take returns the first order that waits; false means that there is none.
func (q *orders) take() (o order, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		return order{}, false
	}
	o, q.taken = q.waiting[0], q.waiting[0]
	q.waiting = slices.Delete(q.waiting, 0, 1)
	if len(q.waiting) > 0 {
		q.tell()
	}
	return o, true
}

func (q *orders) tell() {
	select {
	case q.some <- struct{}{}:
	default:
	}
}
