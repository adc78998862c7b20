package controller

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/limber-edge/limber/agent/blob"
)

// The bounds of what is served by HTTP, where nobody knows who asks: without them those
// who read nothing would take the last file that the process may open, and with it the
// connection to the broker.
const (
	readersMost = 1024        // connections at once; a device that finds no room asks over MQTT
	readTime    = time.Minute // in which a reader takes the next bytes, some 32 KiB of them
)

// Source is the URL below which blobs are served by HTTP, as devices are told; "" if
// there is none. Where the address is of no host, that is this machine's name.
func (c *Controller) Source() string {
	if c.http == nil {
		return ""
	}
	host, _, _ := net.SplitHostPort(c.cfg.HTTP)
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host, _ = os.Hostname()
	}
	_, port, _ := net.SplitHostPort(c.http.Addr().String())
	return "http://" + net.JoinHostPort(host, port) + "/"
}

// serveHTTP serves blobs to who knows their digests.
func (c *Controller) serveHTTP(ctx context.Context) error {
	if c.http == nil {
		return nil
	}
	s := newServer(blob.NewHandler(c.shelf.cache, c.shelf.alive))
	ended := context.AfterFunc(ctx, func() { s.Close() })
	defer ended()
	if err := s.Serve(newDoor(c.http, readersMost)); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve blobs: %w", err)
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
