package mqtt

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
)

func newDelivery() delivery { return delivery{done: make(chan error, 1)} }

// TestEachAcceptedMessageHasOneOutcome has many senders when the connection ends.
func TestEachAcceptedMessageHasOneOutcome(t *testing.T) {
	t.Parallel()
	o, down := newOutgoing(), make(chan struct{})
	var senders, socket sync.WaitGroup
	var mu sync.Mutex
	var accepted []delivery
	for range 20 {
		senders.Go(func() {
			for {
				d := newDelivery()
				if err := o.enqueue(t.Context(), down, d); err != nil {
					if !errors.Is(err, ErrDown) {
						t.Errorf("got %v, want ErrDown", err)
					}
					return
				}
				mu.Lock()
				accepted = append(accepted, d)
				mu.Unlock()
			}
		})
	}
	socket.Go(func() {
		for range 500 {
			<-o.wake
			for d, ok := o.next(); ok; d, ok = o.next() {
				o.report(d, nil)
			}
		}
		o.end()
		close(down)
		for d, ok := o.next(); ok; d, ok = o.next() {
			o.report(d, ErrDown)
		}
	})
	socket.Wait()
	senders.Wait()
	<-o.settled
	for _, d := range accepted {
		if len(d.done) != 1 {
			t.Fatal("a message without an outcome")
		}
	}
	if n := o.count(); n != 0 || len(o.room) != 0 {
		t.Errorf("%d open and %d in the queue at the end", n, len(o.room))
	}
}

func TestWhatWaitsForRoomIsNotAcceptedAfterTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, down := newOutgoing(), make(chan struct{})
		for range queued {
			if err := o.enqueue(t.Context(), down, newDelivery()); err != nil {
				t.Fatal(err)
			}
		}
		if o.offer(newDelivery()) {
			t.Error("an offer is accepted without room")
		}
		waits := make(chan error, 1)
		go func() { waits <- o.enqueue(context.Background(), down, newDelivery()) }()
		synctest.Wait()
		o.end()
		o.next()
		if err := <-waits; !errors.Is(err, ErrDown) {
			t.Errorf("got %v, want ErrDown", err)
		}
		select {
		case <-o.settled:
			t.Error("settled while outcomes are not known")
		default:
		}
	})
}
