package fleet

import (
	"slices"
	"sync"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

// route names the messages that an operation waits for.
type route struct {
	kind wire.Kind
	id   string // of the command or the job; the target of a desired state; none for reports
}

// routeOf is the route of a message; false for one that no operation waits for.
func routeOf(t wire.Topic) (route, bool) {
	switch t.Kind {
	case wire.KindAck, wire.KindResult:
		return route{t.Kind, t.ID}, true
	case wire.KindDesired:
		return route{t.Kind, t.Device}, true
	case wire.KindReported:
		return route{t.Kind, ""}, true
	}
	return route{}, false
}

// router hands answers to the operations that wait for them.
type router struct {
	mu      sync.Mutex
	waiting map[route][]*waiter
	ended   []route // of acknowledgements and results, the last endedMost
	late    uint64
}

// endedMost is how many ids are remembered to tell a late answer from that to
// somebody else.
const endedMost = 256

// waiter is an operation that waits. What comes is given to take, on the goroutine
// of the link's reader: it must not wait for anything, and says whether it was the
// last. A device's answers are therefore never too many, however slow the operation
// is: take keeps what it needs of each.
type waiter struct {
	routes []route
	take   func(wire.Topic, mqtt.Message) (last bool)
	over   chan struct{} // closed with the last

	ended bool // the router's lock guards it
}

// wait registers an operation. The caller calls end when it does not wait any more.
func (r *router) wait(take func(wire.Topic, mqtt.Message) bool, routes ...route) *waiter {
	w := &waiter{routes: routes, take: take, over: make(chan struct{})}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, to := range routes {
		r.waiting[to] = append(r.waiting[to], w)
	}
	return w
}

// end takes an operation out, once.
func (r *router) end(w *waiter) {
	r.mu.Lock()
	first := !w.ended
	w.ended = true
	if first {
		r.remove(w)
	}
	r.mu.Unlock()
	if first {
		close(w.over)
	}
}

// remove takes an operation's routes out; the lock is held.
func (r *router) remove(w *waiter) {
	for _, to := range w.routes {
		rest := slices.DeleteFunc(slices.Clone(r.waiting[to]), func(o *waiter) bool { return o == w })
		if r.waiting[to] = rest; len(rest) == 0 {
			delete(r.waiting, to)
		}
		if to.kind != wire.KindAck && to.kind != wire.KindResult {
			continue
		}
		if len(r.ended) == endedMost {
			r.ended = slices.Delete(r.ended, 0, 1)
		}
		r.ended = append(r.ended, to)
	}
}

// deliver hands a message to those who wait for it. It is called by one goroutine.
func (r *router) deliver(t wire.Topic, m mqtt.Message) {
	to, ok := routeOf(t)
	if !ok {
		return
	}
	for _, w := range r.waiters(to) {
		if w.take(t, m) {
			r.end(w)
		}
	}
}

// waiters returns those who wait, in a list that does not change any more, and
// counts the message as late if they have ended.
func (r *router) waiters(to route) []*waiter {
	r.mu.Lock()
	defer r.mu.Unlock()
	found := r.waiting[to]
	if len(found) == 0 && slices.Contains(r.ended, to) {
		r.late++
	}
	return slices.Clone(found)
}

// lateCount is how many answers came after their operation had ended.
func (r *router) lateCount() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.late
}
