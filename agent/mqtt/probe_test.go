package mqtt

import (
	"context"
	"errors"
	"slices"
	"testing"
)

// What a broker keeps back until there is room it sends before the answer, if it has
// heard of the room.
func TestProbeGoesBehindTheAcknowledgements(t *testing.T) {
	t.Parallel()
	heard := make(chan []byte, 1)
	addr := evilBroker(t, func(c evilConn) {
		c.accept()
		c.say("\x32\x05\x00\x01a\x00\x01" + "\x32\x05\x00\x01a\x00\x02")
		var kinds []byte
		for {
			kind, body := c.hear()
			kinds = append(kinds, kind)
			if kind != typePuback {
				heard <- kinds
				c.say("\xb0\x02" + string(body[:2]))
				break
			}
		}
		c.hear()
	})
	l, h, _ := mustRun(t, quick(addr))
	await(t, h.connected)
	for range 2 {
		await(t, h.received).ack()
	}
	if err := l.Probe(t.Context()); err != nil {
		t.Error(err)
	}
	const typeUnsubscribe = 10
	if got, want := await(t, heard), []byte{typePuback, typePuback, typeUnsubscribe}; !slices.Equal(got, want) {
		t.Errorf("the broker heard packets of types %d, want %d", got, want)
	}
}

func TestProbeTellsThatThereIsNoConnection(t *testing.T) {
	t.Parallel()
	addr := evilBroker(t, func(c evilConn) {
		c.accept()
		c.hear()
	})
	l, h, stop := mustRun(t, quick(addr))
	await(t, h.connected)
	if err := l.Probe(t.Context()); !errors.Is(err, ErrDown) {
		t.Errorf("hung up on: got %v, want %v", err, ErrDown)
	}
	stop()
	if err := l.Probe(t.Context()); !errors.Is(err, ErrDown) {
		t.Errorf("stopped: got %v, want %v", err, ErrDown)
	}
}

func TestProbeIsAnsweredByEachBroker(t *testing.T) {
	brokers(t, func(t *testing.T, broker string) {
		l, h, _ := mustRun(t, device(broker))
		await(t, h.connected)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := l.Probe(ctx); err != nil {
			t.Error(err)
		}
	})
}
