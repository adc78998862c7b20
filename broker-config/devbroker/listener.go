package devbroker

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/mochi-mqtt/server/v2/listeners"
)

const (
	// connectTimeout bounds the wait for CONNECT; the library has no bound.
	connectTimeout = 10 * time.Second
	// acceptPause follows an accept that did not work, such as for want of
	// file descriptors.
	acceptPause = 100 * time.Millisecond
)

// listener owns the sockets: unlike the library's own it contains a client
// that makes the library panic, and at the end it closes clients that never
// said CONNECT, too.
type listener struct {
	id    string // and protocol: tcp or ws
	bound net.Listener
	log   *slog.Logger

	done    chan struct{}
	serving sync.WaitGroup // one for each client
	mu      sync.Mutex
	conns   map[net.Conn]struct{} // guarded by mu; nil once closed
}

func newListener(id string, bound net.Listener, log *slog.Logger) *listener {
	return &listener{id: id, bound: bound, log: log, done: make(chan struct{}), conns: make(map[net.Conn]struct{})}
}

func (l *listener) ID() string              { return l.id }
func (l *listener) Address() string         { return l.bound.Addr().String() }
func (l *listener) Protocol() string        { return l.id }
func (l *listener) Init(*slog.Logger) error { return nil }

// Serve accepts clients until Close.
func (l *listener) Serve(establish listeners.EstablishFn) {
	for {
		conn, err := l.bound.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			l.log.Warn("client not accepted", "err", err)
			select {
			case <-time.After(acceptPause):
			case <-l.done:
				return
			}
		case l.adopt(conn):
			go l.attend(conn, establish)
		}
	}
}

// adopt takes charge of a connection; it is false, and the connection closed,
// after Close.
func (l *listener) adopt(conn net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conns == nil {
		conn.Close()
		return false
	}
	l.conns[conn] = struct{}{}
	l.serving.Add(1)
	return true
}

// attend serves one client to its end.
func (l *listener) attend(conn net.Conn, establish listeners.EstablishFn) {
	defer l.serving.Done()
	defer l.dismiss(conn)
	conn.SetDeadline(time.Now().Add(connectTimeout)) // the library moves it on after CONNECT
	if encrypted, ok := conn.(*tls.Conn); ok {
		if err := encrypted.Handshake(); err != nil {
			l.log.Warn("client refused", "remote", conn.RemoteAddr().String(), "err", err)
			return
		}
	}
	err := contain(func() error { return establish(l.ID(), conn) })
	l.log.Debug("client gone", "remote", conn.RemoteAddr().String(), "err", err)
}

// contain turns a panic of the library over one client's packet into an error.
func contain(serve func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("broker library: %v", r)
		}
	}()
	return serve()
}

func (l *listener) dismiss(conn net.Conn) {
	hangUp(conn)
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, conn)
}

// Close closes every socket and waits for their goroutines.
func (l *listener) Close(listeners.CloseFn) {
	close(l.done)
	l.bound.Close()
	l.mu.Lock()
	for conn := range l.conns {
		hangUp(conn)
	}
	l.conns = nil
	l.mu.Unlock()
	l.serving.Wait()
}

// hangUp closes what carries a connection, which waits for nobody; TLS would have a
// last word with the client.
func hangUp(conn net.Conn) {
	for {
		carried, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			conn.Close()
			return
		}
		conn = carried.NetConn()
	}
}
