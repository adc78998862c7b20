package mqtt

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/mqtt/websocket"
	"github.com/limber-edge/limber/broker-config/devbroker"
)

// mustServeWeb runs the embedded broker with WebSockets for the length of the test.
func mustServeWeb(tb testing.TB) (addr, web string) {
	tb.Helper()
	b, err := devbroker.New(devbroker.Config{Listen: "127.0.0.1:0", WebSocket: "127.0.0.1:0"}, slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	tb.Cleanup(func() { cancel(); await(tb, ended) })
	return b.Addr(), b.WebSocketAddr()
}

func TestADeviceOverAWebSocketIsServedLikeAnyOther(t *testing.T) {
	t.Parallel()
	addr, web := mustServeWeb(t)
	operator, seen := watch(t, addr, "limber/v1/demo/cam-1/result/#")
	l, h, _ := mustRun(t, device("ws://"+web+"/mqtt"))
	await(t, h.connected)
	large := strings.Repeat("x", 1<<20)
	for _, payload := range []string{"frame", large} {
		mustPublish(t, operator, "limber/v1/demo/cam-1/job/1", payload, false)
		if got := await(t, h.received); string(got.Payload) != payload {
			t.Errorf("got %d bytes, want %d", len(got.Payload), len(payload))
		}
		mustPublish(t, l, "limber/v1/demo/cam-1/result/1", payload, false)
		if got := await(t, seen.received); string(got.Payload) != payload {
			t.Errorf("the operator got %d bytes, want %d", len(got.Payload), len(payload))
		}
	}
	sever(t, l)
	await(t, h.lost)
	await(t, h.connected)
}

func TestAWebSocketWithTLSIsVerified(t *testing.T) {
	a := newAuthority(t)
	a.issue("server", nil)
	a.issue("cam-1", nil)
	pair, err := tls.LoadX509KeyPair(a.file("server.crt"), a.file("server.key"))
	a.must(err)
	web := evilWeb(t, "/path/mqtt", &tls.Config{Certificates: []tls.Certificate{pair}}, func(c evilConn) {
		c.accept()
		c.drain()
	})
	cfg := a.login(device("x"), "cam-1")
	cfg.Broker = "wss://" + web + "/path/mqtt"
	_, h, _ := mustRun(t, cfg)
	await(t, h.connected)
	cfg.CAFile = newAuthority(t).file("ca.crt")
	_, h, _ = mustRun(t, cfg)
	if err := await(t, h.lost); !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("got %v, want the broker's certificate refused", err)
	}
}

// evilWeb answers each WebSocket of a path with the test's own script.
func evilWeb(tb testing.TB, path string, secured *tls.Config, script func(evilConn)) (addr string) {
	tb.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, websocket.Limits{Message: 32 << 20, Pong: time.Second})
		if err != nil {
			return
		}
		defer conn.Close()
		script(evilConn{conn, bufio.NewReader(conn)})
	})
	s := httptest.NewUnstartedServer(mux)
	tb.Cleanup(s.Close)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	if secured != nil {
		s.TLS = secured
		s.StartTLS()
	} else {
		s.Start()
	}
	return s.Listener.Addr().String()
}

func TestN14_AWebSocketThatTalksNonsenseIsLeft(t *testing.T) {
	for _, tt := range []struct {
		name  string
		frame string // of a server, after the subscription
		want  error
	}{
		{"N14 text", "\x81\x02\xd0\x00", ErrBadPacket},
		{"N14 a message over the limit", "\x82\x7f\x00\x00\x00\x00\x40\x00\x00\x00", ErrBadPacket},
		{"N14 closed in order", "\x88\x02\x03\xe8", io.EOF},
		{"N14 closed within a packet", "\x82\x01\x30\x88\x00", io.ErrUnexpectedEOF},
		{"N14 cut off", "", io.EOF},
	} {
		t.Run(tt.name, func(t *testing.T) {
			start := make(chan bool, 1)
			web := evilWeb(t, "/", nil, func(c evilConn) {
				c.accept()
				if <-start; tt.frame != "" {
					io.WriteString(carrier(c), tt.frame)
					c.drain()
				}
			})
			cfg := quick("ws://" + web)
			_, h, _ := mustRun(t, cfg)
			await(t, h.connected)
			before := allocated()
			start <- true
			if err := await(t, h.lost); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if grown := allocated() - before; grown > 4<<20 {
				t.Errorf("%d bytes allocated", grown)
			}
			await(t, h.connected)
			close(start)
		})
	}
}

// carrier is what the WebSocket of an evilConn lies on.
func carrier(c evilConn) net.Conn {
	return c.Conn.(interface{ NetConn() net.Conn }).NetConn()
}

func TestAWrongPathIsNamed(t *testing.T) {
	web := evilWeb(t, "/mqtt", nil, func(evilConn) {})
	_, h, _ := mustRun(t, quick("ws://"+web+"/elsewhere"))
	if err := await(t, h.lost); !strings.Contains(err.Error(), "404 Not Found; is the path right?") ||
		!strings.Contains(err.Error(), "ws://"+web+"/elsewhere") {
		t.Errorf("got %v, want the address, the answer and a remedy", err)
	}
}
