package mqtt

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"
)

// patience bounds every wait of the tests; none of them is meant to reach it.
const patience = 20 * time.Second

// evilBroker answers each connection with the test's own script.
func evilBroker(tb testing.TB, script func(evilConn)) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				script(evilConn{conn, bufio.NewReader(conn)})
			}()
		}
	}()
	return l.Addr().String()
}

type evilConn struct {
	net.Conn
	in *bufio.Reader
}

func (c evilConn) say(s string) { io.WriteString(c.Conn, s) }

// hear returns the type and body of the next packet; 0 at the end.
func (c evilConn) hear() (kind byte, body []byte) {
	first, err := c.in.ReadByte()
	if err != nil {
		return 0, nil
	}
	n := 0
	for shift := 0; ; shift += 7 {
		b, err := c.in.ReadByte()
		if err != nil {
			return 0, nil
		}
		n |= int(b&0x7f) << shift
		if b < 0x80 {
			break
		}
	}
	body = make([]byte, n)
	if _, err := io.ReadFull(c.in, body); err != nil {
		return 0, nil
	}
	return first >> 4, body
}

// accept takes the CONNECT and grants one subscription.
func (c evilConn) accept() {
	c.hear()
	c.say(connack)
	if _, sub := c.hear(); len(sub) > 2 {
		c.say("\x90\x03" + string(sub[:2]) + "\x01")
	}
}

// secured answers the client's TLS handshake.
func secured(c evilConn, cfg *tls.Config) evilConn {
	conn := tls.Server(c.Conn, cfg)
	return evilConn{conn, bufio.NewReader(conn)}
}

// drain reads until the client leaves.
func (c evilConn) drain() {
	for kind, _ := c.hear(); kind != 0 && kind != typeDisconnect; kind, _ = c.hear() {
	}
}

// recorder is a Handler that keeps all it hears.
type recorder struct {
	connected chan bool // session present
	denied    chan []string
	lost      chan error
	received  chan received
}

type received struct {
	Message
	ack func()
}

func newRecorder() *recorder {
	return &recorder{make(chan bool, 1000), make(chan []string, 1000), make(chan error, 1000), make(chan received, 1000)}
}

func (r *recorder) Connected(_ uint64, present bool) { r.connected <- present }
func (r *recorder) Denied(filters []string)          { r.denied <- filters }
func (r *recorder) Lost(err error)                   { r.lost <- err }
func (r *recorder) Receive(m Message, ack func())    { r.received <- received{m, ack} }

// await returns the next value of c.
func await[T any](tb testing.TB, c <-chan T) T {
	tb.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		tb.Fatal("nothing came")
		panic("unreachable")
	}
}

// quick is Default for tests: it retries soon.
func quick(broker string) Config {
	cfg := Default()
	cfg.Broker = broker
	cfg.ClientID = "cam-1"
	cfg.BackoffMin, cfg.BackoffMax = 10*time.Millisecond, 100*time.Millisecond
	cfg.Subscriptions = []Subscription{{"job/#", 1}}
	return cfg
}

// mustRun runs a link until stop is called or the test ends.
func mustRun(tb testing.TB, cfg Config) (l *Link, h *recorder, stop func()) {
	tb.Helper()
	h = newRecorder()
	l, err := New(cfg, h, slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatal(err)
	}
	return l, h, mustServeLink(tb, l)
}

// mustServeLink runs a link until stop is called or the test ends.
func mustServeLink(tb testing.TB, l *Link) (stop func()) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := await(tb, ended); err != nil {
			tb.Errorf("run: %v", err)
		}
	})
	tb.Cleanup(stop)
	return stop
}

// awaitLost skips losses until one is target.
func awaitLost(tb testing.TB, h *recorder, target error) error {
	tb.Helper()
	for {
		if err := await(tb, h.lost); errors.Is(err, target) {
			return err
		}
	}
}
