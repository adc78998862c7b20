package mqtt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/broker-config/brokertest"
	"github.com/limber-edge/limber/broker-config/devbroker"
)

// brokers calls f with each broker a device may meet on the bench.
func brokers(t *testing.T, f func(t *testing.T, broker string)) {
	t.Parallel()
	t.Run("mosquitto", func(t *testing.T) {
		t.Parallel()
		f(t, brokertest.StartMosquitto(t).Addr)
	})
	t.Run("devbroker", func(t *testing.T) {
		t.Parallel()
		f(t, mustServe(t))
	})
}

// mustServe runs the embedded broker for the length of the test.
func mustServe(tb testing.TB) (addr string) {
	tb.Helper()
	return mustServeOn(tb, "127.0.0.1:0")
}

func mustServeOn(tb testing.TB, listen string) (addr string) {
	tb.Helper()
	b, err := devbroker.New(devbroker.Config{Listen: listen}, slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	tb.Cleanup(func() { cancel(); await(tb, ended) })
	return b.Addr()
}

// device is quick in the topics of a real device.
func device(broker string) Config {
	cfg := quick(broker)
	cfg.Subscriptions = []Subscription{{"limber/v1/demo/cam-1/job/#", 1}}
	return cfg
}

// watch starts an operator that subscribes to filter.
func watch(tb testing.TB, broker, filter string) (*Link, *recorder) {
	tb.Helper()
	cfg := quick(broker)
	cfg.ClientID, cfg.CleanSession = "watch", true
	cfg.Subscriptions = []Subscription{{filter, 1}}
	l, h, _ := mustRun(tb, cfg)
	await(tb, h.connected)
	return l, h
}

func mustPublish(tb testing.TB, l *Link, topic, payload string, retained bool) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	if err := l.Publish(ctx, Message{Topic: topic, Payload: []byte(payload), QoS: 1, Retained: retained}); err != nil {
		tb.Fatalf("publish to %s: %v", topic, err)
	}
}

// sever breaks the connection under the client's feet.
func sever(tb testing.TB, l *Link) {
	tb.Helper()
	s := l.current.Load()
	if s == nil {
		tb.Fatal("not connected")
	}
	s.stream.raw.Close()
}

func TestN19_ABrokerOnIPv6AloneIsReachedByAddressAndByName(t *testing.T) {
	if l, err := net.Listen("tcp", "[::1]:0"); err != nil {
		t.Skipf("no IPv6 here: %v", err)
	} else {
		l.Close()
	}
	addr := mustServeOn(t, "[::1]:0")
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"[::1]", "localhost"} {
		if names, err := net.DefaultResolver.LookupHost(t.Context(), strings.Trim(host, "[]")); err != nil || !slices.Contains(names, "::1") {
			t.Logf("%s is not ::1 here: %q, %v", host, names, err)
			continue
		}
		_, h, stop := mustRun(t, device(host+":"+port))
		await(t, h.connected)
		stop()
	}
}

func TestN1_ConnectsWhenTheBrokerComes(t *testing.T) {
	m := brokertest.StartMosquitto(t)
	m.Kill()
	l, h, _ := mustRun(t, device(m.Addr))
	for range 3 {
		await(t, h.lost)
	}
	m.Start()
	await(t, h.connected)
	mustPublish(t, l, "limber/v1/demo/cam-1/state", "online", true)
}

func TestRoundTripIsThatOfTheSubscriptions(t *testing.T) {
	t.Parallel()
	heard, answer := make(chan time.Time), make(chan bool)
	addr := evilBroker(t, func(c evilConn) {
		c.hear()
		c.say(connack)
		_, sub := c.hear()
		heard <- time.Now()
		<-answer
		c.say("\x90\x03" + string(sub[:2]) + "\x01")
		c.drain()
	})
	began := time.Now()
	l, h, _ := mustRun(t, quick(addr))
	least := time.Since(await(t, heard))
	close(answer)
	await(t, h.connected)
	if got, most := l.RoundTrip(), time.Since(began); got < least || got > most {
		t.Errorf("got %v, want it between %v and %v", got, least, most)
	}
}

func TestReconnectsWhenTheBrokerIsKilled(t *testing.T) {
	m := brokertest.StartMosquitto(t)
	l, h, _ := mustRun(t, device(m.Addr))
	for range 3 {
		await(t, h.connected)
		mustPublish(t, l, "limber/v1/demo/cam-1/state", "online", true)
		m.Kill()
		await(t, h.lost)
		m.Start()
	}
	await(t, h.connected)
	operator, _ := watch(t, m.Addr, "nothing")
	mustPublish(t, operator, "limber/v1/demo/cam-1/job/1", "frame", false)
	if got := await(t, h.received); string(got.Payload) != "frame" {
		t.Errorf("after the reconnects got %q", got.Payload)
	}
}

// The kernel takes every PUBLISH, the broker reads none: a write that went well
// is no success.
func TestN2_KilledBrokerDeliversNothing(t *testing.T) {
	m := brokertest.StartMosquitto(t)
	l, h, _ := mustRun(t, device(m.Addr))
	await(t, h.connected)
	m.Pause()
	var outcomes []<-chan error
	for i := range 20 {
		outcomes = append(outcomes, l.Send(t.Context(), Message{Topic: fmt.Sprintf("limber/v1/demo/cam-1/result/%d", i), QoS: 1}))
	}
	m.Kill()
	for i, o := range outcomes {
		if err := await(t, o); !errors.Is(err, ErrDown) {
			t.Errorf("result %d: got %v, want ErrDown", i, err)
		}
	}
}

func TestN4_MuteBrokerIsNoticed(t *testing.T) {
	m := brokertest.StartMosquitto(t)
	cfg := device(m.Addr)
	cfg.KeepAlive, cfg.PingTimeout = time.Second, 500*time.Millisecond
	_, h, _ := mustRun(t, cfg)
	await(t, h.connected)
	m.Pause()
	began := time.Now()
	await(t, h.lost)
	if took, most := time.Since(began), 2*cfg.KeepAlive+cfg.PingTimeout; took > most {
		t.Errorf("noticed after %v, want within %v", took, most)
	}
}

func TestIdleConnectionIsKept(t *testing.T) {
	brokers(t, func(t *testing.T, broker string) {
		cfg := device(broker)
		cfg.KeepAlive, cfg.PingTimeout = time.Second, time.Second
		_, h, _ := mustRun(t, cfg)
		await(t, h.connected)
		select {
		case err := <-h.lost:
			t.Errorf("lost: %v", err)
		case <-time.After(3 * time.Second): // of which the broker would bear 1.5
		}
	})
}

func TestN10_UnacknowledgedMessageComesAgainAsDuplicate(t *testing.T) {
	brokers(t, func(t *testing.T, broker string) {
		operator, _ := watch(t, broker, "nothing")
		l, h, _ := mustRun(t, device(broker))
		if await(t, h.connected) {
			t.Error("the broker remembers a client it never met")
		}
		mustPublish(t, operator, "limber/v1/demo/cam-1/job/1", "frame", false)
		first := await(t, h.received)
		sever(t, l)
		await(t, h.lost)
		if !await(t, h.connected) {
			t.Error("the session was forgotten")
		}
		again := await(t, h.received)
		if first.Duplicate || !again.Duplicate || string(again.Payload) != "frame" || again.QoS != 1 {
			t.Errorf("first %+v, then %+v; want the same with the duplicate flag", first.Message, again.Message)
		}
		first.ack() // of a connection that is gone
		again.ack()
		mustPublish(t, operator, "limber/v1/demo/cam-1/job/2", "next", false)
		if next := await(t, h.received); string(next.Payload) != "next" || next.Duplicate {
			t.Errorf("got %+v, want the next message", next.Message)
		}
	})
}

func TestSessionKeepsJobsForADeviceThatIsAway(t *testing.T) {
	brokers(t, func(t *testing.T, broker string) {
		operator, _ := watch(t, broker, "nothing")
		_, h, stop := mustRun(t, device(broker))
		await(t, h.connected)
		stop()
		mustPublish(t, operator, "limber/v1/demo/cam-1/job/1", "frame", false)
		_, h, _ = mustRun(t, device(broker))
		if got := await(t, h.received); string(got.Payload) != "frame" {
			t.Errorf("got %q", got.Payload)
		}
	})
}

func TestASessionForgetsTheFiltersOfBefore(t *testing.T) {
	brokers(t, func(t *testing.T, broker string) {
		cfg := device(broker)
		cfg.Subscriptions = []Subscription{{"limber/v1/demo/cam-1/job/#", 1}}
		_, h, stop := mustRun(t, cfg)
		await(t, h.connected)
		stop()
		cfg.Former = []string{"limber/v1/demo/cam-1/job/#"}
		cfg.Subscriptions = []Subscription{{"limber/v1/demo/cam-1/cmd/#", 1}}
		_, h, _ = mustRun(t, cfg)
		if present := await(t, h.connected); !present {
			t.Fatal("the broker has forgotten the session")
		}
		operator, _ := watch(t, broker, "limber/#")
		mustPublish(t, operator, "limber/v1/demo/cam-1/job/1", "of before", false)
		mustPublish(t, operator, "limber/v1/demo/cam-1/cmd/mode/1", "wanted", false)
		if got := await(t, h.received); string(got.Payload) != "wanted" {
			t.Errorf("got %q, want what is subscribed to now", got.Payload)
		}
	})
}

func TestN21_WillOnSuddenDeathAndNoneOnCleanStop(t *testing.T) {
	brokers(t, func(t *testing.T, broker string) {
		const state = "limber/v1/demo/cam-1/state"
		_, seen := watch(t, broker, state)
		cfg := device(broker)
		cfg.Will = func(seq uint64) Message {
			return Message{Topic: state, Payload: fmt.Appendf(nil, "lost %d", seq), QoS: 1, Retained: true}
		}
		l, h, stop := mustRun(t, cfg)
		await(t, h.connected)
		mustPublish(t, l, state, "online", true)
		sever(t, l)
		await(t, h.connected)
		mustPublish(t, l, state, "offline", true)
		stop()
		last := ""
		for _, want := range []string{"online", "lost 1", "offline"} {
			got := await(t, seen.received)
			if string(got.Payload) == last { // once as it came, once as retained
				got = await(t, seen.received)
			}
			if last = string(got.Payload); last != want {
				t.Errorf("got %q, want %q", last, want)
			}
		}
		_, late := watch(t, broker, state)
		if got := await(t, late.received); string(got.Payload) != "offline" || !got.Retained {
			t.Errorf("retained %q, want offline", got.Payload)
		}
	})
}

func TestN9_EmbeddedBrokerRefusesAndTheRestIsServed(t *testing.T) {
	broker := mustServe(t)
	operator, _ := watch(t, broker, "limber/#")
	cfg := device(broker)
	cfg.User = "cam-1"
	cfg.Subscriptions = append(cfg.Subscriptions, Subscription{"limber/v1/demo/cam-2/job/#", 1})
	_, h, _ := mustRun(t, cfg)
	await(t, h.connected)
	if got := await(t, h.denied); len(got) != 1 || got[0] != "limber/v1/demo/cam-2/job/#" {
		t.Errorf("denied %v, want the foreign filter", got)
	}
	mustPublish(t, operator, "limber/v1/demo/cam-1/job/1", "frame", false)
	if got := await(t, h.received); string(got.Payload) != "frame" {
		t.Errorf("got %q", got.Payload)
	}
}

func TestOrderIsKept(t *testing.T) {
	brokers(t, func(t *testing.T, broker string) {
		_, seen := watch(t, broker, "limber/v1/demo/cam-1/result/#")
		l, h, _ := mustRun(t, device(broker))
		await(t, h.connected)
		const n = 300
		var outcomes []<-chan error
		for i := range n {
			outcomes = append(outcomes, l.Send(t.Context(), Message{Topic: fmt.Sprintf("limber/v1/demo/cam-1/result/%d", i), QoS: 1}))
		}
		for i, o := range outcomes {
			if err := await(t, o); err != nil {
				t.Fatalf("result %d: %v", i, err)
			}
		}
		for i := range n {
			got := await(t, seen.received)
			got.ack()
			if want := fmt.Sprintf("limber/v1/demo/cam-1/result/%d", i); got.Topic != want {
				t.Fatalf("got %s, want %s", got.Topic, want)
			}
		}
	})
}

func TestN3_ReconnectsLeaveNothingBehind(t *testing.T) {
	broker := mustServe(t)
	cfg := device(broker)
	cfg.BackoffMin, cfg.BackoffMax = time.Millisecond, time.Millisecond
	l, h, _ := mustRun(t, cfg)
	await(t, h.connected)
	before := runtime.NumGoroutine()
	for range 100 {
		sever(t, l)
		await(t, h.lost)
		await(t, h.connected)
	}
	deadline := time.Now().Add(patience)
	for runtime.NumGoroutine() > before+5 && time.Now().Before(deadline) {
		runtime.Gosched()
	}
	if n := runtime.NumGoroutine(); n > before+5 {
		t.Errorf("%d goroutines after 100 reconnects, %d before", n, before)
	}
}

func TestNothingIsHeardAfterRun(t *testing.T) {
	broker := mustServe(t)
	operator, _ := watch(t, broker, "nothing")
	l, h, stop := mustRun(t, device(broker))
	await(t, h.connected)
	stop()
	mustPublish(t, operator, "limber/v1/demo/cam-1/job/1", "frame", false)
	if err := l.Publish(t.Context(), Message{Topic: "a"}); !errors.Is(err, ErrDown) {
		t.Errorf("publish: got %v, want ErrDown", err)
	}
	if len(h.received)+len(h.lost) != 0 {
		t.Errorf("heard %d messages and %d losses after the end", len(h.received), len(h.lost))
	}
}

// A broker that keeps a session delivers the same packet on every connection.
func TestN13_OneHugeMessageDoesNotShutTheDeviceOut(t *testing.T) {
	broker := "tcp://" + brokertest.StartMosquitto(t).Addr
	operator, _ := watch(t, broker, "nothing")
	cfg := device(broker)
	_, h, _ := mustRun(t, cfg)
	await(t, h.connected)
	huge := strings.Repeat("x", cfg.MaxPacket) // with its topic it is over the limit
	mustPublish(t, operator, "limber/v1/demo/cam-1/job/huge", huge, false)
	mustPublish(t, operator, "limber/v1/demo/cam-1/job/next", "frame", false)
	awaitLost(t, h, ErrBadPacket) // the first time
	await(t, h.connected)
	for _, want := range []struct {
		payload  string
		oversize int
	}{{"", len(huge)}, {"frame", 0}} {
		got := await(t, h.received)
		if string(got.Payload) != want.payload || got.Oversize != want.oversize {
			t.Errorf("got %d bytes, %d discarded; want %d and %d", len(got.Payload), got.Oversize, len(want.payload), want.oversize)
		}
		got.ack()
	}
}

// TestAnOfferWaitsForNothing has a broker that takes nothing more.
func TestAnOfferWaitsForNothing(t *testing.T) {
	leave := make(chan bool)
	broker := evilBroker(t, func(c evilConn) {
		c.accept()
		<-leave
		c.drain()
	})
	cfg := quick(broker)
	cfg.WriteTimeout = time.Hour
	unconnected, err := New(cfg, nil, nil)
	if err != nil || unconnected.Offer(Message{Topic: "telemetry"}) {
		t.Errorf("taken without a connection, or %v", err)
	}
	l, h, _ := mustRun(t, cfg)
	await(t, h.connected)
	if l.Offer(Message{Topic: "telemetry/#"}) || l.Offer(Message{Topic: "telemetry", Payload: make([]byte, cfg.MaxPacket+1)}) {
		t.Error("a message that cannot be sent is taken")
	}
	taken := 0
	for l.Offer(Message{Topic: "telemetry", Payload: make([]byte, 1<<20)}) {
		taken++
	}
	if taken < queued/2 {
		t.Errorf("%d offers taken, want half of the room and what the socket takes", taken)
	}
	for range queued / 2 { // the other half is there for those who wait
		if outcome := l.Send(t.Context(), Message{Topic: "result/1", QoS: 1}); len(outcome) > 0 {
			t.Fatal(<-outcome)
		}
	}
	close(leave)
}

func TestAnOfferIsDelivered(t *testing.T) {
	brokers(t, func(t *testing.T, broker string) {
		_, h := watch(t, broker, "limber/#")
		l, own, stop := mustRun(t, device(broker))
		await(t, own.connected)
		if !l.Offer(Message{Topic: "limber/v1/demo/cam-1/telemetry", Payload: []byte("now")}) {
			t.Error("an idle link has no room")
		}
		if got := await(t, h.received); string(got.Payload) != "now" || got.QoS != 0 {
			t.Errorf("got %+v", got)
		}
		stop()
		if l.Offer(Message{Topic: "limber/v1/demo/cam-1/telemetry"}) {
			t.Error("taken after the end")
		}
	})
}
