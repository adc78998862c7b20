package mqtt

import (
	"sync"
	"time"
)

// acks passes acknowledgements to the library from a goroutine of its own: the
// library waits until the socket takes a PUBACK, and whoever acknowledges, such
// as the writer of a store, must not wait for a broker that reads nothing. What
// can wait is bounded by the messages the broker has under way.
type acks struct {
	mu      sync.Mutex
	waiting []func()
	under   int           // guarded by mu: taken in, and not on the socket yet
	wake    chan struct{} // holds one token when something waits
	gone    chan struct{} // holds one token when one went to the socket
}

func newAcks() *acks { return &acks{wake: make(chan struct{}, 1), gone: make(chan struct{}, 1)} }

// add takes one acknowledgement in; it never blocks.
func (q *acks) add(ack func()) {
	q.mu.Lock()
	q.waiting = append(q.waiting, ack)
	q.under++
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// send passes on what waits.
func (q *acks) send() {
	q.mu.Lock()
	waiting := q.waiting
	q.waiting = nil
	q.mu.Unlock()
	for _, ack := range waiting {
		ack()
	}
}

// run passes acknowledgements on until the connection is down.
func (q *acks) run(down <-chan struct{}) {
	for {
		select {
		case <-q.wake:
			q.send()
		case <-down:
			return
		}
	}
}

// left notes that an acknowledgement went to the socket.
func (q *acks) left() {
	q.mu.Lock()
	q.under--
	q.mu.Unlock()
	select {
	case q.gone <- struct{}{}:
	default:
	}
}

// flush returns when all that was taken in is on the socket, within a limit: the
// library writes an acknowledgement after it was passed on, and none may follow a
// DISCONNECT.
func (q *acks) flush(limit time.Duration, down <-chan struct{}) {
	go q.send()
	late := time.After(limit)
	for {
		q.mu.Lock()
		under := q.under
		q.mu.Unlock()
		if under <= 0 {
			return
		}
		select {
		case <-q.gone:
		case <-down:
			return
		case <-late:
			return
		}
	}
}
