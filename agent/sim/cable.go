package sim

import (
	"context"
	"errors"
	"net"
	"sync"
)

// cable is the network between a device and its broker. The zero value is whole.
type cable struct {
	mu     sync.Mutex
	broken bool
	conn   net.Conn // the last; nil: there was none
}

var errCut = errors.New("the simulated link is cut")

// Dial opens a connection over it, for mqtt.Config.
func (c *cable) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if c.isBroken() {
		return nil, errCut
	}
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	broken := c.broken
	if !broken {
		c.conn = conn
	}
	c.mu.Unlock()
	if broken {
		conn.Close()
		return nil, errCut
	}
	return conn, nil
}

func (c *cable) isBroken() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.broken
}

// cut breaks it: neither side can say farewell.
func (c *cable) cut() {
	c.mu.Lock()
	conn := c.conn
	c.broken, c.conn = true, nil
	c.mu.Unlock()
	if conn != nil {
		conn.Close()
	}
}

func (c *cable) mend() {
	c.mu.Lock()
	c.broken = false
	c.mu.Unlock()
}
