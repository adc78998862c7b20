package websocket_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/mqtt/websocket"
)

// FuzzRead lets a server say anything once the WebSocket stands: the reader ends,
// and gets no more than came.
func FuzzRead(f *testing.F) {
	for _, s := range []string{"\x82\x02ab\x82\x01c", "\x02\x01a\x80\x01b", "\x81\x01a", "\x88\x02\x03\xe8", "\x89\x00\x82\x00",
		"\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff", "\x82\x7e\xff\xffa", "\x82\x81abcda", "\xf2\x00"} {
		f.Add([]byte(s))
	}
	said := make(chan []byte, 1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, websocket.Limits{Message: 1 << 10, Pong: time.Second})
		if err != nil {
			return
		}
		carrier := conn.(interface{ NetConn() net.Conn }).NetConn()
		carrier.Write(<-said)
		carrier.(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, carrier)
		carrier.Close()
	}))
	f.Cleanup(s.Close)
	f.Fuzz(func(t *testing.T, bytes []byte) {
		said <- bytes
		host := s.Listener.Addr().String()
		carrier, err := net.Dial("tcp", host)
		if err != nil {
			t.Fatal(err)
		}
		defer carrier.Close()
		conn, err := websocket.Client(context.Background(), carrier, host, "/", websocket.Limits{Message: 1 << 10, Pong: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := io.ReadAll(conn); len(got) > len(bytes) {
			t.Errorf("of %d bytes came %d", len(bytes), len(got))
		}
	})
}

func TestAServerThatDoesNotSpeakMQTTIsLeft(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	defer s.Close()
	host := s.Listener.Addr().String()
	carrier, err := net.Dial("tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := websocket.Client(t.Context(), carrier, host, "/mqtt", websocket.Limits{}); err == nil {
		t.Error("a WebSocket where there is none")
	}
	if _, err := carrier.Read(make([]byte, 1)); err == nil {
		t.Error("the connection is still open")
	}
}
