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
	id   string // of the command or the job; the target of a retained document; none for any report
}

// routesOf are the routes of a message; none for one that no operation waits for.
func routesOf(t wire.Topic) []route {
	switch t.Kind {
	case wire.KindAck, wire.KindResult, wire.KindCmd:
		return []route{{t.Kind, t.ID}}
	case wire.KindDesired, wire.KindState, wire.KindCaps, wire.KindLabels:
		return []route{{t.Kind, t.Device}}
	case wire.KindReported:
		return []route{{t.Kind, ""}, {t.Kind, t.Device}}
	}
	return nil
}

// router hands answers to the operations that wait for them.
type router struct {
	mu      sync.Mutex
	waiting map[route][]*waiter
}

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
	defer r.mu.Unlock()
	if w.ended {
		return
	}
	w.ended = true
	for _, to := range w.routes {
		rest := slices.DeleteFunc(slices.Clone(r.waiting[to]), func(o *waiter) bool { return o == w })
		if r.waiting[to] = rest; len(rest) == 0 {
			delete(r.waiting, to)
		}
	}
	close(w.over) // waits for nobody
}

// deliver hands a message to those who wait for it. It is called by one goroutine.
func (r *router) deliver(t wire.Topic, m mqtt.Message) {
	var waiting []*waiter // which does not change any more
	r.mu.Lock()
	for _, to := range routesOf(t) {
		waiting = append(waiting, r.waiting[to]...)
	}
	r.mu.Unlock()
	for _, w := range waiting {
		if w.take(t, m) {
			r.end(w)
		}
	}
}
