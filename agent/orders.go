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

// orders are those that wait for one goroutine, in the order in which they came:
// so many commands, and from each place the last desired state.
type orders struct {
	commands int           // that may wait
	some     chan struct{} // holds a token while any may be there

	mu      sync.Mutex
	waiting []order // guarded by mu
}

func newOrders(commands int) *orders {
	return &orders{commands: commands, some: make(chan struct{}, 1)}
}

// put adds an order; false means that there is no room for it. A desired state
// takes the place of an earlier one. A command that waits and comes again, as
// after a broken link, is one: a copy without room would be refused, and the
// command obeyed after that.
func (q *orders) put(o order) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch at := slices.IndexFunc(q.waiting, o.replaces); {
	case at >= 0 && o.topic.Kind == wire.KindCmd:
		q.waiting[at].acks = append(q.waiting[at].acks, o.acks...)
		return true
	case at >= 0:
		defer q.waiting[at].ack()
		q.waiting = slices.Delete(q.waiting, at, at+1)
	case o.topic.Kind == wire.KindCmd && q.count() >= q.commands:
		return false
	}
	q.waiting = append(q.waiting, o)
	q.tell()
	return true
}

// replaces tells whether an order that waits need not be looked at once o is
// there.
func (o order) replaces(other order) bool {
	if o.topic.Kind != other.topic.Kind {
		return false
	}
	if o.topic.Kind == wire.KindCmd {
		return o.key() == other.key() && o.msg.Retained == other.msg.Retained && o.request() == other.request()
	}
	return o.topic.Device == other.topic.Device
}

// count is how many commands wait. The caller holds mu.
func (q *orders) count() (n int) {
	for _, o := range q.waiting {
		if o.topic.Kind == wire.KindCmd {
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
	o = q.waiting[0]
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
