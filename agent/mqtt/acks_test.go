package mqtt

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestAnAcknowledgementWaitsForTheSocketAndNobodyForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, down, stalled := newAcks(), make(chan struct{}), make(chan struct{})
		go q.run(down)
		var sent []int
		q.add(func() { <-stalled; sent = append(sent, 1) })
		synctest.Wait()
		q.add(func() { sent = append(sent, 2) })
		q.add(func() { sent = append(sent, 3) })
		synctest.Wait()
		if len(sent) != 0 {
			t.Fatalf("sent %v while the socket was stalled", sent)
		}
		close(stalled)
		synctest.Wait()
		if len(sent) != 3 || sent[0] != 1 || sent[1] != 2 || sent[2] != 3 {
			t.Errorf("sent %v, want 1 2 3 in order", sent)
		}
		close(down)
		synctest.Wait()
		q.under = 0 // those went to the socket
		q.add(func() {
			go func() { // as the library does it
				<-time.After(time.Millisecond)
				sent = append(sent, 4)
				q.left()
			}()
		})
		q.flush(time.Second, make(chan struct{}))
		if len(sent) != 4 {
			t.Errorf("sent %v, want the last one flushed", sent)
		}
		mute := make(chan struct{})
		defer close(mute)
		q.add(func() { <-mute })
		began := time.Now()
		if q.flush(time.Second, make(chan struct{})); time.Since(began) != time.Second {
			t.Errorf("flush took %v, want its limit of 1s", time.Since(began))
		}
	})
}
