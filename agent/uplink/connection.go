package uplink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

// connection is one life of the link.
type connection struct {
	seq  uint64
	lost chan struct{} // closed when it breaks
}

// over tells whether the connection broke.
func (c connection) over() bool { return closed(c.lost) }

// closed tells whether a channel is, into which nothing is sent.
func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// within returns a context that ends with the channel as well.
func within(ctx context.Context, end <-chan struct{}) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-end:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// connState is what is known of the link.
type connState struct {
	online  atomic.Bool
	greeted atomic.Bool     // the broker has had a state of this run
	heard   atomic.Bool     // a message came over the connection, which may be before it is known to be up
	seq     atomic.Uint64   // of the last connection
	failed  atomic.Uint64   // attempts to connect without success
	lost    chan struct{}   // of the connection that is up; the link's goroutine alone touches it
	up      chan connection // for the publisher: one that was not greeted
	ready   chan connection // for the sender: one that was greeted
	// attempt is closed when the connection that is up breaks, or the one that is being made
	// does not come up: messages may come before it is known to be up
	attempt atomic.Pointer[chan struct{}]
	taken   atomic.Uint64 // records that the broker acknowledged
	dropped atomic.Uint64 // telemetry that it had no room for
	moved   chan struct{} // holds one token when the link came up, broke, could not come up or delivered a record
}

func newConnState() *connState {
	s := &connState{up: make(chan connection, 1), ready: make(chan connection, 1), moved: make(chan struct{}, 1)}
	s.attempt.Store(new(make(chan struct{})))
	return s
}

// token puts one into a channel that has room for one, if it has none.
func token(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// replace puts a connection in the place of one that nobody took.
func replace(c chan connection, next connection) {
	withdraw(c)
	c <- next
}

func withdraw(c chan connection) {
	select {
	case <-c:
	default:
	}
}

// fromLink is the uplink as its link sees it.
type fromLink struct{ *Uplink }

// Receive implements mqtt.Handler.
func (l fromLink) Receive(m mqtt.Message, ack func()) {
	l.conn.heard.Store(true)
	l.Uplink.Receive(m, ack)
}

// there tells whether there is a link now.
func (s *connState) there() bool { return s.online.Load() || s.heard.Load() }

// Connected implements mqtt.Handler: the publisher takes the connection from here.
func (u *Uplink) Connected(connSeq uint64, present bool) {
	u.suspects.connected(present)
	s := u.conn
	s.seq.Store(connSeq)
	s.online.Store(true)
	s.lost = make(chan struct{})
	replace(s.up, connection{seq: connSeq, lost: s.lost})
	token(s.moved)
}

// Lost implements mqtt.Handler.
func (u *Uplink) Lost(err error) {
	if errors.Is(err, mqtt.ErrRival) || errors.Is(err, mqtt.ErrHangsUp) {
		u.fault(err.Error())
	}
	s := u.conn
	s.online.Store(false)
	s.heard.Store(false)
	u.suspects.lost()
	close(*s.attempt.Swap(new(make(chan struct{}))))
	u.inbox.hangUp()
	if s.lost != nil {
		close(s.lost)
		s.lost = nil
	} else {
		s.failed.Add(1)
	}
	withdraw(s.up)
	u.forgetFetches()
	token(s.moved)
}

// Denied implements mqtt.Handler: the link asks again.
func (u *Uplink) Denied(filters []string) {
	if len(filters) > 0 {
		u.fault("the broker refuses to deliver " + strings.Join(filters, ", ") + "; see its access rules")
	}
}

// own tells whether a state that the broker keeps of this device may be of this
// run. Before it has one of this run, another one is that of the run before.
func (u *Uplink) own(payload []byte) bool {
	var kept wire.State
	err := json.Unmarshal(payload, &kept)
	return err != nil || kept.BootID == u.cfg.Boot || !u.conn.greeted.Load()
}

// slow tells that the broker keeps acknowledgements back.
func (u *Uplink) slow(acknowledged, network time.Duration) {
	u.fault(fmt.Sprintf("the broker takes %v to acknowledge, on a network of %v: a mosquitto needs set_tcp_nodelay true",
		acknowledged.Round(100*time.Microsecond), network.Round(100*time.Microsecond)))
}

// fault tells of a part that does not work.
func (u *Uplink) fault(detail string) {
	u.Event(wire.SeverityError, wire.Event{Kind: wire.EventFault, Detail: detail})
}
