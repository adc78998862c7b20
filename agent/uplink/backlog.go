package uplink

import (
	"context"
	"sync"
)

// How much may wait in a backlog. A sender that starts anew, or a broker after a cut,
// may bring all that is remembered at once.
const (
	backlogBytes = 64 << 20
	backlogEach  = 1 << 10 // bytes that a request takes beside its payload
)

// backlog is requests that wait for one goroutine, by the time they came.
type backlog struct {
	some chan struct{} // holds a token while any may wait

	mu      sync.Mutex
	waiting []*Request // guarded by mu
	bytes   int        // guarded by mu: that they take
}

func newBacklog() *backlog { return &backlog{some: make(chan struct{}, 1)} }

// put lets a request wait; false where there is no room.
func (b *backlog) put(r *Request) bool {
	if !b.add(r) {
		return false
	}
	token(b.some)
	return true
}

func (b *backlog) add(r *Request) bool {
	size := len(r.Message.Payload) + backlogEach
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bytes+size > backlogBytes {
		return false
	}
	b.waiting, b.bytes = append(b.waiting, r), b.bytes+size
	return true
}

// take returns the request that waits longest, or nil.
func (b *backlog) take() *Request {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.waiting) == 0 {
		b.waiting = nil
		return nil
	}
	r := b.waiting[0]
	b.waiting[0], b.waiting = nil, b.waiting[1:]
	b.bytes -= len(r.Message.Payload) + backlogEach
	return r
}

// each calls f with the requests, one after the other, until ctx ends.
func (b *backlog) each(ctx context.Context, f func(*Request)) error {
	for ctx.Err() == nil {
		if r := b.take(); r != nil {
			f(r)
			continue
		}
		select {
		case <-b.some:
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}
