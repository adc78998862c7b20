// Package websocket carries MQTT over a WebSocket (MQTT-3.1.1, 6): it makes a
// connection one, on either side, and gives the bytes of its binary messages as a
// net.Conn. Packets may begin and end anywhere in those messages. A message of text
// and one over the limit end the connection; nothing is allocated for the length
// that one declares.
package websocket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

var (
	// ErrText says that the peer sent a message that is not binary.
	ErrText = errors.New("WebSocket message that is not binary")
	// ErrTooLarge says that the peer sent a message over the limit.
	ErrTooLarge = errors.New("WebSocket message over the limit")
)

const (
	// subprotocol is the one that both sides must name (MQTT-3.1.1, 6.0.0-3 and 4).
	subprotocol = "mqtt"
	// writeBuffer is what goes into one frame, in bytes.
	writeBuffer = 8 << 10
)

// Limits bound what a peer can do.
type Limits struct {
	Message int           // bytes of one message that comes
	Pong    time.Duration // for the answer to a ping to leave
}

// Client makes a connection to host, which has TLS already where it is to have it, a
// WebSocket of the given path. An error leaves the connection closed.
func Client(ctx context.Context, conn net.Conn, host, path string, l Limits) (net.Conn, error) {
	dialer := websocket.Dialer{
		NetDialContext:  func(context.Context, string, string) (net.Conn, error) { return conn, nil },
		Subprotocols:    []string{subprotocol},
		WriteBufferSize: writeBuffer,
	}
	socket, answer, err := dialer.DialContext(ctx, "ws://"+host+path, nil)
	switch {
	case err != nil && answer != nil:
		return nil, fmt.Errorf("%w: the answer is %s; is the path right?", err, answer.Status)
	case err != nil:
		return nil, err
	case socket.Subprotocol() != subprotocol:
		conn.Close()
		return nil, fmt.Errorf("the subprotocol %q is not spoken; is the path right?", subprotocol)
	}
	return newConn(conn, socket, l), nil
}

// Accept makes the connection of a request a WebSocket. Its error was answered.
func Accept(w http.ResponseWriter, r *http.Request, l Limits) (net.Conn, error) {
	upgrader := websocket.Upgrader{
		Subprotocols:    []string{subprotocol},
		WriteBufferSize: writeBuffer,
		// A page of another origin has no more than it could have without a browser: a
		// client shows who it is in CONNECT.
		CheckOrigin: func(*http.Request) bool { return true },
	}
	socket, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return nil, err
	}
	return newConn(socket.NetConn(), socket, l), nil
}

// conn is a WebSocket as a stream of bytes.
type conn struct {
	net.Conn // that carries it
	socket   *websocket.Conn
	message  io.Reader                 // under way, or nil
	writeBy  atomic.Pointer[time.Time] // nil: without limit
}

func newConn(carrier net.Conn, socket *websocket.Conn, l Limits) *conn {
	socket.SetReadLimit(int64(l.Message))
	// The library's own answer gives a slow link a second, and then ends the connection.
	socket.SetPingHandler(func(data string) error {
		socket.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(l.Pong))
		return nil // a connection that is broken shows it
	})
	return &conn{Conn: carrier, socket: socket}
}

// Read returns io.EOF where the peer hung up, in whatever words. One goroutine may
// read.
func (c *conn) Read(p []byte) (int, error) {
	for {
		if c.message == nil {
			kind, message, err := c.socket.NextReader()
			if err != nil {
				return 0, plain(err)
			}
			if kind != websocket.BinaryMessage {
				return 0, ErrText
			}
			c.message = message
		}
		n, err := c.message.Read(p)
		if err == io.EOF {
			c.message, err = nil, nil
		}
		if n > 0 || err != nil || len(p) == 0 {
			return n, plain(err)
		}
	}
}

// Write sends one message. One goroutine may write.
func (c *conn) Write(p []byte) (int, error) {
	if t := c.writeBy.Load(); t != nil {
		c.socket.SetWriteDeadline(*t) // never returns an error
	}
	if err := c.socket.WriteMessage(websocket.BinaryMessage, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// SetWriteDeadline holds for a write under way as well: the library knows its own
// deadline only, which it gives the connection with each write.
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.writeBy.Store(&t)
	return c.Conn.SetWriteDeadline(t)
}

// NetConn is what carries the WebSocket.
func (c *conn) NetConn() net.Conn { return c.Conn }

func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// plain says why a WebSocket is over in the words of a connection.
func plain(err error) error {
	switch {
	case websocket.IsCloseError(err, websocket.CloseNormalClosure, websocket.CloseGoingAway,
		websocket.CloseNoStatusReceived, websocket.CloseAbnormalClosure):
		return io.EOF // the last of them is the library's word for an end without any
	case errors.Is(err, websocket.ErrReadLimit):
		return ErrTooLarge
	}
	return err
}
