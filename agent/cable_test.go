package agent_test

import (
	"io"
	"net"
	"sync"
	"testing"
)

// cable is the network between a device and its broker.
type cable struct {
	tb       testing.TB
	listener net.Listener
	broker   string

	mu    sync.Mutex
	whole bool
	conns []net.Conn
	done  sync.WaitGroup
}

// lay connects a broker; the device dials addr.
func lay(tb testing.TB, broker string) (c *cable, addr string) {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	c = &cable{tb: tb, listener: l, broker: broker, whole: true}
	c.done.Go(c.serve)
	tb.Cleanup(func() {
		l.Close()
		c.cut()
		c.done.Wait()
	})
	return c, l.Addr().String()
}

func (c *cable) serve() {
	for {
		near, err := c.listener.Accept()
		if err != nil {
			return
		}
		c.join(near)
	}
}

// join connects one end to the broker, or hangs up.
func (c *cable) join(near net.Conn) {
	far, err := net.Dial("tcp", c.broker)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil || !c.whole {
		near.Close()
		if err == nil {
			far.Close()
		}
		return
	}
	c.conns = append(c.conns, near, far)
	for _, pair := range [][2]net.Conn{{near, far}, {far, near}} {
		c.done.Go(func() {
			io.Copy(pair[0], pair[1])
			near.Close()
			far.Close()
		})
	}
}

// cut breaks all connections and lets none through until mend.
func (c *cable) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.whole = false
	for _, conn := range c.conns {
		conn.Close()
	}
	c.conns = nil
}

func (c *cable) mend() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.whole = true
}
