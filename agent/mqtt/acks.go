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
	wake    chan struct{} // holds one token when something waits
}

func newAcks() *acks { return &acks{wake: make(chan struct{}, 1)} }

// add takes one acknowledgement in; it never blocks.
func (q *acks) add(ack func()) {
	q.mu.Lock()
	q.waiting = append(q.waiting, ack)
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

// flush passes on what waits, within a limit.
func (q *acks) flush(limit time.Duration) {
	done := make(chan struct{})
	go func() {
		q.send()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(limit):
	}
}
