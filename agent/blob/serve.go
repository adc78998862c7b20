package blob

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"
)

// The bounds of what is served by HTTP, where nobody knows who asks: without them those
// who read nothing would take the last file that the process may open, and with it whatever
// else it is connected to.
const (
	readersMost = 1024        // connections at once; a device that finds no room asks again, or over MQTT
	readTime    = time.Minute // in which a reader takes the next bytes, some 32 KiB of them
)

// Serve answers whoever asks by HTTP, until ctx ends.
func Serve(ctx context.Context, l net.Listener, h http.Handler) error {
	s := newServer(h)
	ended := context.AfterFunc(ctx, func() { s.Close() })
	defer ended()
	if err := s.Serve(newDoor(l, readersMost)); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// newServer bounds how long who asks may take to say what, the body of a request included,
// which is of no use but would be waited for.
func newServer(h http.Handler) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: readTime, IdleTimeout: time.Minute,
		MaxHeaderBytes: 16 << 10}
}

// door is a listener with so many connections at once. Another one is closed at once.
type door struct {
	net.Listener
	room chan struct{} // a token for each connection
}

func newDoor(l net.Listener, most int) door { return door{l, make(chan struct{}, most)} }

// Accept implements net.Listener.
func (d door) Accept() (net.Conn, error) {
	for {
		c, err := d.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case d.room <- struct{}{}:
			return reader{c, sync.OnceFunc(func() { <-d.room })}, nil
		default:
			c.Close()
		}
	}
}

// reader is a connection that ends where its other side takes nothing any more.
type reader struct {
	net.Conn
	leave func()
}

// Write implements net.Conn.
func (r reader) Write(b []byte) (int, error) {
	if err := r.SetWriteDeadline(time.Now().Add(readTime)); err != nil {
		return 0, err
	}
	return r.Conn.Write(b)
}

// Close implements net.Conn.
func (r reader) Close() error {
	defer r.leave()
	return r.Conn.Close()
}
