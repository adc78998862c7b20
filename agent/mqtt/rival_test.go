package mqtt

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limber-edge/limber/broker-config/brokertest"
)

const ownState = "limber/v1/demo/cam-1/state"

// twin is one of several clients with one id: it publishes its name as its state.
type twin struct {
	*recorder
	name string
	link *Link
}

func (w *twin) Connected(seq uint64, present bool) {
	w.link.Send(context.Background(), Message{Topic: ownState, Payload: []byte(w.name), QoS: 1, Retained: true})
	w.recorder.Connected(seq, present)
}

// named makes cfg that of the twin of this name.
func named(cfg Config, name string) Config {
	cfg.Will = func(uint64) Message {
		return Message{Topic: ownState, Payload: []byte(name + " is lost"), QoS: 1, Retained: true}
	}
	cfg.Own = func(payload []byte) bool { return strings.HasPrefix(string(payload), name) }
	return cfg
}

func mustRunTwin(tb testing.TB, cfg Config, name string) *twin {
	tb.Helper()
	w := &twin{recorder: newRecorder(), name: name}
	var err error
	if w.link, err = New(named(cfg, name), w, slog.New(slog.DiscardHandler)); err != nil {
		tb.Fatal(err)
	}
	mustServeLink(tb, w.link)
	return w
}

func TestN8_OfTwoClientsWithOneIDOneGivesWay(t *testing.T) {
	brokers(t, func(t *testing.T, broker string) { oneGivesWay(t, device(broker)) })
	t.Run("mosquitto with the shipped access list", func(t *testing.T) {
		t.Parallel()
		a := newAuthority(t)
		a.issue("server", nil)
		a.issue("cam-1", nil)
		oneGivesWay(t, a.login(device(brokertest.StartShipped(t, a.dir, "").Addr), "cam-1"))
	})
}

// oneGivesWay has two clients of one configuration.
func oneGivesWay(t *testing.T, cfg Config) {
	t.Helper()
	cfg.BackoffMin, cfg.BackoffMax = 10*time.Millisecond, 10*time.Millisecond
	cfg.RivalPause = time.Hour // the one that gives way is not seen again
	twins := []*twin{mustRunTwin(t, cfg, "one"), mustRunTwin(t, cfg, "two")}
	gone := -1
	for late := time.After(patience); gone < 0; {
		var err error
		var i int
		select {
		case err = <-twins[0].lost:
			i = 0
		case err = <-twins[1].lost:
			i = 1
		case <-late:
			t.Fatal("they fight, and nobody gives way")
		}
		if errors.Is(err, ErrRival) {
			gone = i
		}
	}
	before, other := twins[gone].link.Counts().Connections, twins[1-gone]
	for other.link.current.Load() == nil {
		await(t, other.connected)
	}
	mustPublish(t, other.link, "limber/v1/demo/cam-1/event/info", "still here", false)
	if n := twins[gone].link.Counts().Connections; n != before {
		t.Errorf("the one that gave way connected %d times more", n-before)
	}
}

func TestN8_AMosquittoBehindALinkThatHangsUpIsNoRival(t *testing.T) {
	m := brokertest.StartMosquitto(t)
	cfg := device(m.Addr)
	cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		return &brieflyOpen{Conn: conn, end: time.Now().Add(100 * time.Millisecond)}, err
	}
	w := mustRunTwin(t, cfg, "one")
	told := false
	for range 8 {
		switch err := await(t, w.lost); {
		case errors.Is(err, ErrRival) || errors.Is(err, errStranger):
			t.Fatalf("got %v", err)
		case errors.Is(err, ErrHangsUp):
			told = true
		}
	}
	if !told {
		t.Error("not told that the broker hangs up")
	}
}

// brieflyOpen is hung up on at its end.
type brieflyOpen struct {
	net.Conn
	end time.Time
}

func (b *brieflyOpen) SetReadDeadline(t time.Time) error {
	if t.After(b.end) {
		t = b.end
	}
	return b.Conn.SetReadDeadline(t)
}

func (b *brieflyOpen) Read(p []byte) (int, error) {
	n, err := b.Conn.Read(p)
	if err != nil && !time.Now().Before(b.end) {
		err = io.EOF
	}
	return n, err
}

// TestN8_ABrokerThatHangsUpEveryTwoSecondsIsComeBackTo has a broker that keeps the
// client's own state.
func TestN8_ABrokerThatHangsUpEveryTwoSecondsIsComeBackTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := named(Default(), "one")
		cfg.Broker, cfg.ClientID, cfg.Subscriptions = "mqtt://broker.invalid", "cam-1", []Subscription{{"job/#", 1}}
		var looked atomic.Int32
		overPipes(&cfg, func(c evilConn) {
			c.hear()
			c.say(connack)
			ended := time.After(2 * time.Second)
			go func() {
				for kind, body := c.hear(); kind != 0; kind, body = c.hear() {
					switch {
					case kind == 8 && strings.Contains(string(body), ownState):
						looked.Add(1)
						c.say("\x90\x03" + string(body[:2]) + "\x00" + retainedPacket(ownState, "one is online"))
					case kind == 8:
						c.say("\x90\x03" + string(body[:2]) + "\x01")
					case kind == 10:
						c.say("\xb0\x02" + string(body[:2]))
					}
				}
			}()
			<-ended
		})
		_, h, stop := mustRun(t, cfg)
		for i := range 20 {
			began := time.Now()
			<-h.connected
			if away := time.Since(began); away > maxHangUpPause {
				t.Errorf("connection %d: deaf for %v, want at most %v", i, away, maxHangUpPause)
			}
			if err := <-h.lost; errors.Is(err, ErrRival) {
				t.Errorf("connection %d: got %v", i, err)
			}
		}
		if n := looked.Load(); n < 10 {
			t.Errorf("looked for another client %d times", n)
		}
		stop()
	})
}

// retainedPacket is a PUBLISH of QoS 0 that the broker kept.
func retainedPacket(topic, payload string) string {
	return "\x31" + string([]byte{byte(2 + len(topic) + len(payload)), 0, byte(len(topic))}) + topic + payload
}
