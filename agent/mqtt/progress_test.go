package mqtt

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limber-edge/limber/broker-config/brokertest"
)

// trickle writes s at so many bytes a second.
func trickle(w io.Writer, s string, rate int) {
	step := max(rate/10, 1)
	for len(s) > 0 {
		<-time.After(time.Duration(min(step, len(s))) * time.Second / time.Duration(rate))
		if _, err := io.WriteString(w, s[:min(step, len(s))]); err != nil {
			return
		}
		s = s[min(step, len(s)):]
	}
}

// suback grants the one filter of a SUBSCRIBE.
func suback(sub []byte) string { return "\x90\x03" + string(sub[:2]) + "\x01" }

// TestN5_AFrameBeforeTheSUBACKIsWaitedFor has the broker of a session that kept a
// frame, which takes longer than any answer may, and longer than a broker bears
// silence.
func TestN5_AFrameBeforeTheSUBACKIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := quick("mqtt://broker.invalid")
		const rate = 50_000
		frame := publishPacket("job/1", 4<<20) // 84 s
		pings := 0
		overPipes(&cfg, func(c evilConn) {
			c.hear()
			c.say(connack)
			_, sub := c.hear()
			var heard sync.WaitGroup
			heard.Go(func() {
				for kind, _ := c.hear(); kind == 12; kind, _ = c.hear() {
					pings++
				}
			})
			trickle(c, frame, rate)
			c.say(suback(sub))
			heard.Wait() // until the DISCONNECT
		})
		_, h, stop := mustRun(t, cfg)
		began := time.Now()
		<-h.connected
		if took, want := time.Since(began), time.Duration(len(frame))*time.Second/rate; took < want || len(h.lost) > 0 {
			t.Errorf("connected after %v and %d losses, want %v and none", took, len(h.lost), want)
		}
		if m := <-h.received; len(m.Payload) != 4<<20 {
			t.Errorf("got %d bytes", len(m.Payload))
		}
		stop()
		if least := 4; pings < least { // a broker bears half as long again as the keep alive, 30 s
			t.Errorf("%d pings, want at least %d", pings, least)
		}
	})
}

func TestN4_ABrokerThatOnlyAnswersPingsIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := quick("mqtt://broker.invalid")
		cfg.KeepAlive = 2 * time.Second
		overPipes(&cfg, func(c evilConn) {
			c.hear()
			c.say(connack)
			for kind, _ := c.hear(); kind != 0; kind, _ = c.hear() {
				if kind == 12 {
					c.say("\xd0\x00")
				}
			}
		})
		_, h, stop := mustRun(t, cfg)
		began := time.Now()
		err := <-h.lost
		if took := time.Since(began); took != cfg.ConnectTimeout || !strings.Contains(err.Error(), "no answer within 10s") {
			t.Errorf("given up after %v: %v; want %v", took, err, cfg.ConnectTimeout)
		}
		stop()
	})
}

// narrow lets so many bytes a second come.
type narrow struct {
	net.Conn
	rate int
}

func (n narrow) Read(p []byte) (int, error) {
	k, err := n.Conn.Read(p[:min(len(p), n.rate/50)])
	<-time.After(time.Duration(k) * time.Second / time.Duration(n.rate))
	return k, err
}

func TestN5_MosquittoDeliversALargeFrameOverANarrowLink(t *testing.T) {
	t.Parallel()
	m := brokertest.StartMosquitto(t)
	_, h, stop := mustRun(t, device(m.Addr))
	await(t, h.connected)
	stop()
	operator, _ := watch(t, m.Addr, "nothing")
	mustPublish(t, operator, "limber/v1/demo/cam-1/job/1", strings.Repeat("x", 700_000), false)
	cfg := device(m.Addr)
	cfg.ConnectTimeout = 500 * time.Millisecond
	cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		return narrow{conn, 350_000}, err
	}
	l, h, _ := mustRun(t, cfg)
	if got := await(t, h.received); len(got.Payload) != 700_000 {
		t.Errorf("got %d bytes", len(got.Payload))
	}
	await(t, h.connected)
	if n := l.Counts().Connections; n != 1 || len(h.lost) > 0 {
		t.Errorf("%d connections and %d losses, want the first to do", n, len(h.lost))
	}
}

type parcel struct {
	bytes []byte
	due   time.Time
}

// newDistant is the near end of a link of so long a way, which varies by half of it.
func newDistant(far net.Conn, way time.Duration) net.Conn {
	near, middle := net.Pipe()
	ship := func(from io.Reader, to io.WriteCloser) {
		parcels := make(chan parcel, 1<<16)
		go func() {
			defer to.Close()
			for p := range parcels {
				<-time.After(time.Until(p.due))
				if _, err := to.Write(p.bytes); err != nil {
					break
				}
			}
			for range parcels { // nobody takes them
			}
		}()
		go func() {
			defer close(parcels)
			for {
				b := make([]byte, 64<<10)
				n, err := from.Read(b)
				if err != nil {
					return
				}
				parcels <- parcel{b[:n], time.Now().Add(way*3/4 + rand.N(way/2))}
			}
		}()
	}
	ship(middle, far)
	ship(far, middle)
	return near
}

// TestN6_ADistantBrokerIsKeptAndTheWindowFull has a round trip of 2 s with jitter.
func TestN6_ADistantBrokerIsKeptAndTheWindowFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := quick("mqtt://broker.invalid")
		const trip, window, windows = 2 * time.Second, 32, 20
		overPipes(&cfg, func(c evilConn) {
			c.accept()
			for kind, body := c.hear(); kind != 0 && kind != typeDisconnect; kind, body = c.hear() {
				switch kind {
				case typePublish:
					c.say("\x40\x02" + string(body[2+len("result/1"):][:2]))
				case 12:
					c.say("\xd0\x00")
				}
			}
		})
		straight := cfg.Dial
		cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			far, err := straight(ctx, network, address)
			return newDistant(far, trip/2), err
		}
		l, h, stop := mustRun(t, cfg)
		<-h.connected
		began := time.Now()
		under := make(chan (<-chan error), window)
		go func() {
			defer close(under)
			for range window * windows {
				under <- l.Send(t.Context(), Message{Topic: "result/1", Payload: []byte("x"), QoS: 1})
			}
		}()
		for outcome := range under {
			if err := <-outcome; err != nil {
				t.Fatal(err)
			}
		}
		// With jitter of half the way, a window takes a quarter longer at most.
		if took, most := time.Since(began), windows*trip*5/4; took > most {
			t.Errorf("%d windows took %v, want at most %v", windows, took, most)
		}
		if _, minute := l.Acknowledged(); minute < trip*3/4 || minute > trip*5/4 {
			t.Errorf("a PUBACK takes %v, want about %v", minute, trip)
		}
		<-time.After(10 * time.Minute) // idle
		if len(h.lost) > 0 {
			t.Errorf("lost: %v", <-h.lost)
		}
		stop()
		<-time.After(trip) // for what is still under way
	})
}
