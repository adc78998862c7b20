package metrics

import (
	"net"
	"sync"
)

// limited accepts no connection while as many as may be are open: further ones wait
// in the kernel.
type limited struct {
	net.Listener
	open   chan struct{} // holds a token for each
	closed chan struct{}
	once   *sync.Once // of closed
}

func limit(l net.Listener, most int) limited {
	return limited{l, make(chan struct{}, most), make(chan struct{}), new(sync.Once)}
}

// Accept waits for room, then for a connection.
func (l limited) Accept() (net.Conn, error) {
	select {
	case l.open <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.open
		return nil, err
	}
	return &counted{Conn: c, leave: sync.OnceFunc(func() { <-l.open })}, nil
}

// Close ends Accept.
func (l limited) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// counted makes room when it is closed.
type counted struct {
	net.Conn
	leave func()
}

// Close may be called more than once.
func (c *counted) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
