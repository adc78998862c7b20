package agent_test

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// cable is the network between a device and its broker.
type cable struct {
	tb       testing.TB
	listener net.Listener
	broker   string

	mu       sync.Mutex
	whole    bool
	flow     chan struct{} // closed while what the broker says is passed on
	back     chan struct{} // closed while what the device says is passed on
	down, up manner        // of what the broker says, and the device
	conns    []net.Conn
	done     sync.WaitGroup

	heard atomic.Int64 // bytes that the broker said

	spoken chan struct{} // one token for something the broker said that is kept back
	ended  chan struct{} // one token for each connection that both sides have ended
}

// lay connects a broker; the device dials addr.
func lay(tb testing.TB, broker string) (c *cable, addr string) {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	c = &cable{tb: tb, listener: l, broker: broker, whole: true, flow: make(chan struct{}), back: make(chan struct{}),
		spoken: make(chan struct{}, 1), ended: make(chan struct{}, 100)}
	close(c.flow)
	close(c.back)
	c.done.Go(c.serve)
	tb.Cleanup(func() {
		l.Close()
		c.cut()
		c.release()
		c.resume()
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
	c.done.Go(func() {
		var both sync.WaitGroup
		both.Go(func() { pass(far, valve{c, near, &c.back, &c.up, nil}) })
		both.Go(func() { pass(near, valve{c, far, &c.flow, &c.down, c.spoken}) })
		both.Wait()
		near.Close()
		far.Close()
		select {
		case c.ended <- struct{}{}:
		default: // nobody counts so many
		}
	})
}

// pass goes on until one side ends. The other may still speak: a broker hangs
// up by itself.
func pass(to net.Conn, from io.Reader) {
	io.Copy(to, from)
	to.(*net.TCPConn).CloseWrite()
}

// manner is how bytes go one way; the zero one passes all on at once.
type manner struct {
	Lose  bool          // they go nowhere, and nobody is told
	Piece int           // so many at once, at most; 0: as they come
	Pause time.Duration // before each piece
}

// behave sets how bytes go both ways from now on. Connections that lost any are cut.
func (c *cable) behave(up, down manner) {
	c.mu.Lock()
	lost := c.up.Lose && !up.Lose || c.down.Lose && !down.Lose
	c.up, c.down = up, down
	c.mu.Unlock()
	if lost {
		c.cut()
		c.mend()
	}
}

// valve is what one side says, as far as the cable lets it through.
type valve struct {
	c      *cable
	from   net.Conn
	flow   *chan struct{}
	manner *manner
	kept   chan<- struct{} // takes a token when something is kept back; nil for what the device says
}

// now is what holds for what comes.
func (v valve) now() (flow chan struct{}, m manner) {
	v.c.mu.Lock()
	defer v.c.mu.Unlock()
	return *v.flow, *v.manner
}

func (v valve) Read(p []byte) (int, error) {
	if _, m := v.now(); m.Piece > 0 {
		p = p[:min(len(p), m.Piece)]
	}
	n, err := v.from.Read(p)
	if v.kept != nil {
		v.c.heard.Add(int64(n))
	}
	flow, m := v.now()
	if m.Lose && err == nil {
		return v.Read(p)
	}
	if m.Pause > 0 {
		<-time.After(m.Pause)
	}
	select {
	case <-flow:
	default:
		select {
		case v.kept <- struct{}{}:
		default:
		}
		<-flow
	}
	return n, err
}

// hold keeps back what the broker says, until release.
func (c *cable) hold() { c.shut(&c.flow) }

func (c *cable) release() { c.open(&c.flow) }

// stall keeps back what the device says, until resume.
func (c *cable) stall() { c.shut(&c.back) }

func (c *cable) resume() { c.open(&c.back) }

func (c *cable) shut(flow *chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*flow = make(chan struct{})
}

func (c *cable) open(flow *chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-*flow:
	default:
		close(*flow)
	}
}

// await returns when there is a token.
func (c *cable) await(token <-chan struct{}, what string) {
	c.tb.Helper()
	select {
	case <-token:
	case <-time.After(patience):
		c.tb.Fatalf("did not happen on the cable: %s", what)
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

// reset breaks all connections as a host that forgot them would; new ones go through.
func (c *cable) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		conn.(*net.TCPConn).SetLinger(0) // of an open one it cannot fail
		conn.Close()
	}
	c.conns = nil
}

func (c *cable) mend() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.whole = true
}

// network is all the cables of a device: one to each node of its broker.
type network []*cable

// each does something with every cable.
func (n network) each(do func(*cable)) {
	for _, c := range n {
		do(c)
	}
}

func (n network) cut()    { n.each((*cable).cut) }
func (n network) reset()  { n.each((*cable).reset) }
func (n network) mend()   { n.each((*cable).mend) }
func (n network) stall()  { n.each((*cable).stall) }
func (n network) resume() { n.each((*cable).resume) }

func (n network) behave(up, down manner) {
	n.each(func(c *cable) { c.behave(up, down) })
}
