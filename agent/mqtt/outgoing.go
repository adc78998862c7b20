package mqtt

import (
	"context"
	"sync"
)

// queued is how many messages may wait for the socket.
const queued = 64

// delivery is a message on its way and the place for its outcome.
type delivery struct {
	Message
	done chan error // takes exactly one value
}

// outgoing is what one connection has accepted and not told the outcome of: first
// in a queue of bounded length, then with the library. Room is taken before the
// lock, so nobody waits for anything with it.
type outgoing struct {
	room chan struct{} // holds a token for each message in the queue, or about to be
	wake chan struct{} // holds a token when the queue may have grown

	mu      sync.Mutex
	queue   []delivery
	open    int           // accepted, outcome not known
	over    bool          // nothing more is accepted
	settled chan struct{} // closed when over and none is open
}

func newOutgoing() *outgoing {
	return &outgoing{room: make(chan struct{}, queued), wake: make(chan struct{}, 1), settled: make(chan struct{})}
}

// enqueue accepts a message, once there is room.
func (o *outgoing) enqueue(ctx context.Context, down <-chan struct{}, d delivery) error {
	// Not left to the select's chance: when one message was given up, the next
	// must not take its place.
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case o.room <- struct{}{}:
		return o.put(d)
	case <-down:
		return ErrDown
	case <-ctx.Done():
		return ctx.Err()
	}
}

// offer accepts a message if half of the room is free.
func (o *outgoing) offer(d delivery) bool {
	if len(o.room) >= queued/2 {
		return false
	}
	select {
	case o.room <- struct{}{}:
		return o.put(d) == nil
	default:
		return false
	}
}

// put takes in a message for which there is room.
func (o *outgoing) put(d delivery) error {
	o.mu.Lock()
	over := o.over
	if !over {
		o.queue = append(o.queue, d)
		o.open++
	}
	o.mu.Unlock()
	if over {
		<-o.room
		return ErrDown
	}
	select {
	case o.wake <- struct{}{}:
	default:
	}
	return nil
}

// next takes the oldest message out of the queue; it is for the socket now.
func (o *outgoing) next() (d delivery, ok bool) {
	o.mu.Lock()
	if ok = len(o.queue) > 0; ok {
		d, o.queue[0] = o.queue[0], delivery{}
		o.queue = o.queue[1:]
	}
	o.mu.Unlock()
	if ok {
		<-o.room
	}
	return d, ok
}

// report tells the outcome of a message that was accepted.
func (o *outgoing) report(d delivery, outcome error) {
	d.done <- outcome // has room
	o.mu.Lock()
	o.open--
	settled := o.over && o.open == 0
	o.mu.Unlock()
	if settled {
		close(o.settled)
	}
}

// end accepts nothing more.
func (o *outgoing) end() {
	o.mu.Lock()
	settled := !o.over && o.open == 0
	o.over = true
	o.mu.Unlock()
	if settled {
		close(o.settled)
	}
}

// count is how many were accepted whose outcome is not known.
func (o *outgoing) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.open
}
