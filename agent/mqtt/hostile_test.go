package mqtt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"
)

// allocated is how many bytes the heap was asked for so far.
func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

func TestN13_DeclaredLengthIsNotAllocated(t *testing.T) {
	start := make(chan struct{})
	broker := evilBroker(t, func(c evilConn) {
		c.accept()
		<-start
		c.say("\x32\xff\xff\xff\x7f\x00\x05job/1\x00\x01") // 256 MiB
		c.drain()
	})
	cfg := quick(broker)
	cfg.MaxPayload, cfg.MaxPacket = 1<<19, 1<<20
	l, h, _ := mustRun(t, cfg)
	await(t, h.connected)
	before := allocated()
	close(start)
	err := awaitLost(t, h, ErrBadPacket)
	if grown := allocated() - before; grown > 2<<20 {
		t.Errorf("%d bytes allocated for a packet over the limit of %d", grown, cfg.MaxPacket)
	}
	if !strings.Contains(err.Error(), "268435455 bytes, the limit is 1048576") {
		t.Errorf("got %v, want the sizes named", err)
	}
	if l.Counts().BadPackets == 0 {
		t.Error("not counted")
	}
}

func TestN15_OversizePayloadIsDiscardedAsItComes(t *testing.T) {
	const size = 15 << 20
	start := make(chan struct{})
	broker := evilBroker(t, func(c evilConn) {
		c.accept()
		<-start
		fmt.Fprintf(c, "\x32%s\x00\x05job/1\x00\x09", "\x89\x80\xc0\x07") // 15 MiB and 9 bytes
		io.CopyN(c, zeros{}, size)
		c.drain()
	})
	l, h, _ := mustRun(t, quick(broker))
	await(t, h.connected)
	before := allocated()
	close(start)
	m := await(t, h.received)
	if m.Oversize != size || len(m.Payload) != 0 || m.Topic != "job/1" {
		t.Errorf("got %d bytes on %q, oversize %d; want none on job/1, %d", len(m.Payload), m.Topic, m.Oversize, size)
	}
	if grown := allocated() - before; grown > 1<<20 {
		t.Errorf("%d bytes allocated for a payload that was to be discarded", grown)
	}
	if n := l.Counts().Oversize; n != 1 {
		t.Errorf("counted %d, want 1", n)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func TestN14_LinkSurvivesABrokerThatTalksNonsense(t *testing.T) {
	nonsense := make(chan string, 10)
	for _, s := range []string{"\x30\xff\xff\xff\xff\x01", "\x90\x05\x00\x01\x00\x00\x00", "\xf0\x00", "\x32\x05\x00\x01a\x00\x00", "\x30\x03\x00\x01\xff"} {
		nonsense <- s
	}
	close(nonsense)
	broker := evilBroker(t, func(c evilConn) {
		c.accept()
		if s, more := <-nonsense; more {
			c.say(s)
		} else {
			c.say(publishPacket("job/7", 3))
		}
		c.drain()
	})
	l, h, _ := mustRun(t, quick(broker))
	if m := await(t, h.received); m.Topic != "job/7" || string(m.Payload) != "ppp" {
		t.Errorf("got %q on %s", m.Payload, m.Topic)
	}
	if n := l.Counts().BadPackets; n != 5 {
		t.Errorf("counted %d bad packets, want 5", n)
	}
}

func TestN7_RefusalsAreDistinctAndPaced(t *testing.T) {
	for code, want := range map[byte]string{1: "protocol", 2: "identifier", 3: "Unavailable", 4: "check user, password", 5: "check user, password"} {
		t.Run(fmt.Sprintf("N7 code %d", code), func(t *testing.T) {
			broker := evilBroker(t, func(c evilConn) {
				c.hear()
				c.say("\x20\x02\x00" + string(code))
				c.drain()
			})
			l, h, _ := mustRun(t, quick(broker))
			err := await(t, h.lost)
			if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want ErrRefused about %s", err, want)
			}
			await(t, h.lost) // it tries again
			if c := l.Counts(); c.Refused < 2 || c.Connections != 0 {
				t.Errorf("counted %+v", c)
			}
		})
	}
}

// deniedTwo is a link that asks for two filters, and again soon for those that it
// is refused. The broker answers one SUBSCRIBE after the other with these codes.
func deniedTwo(t *testing.T, answers ...string) (*Link, *recorder) {
	t.Helper()
	cfg := quick(evilBroker(t, func(c evilConn) {
		c.hear()
		c.say(connack)
		for _, codes := range answers {
			_, sub := c.hear()
			c.say("\x90\x04" + string(sub[:2]) + codes)
		}
		c.drain()
	}))
	cfg.Subscriptions = []Subscription{{"job/#", 1}, {"cmd/#", 1}}
	cfg.RetryDenied = 20 * time.Millisecond
	l, h, _ := mustRun(t, cfg)
	return l, h
}

func TestN14_AnAnswerToAnEarlierSubscriptionEndsTheConnectionOnly(t *testing.T) {
	_, h := deniedTwo(t, "\x01\x80", "\x01\x01") // the second time one filter is asked for
	await(t, h.connected)
	if err := await(t, h.lost); !errors.Is(err, ErrBadPacket) {
		t.Errorf("got %v, want ErrBadPacket", err)
	}
}

func TestN9_RefusedSubscriptionIsReportedAndRetried(t *testing.T) {
	l, h := deniedTwo(t, "\x80\x80", "\x80\x80", "\x01\x01")
	await(t, h.connected)
	if got := await(t, h.denied); strings.Join(got, " ") != "job/# cmd/#" {
		t.Errorf("denied %v, want both filters", got)
	}
	if got := await(t, h.denied); got != nil {
		t.Errorf("denied %v, want nil once granted", got)
	}
	if n := l.Counts().Denied; n != 4 {
		t.Errorf("counted %d, want 4", n)
	}
}

func TestPublishIsNotDeliveredWhenTheBrokerDiesBeforeThePUBACK(t *testing.T) {
	for _, clean := range []bool{false, true} {
		broker := evilBroker(t, func(c evilConn) {
			c.accept()
			c.hear() // the PUBLISH; then the connection is closed
		})
		cfg := quick(broker)
		cfg.CleanSession = clean
		l, h, _ := mustRun(t, cfg)
		await(t, h.connected)
		if err := l.Publish(t.Context(), Message{Topic: "result/1", Payload: []byte("x"), QoS: 1}); !errors.Is(err, ErrDown) {
			t.Errorf("clean session %v: got %v, want ErrDown", clean, err)
		}
	}
}

// mustStall is connected to a broker that reads no more, which a write of over its
// socket's buffers shows within 100 ms.
func mustStall(t *testing.T) (*Link, *recorder) {
	t.Helper()
	broker := evilBroker(t, func(c evilConn) {
		c.accept()
		<-t.Context().Done()
	})
	cfg := quick(broker)
	cfg.WriteTimeout = 100 * time.Millisecond
	l, h, _ := mustRun(t, cfg)
	await(t, h.connected)
	return l, h
}

func TestN16_BrokerThatStopsReadingIsGivenUp(t *testing.T) {
	l, h := mustStall(t)
	var outcomes []<-chan error
	for range 5 {
		outcomes = append(outcomes, l.Send(t.Context(), Message{Topic: "result/1", Payload: make([]byte, 12<<20), QoS: 1}))
	}
	for _, o := range outcomes {
		if err := await(t, o); !errors.Is(err, ErrDown) {
			t.Errorf("got %v, want ErrDown", err)
		}
	}
	if err := await(t, h.lost); !strings.Contains(err.Error(), "write to the broker") {
		t.Errorf("got %v, want a write given up", err)
	}
}

func TestSendWaitsForRoomNoLongerThanItsContext(t *testing.T) {
	l, _ := mustStall(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	m := Message{Topic: "result/1", Payload: make([]byte, 12<<20), QoS: 1}
	var outcomes []<-chan error
	for range 3 * queued { // some find room, the rest may not wait for it
		outcomes = append(outcomes, l.Send(ctx, m))
	}
	canceled := 0
	for _, o := range outcomes {
		switch err := await(t, o); {
		case errors.Is(err, context.Canceled):
			canceled++
		case !errors.Is(err, ErrDown):
			t.Errorf("got %v, want canceled or ErrDown", err)
		}
	}
	if canceled == 0 {
		t.Error("no Send gave up")
	}
}

func TestAMessageThatCannotBeSentIsNotRetried(t *testing.T) {
	l, _, _ := mustRun(t, quick("127.0.0.1:1"))
	for name, m := range map[string]Message{
		"wildcard":  {Topic: "a/#"},
		"empty":     {},
		"QoS 2":     {Topic: "a", QoS: 2},
		"too large": {Topic: "a", Payload: make([]byte, 16<<20+1)},
	} {
		if err := l.Publish(t.Context(), m); err == nil || errors.Is(err, ErrDown) {
			t.Errorf("%s: got %v, want a complaint about the message", name, err)
		}
	}
	if err := l.Publish(t.Context(), Message{Topic: "a"}); !errors.Is(err, ErrDown) {
		t.Errorf("got %v, want ErrDown", err)
	}
}
