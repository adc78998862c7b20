package uplink

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/mqtt"
)

// The packet types of MQTT.
const (
	typeConnect     = 1
	typePublish     = 3
	typePuback      = 4
	typeSubscribe   = 8
	typeUnsubscribe = 10
	typePingreq     = 12
	typeDisconnect  = 14
)

// broker is broker, operator and cable of one device: it keeps what it sends until
// that is acknowledged, and all that the device publishes.
type broker struct {
	tb       testing.TB
	listener net.Listener
	done     sync.WaitGroup

	mu    sync.Mutex
	whole bool          // connections are let through
	flow  chan struct{} // closed while the device is listened to
	mute  bool          // nothing is acknowledged
	conn  net.Conn
	fresh bool // it has not subscribed to anything
	will  mqtt.Message
	kept  []*outgoing // that was not acknowledged
	last  uint16      // packet id
	ended int         // connections
	heard int         // packets that came, also those that are not looked at yet
	got   []mqtt.Message
	more  chan struct{} // closed when something happened
}

// outgoing is a message for the device.
type outgoing struct {
	mqtt.Message
	id   uint16
	sent bool
}

func newBroker(tb testing.TB) *broker {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	b := &broker{tb: tb, listener: l, whole: true, flow: make(chan struct{}), more: make(chan struct{})}
	close(b.flow)
	b.done.Go(b.accept)
	tb.Cleanup(func() {
		l.Close()
		b.cut()
		b.resume()
		b.done.Wait()
	})
	return b
}

func (b *broker) addr() string { return b.listener.Addr().String() }

// happened wakes who waits; mu is held.
func (b *broker) happened() {
	close(b.more)
	b.more = make(chan struct{})
}

func (b *broker) accept() {
	for {
		conn, err := b.listener.Accept()
		if err != nil {
			return
		}
		if err := conn.(*net.TCPConn).SetReadBuffer(16 << 10); err != nil { // so that a stall is felt
			b.tb.Error(err)
		}
		b.mu.Lock()
		if b.whole {
			b.conn = conn
			b.done.Go(func() { b.serve(conn) })
		} else {
			conn.Close()
		}
		b.mu.Unlock()
	}
}

// serve listens to a connection until it ends. One that ends without a DISCONNECT
// publishes its will.
func (b *broker) serve(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	for {
		kind, flags, body := hear(in)
		b.mu.Lock()
		flow := b.flow
		b.heard++
		b.happened()
		b.mu.Unlock()
		<-flow
		b.mu.Lock()
		if kind == 0 && b.will.Topic != "" {
			b.got, b.will = append(b.got, b.will), mqtt.Message{}
		}
		if kind != 0 {
			b.take(conn, kind, flags, body)
		}
		if kind == 0 || kind == typeDisconnect {
			b.ended++
		}
		b.happened()
		b.mu.Unlock()
		if kind == 0 || kind == typeDisconnect {
			return
		}
	}
}

// take answers one packet; mu is held.
func (b *broker) take(conn net.Conn, kind, flags byte, body []byte) {
	switch kind {
	case typeConnect:
		b.will, b.fresh = willOf(body), true
		say(conn, 0x20, "\x01\x00")
	case typeSubscribe:
		say(conn, 0x90, string(body[:2])+strings.Repeat("\x01", countFilters(body[2:])))
		if !b.fresh {
			return // what was kept is on its way
		}
		b.fresh = false
		for _, o := range b.kept {
			deliver(conn, o)
		}
	case typeUnsubscribe:
		say(conn, 0xb0, string(body[:2]))
	case typePublish:
		m, id := readPublish(flags, body)
		b.got = append(b.got, m)
		if m.QoS > 0 && !b.mute {
			say(conn, 0x40, string(id))
		}
	case typePuback:
		id := binary.BigEndian.Uint16(body)
		for i, o := range b.kept {
			if o.id == id {
				b.kept = append(b.kept[:i:i], b.kept[i+1:]...)
				break
			}
		}
	case typePingreq:
		say(conn, 0xd0, "")
	case typeDisconnect:
		b.will = mqtt.Message{}
	}
}

// send keeps messages for the device and delivers them if it is there.
func (b *broker) send(messages ...mqtt.Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range messages {
		b.last++
		o := &outgoing{Message: m, id: b.last}
		if m.QoS > 0 {
			b.kept = append(b.kept, o)
		}
		if b.conn != nil {
			deliver(b.conn, o)
		}
	}
}

// cut breaks the connection and lets none through until mend.
func (b *broker) cut() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.whole = false
	if b.conn != nil {
		b.conn.Close()
		b.conn = nil
	}
}

func (b *broker) mend() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.whole = true
}

// stall has the broker listen to nobody until resume. It still speaks.
func (b *broker) stall() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.flow = make(chan struct{})
}

func (b *broker) resume() {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-b.flow:
	default:
		close(b.flow)
	}
}

func (b *broker) silence(mute bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mute = mute
}

// until waits for a condition, which is called with mu held.
func (b *broker) until(done func() bool, what string, args ...any) {
	b.tb.Helper()
	late := time.After(patience)
	for {
		b.mu.Lock()
		ok, more := done(), b.more
		b.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-more:
		case <-late:
			b.tb.Fatalf("did not happen: %s", fmt.Sprintf(what, args...))
		}
	}
}

// matching lists what the device published; mu is held.
func (b *broker) matching(filter string) (all []mqtt.Message) {
	for _, m := range b.got {
		if mqtt.Overlap(filter, m.Topic) {
			all = append(all, m)
		}
	}
	return all
}

// all lists what the device published.
func (b *broker) all(filter string) []mqtt.Message {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.matching(filter)
}

// await returns the nth message of a topic.
func (b *broker) await(filter string, n int) (m mqtt.Message) {
	b.tb.Helper()
	b.until(func() bool {
		all := b.matching(filter)
		if len(all) < n {
			return false
		}
		m = all[n-1]
		return true
	}, "%d messages on %s", n, filter)
	return m
}

// settled waits until the device has acknowledged all that it was sent.
func (b *broker) settled() {
	b.tb.Helper()
	b.until(func() bool { return len(b.kept) == 0 }, "every message is acknowledged")
}

// hear returns the next packet; kind is 0 at the end.
func hear(in *bufio.Reader) (kind, flags byte, body []byte) {
	first, err := in.ReadByte()
	if err != nil {
		return 0, 0, nil
	}
	n := 0
	for shift := 0; ; shift += 7 {
		b, err := in.ReadByte()
		if err != nil {
			return 0, 0, nil
		}
		n |= int(b&0x7f) << shift
		if b < 0x80 {
			break
		}
	}
	body = make([]byte, n)
	if _, err := io.ReadFull(in, body); err != nil {
		return 0, 0, nil
	}
	return first >> 4, first & 0x0f, body
}

// say sends a packet.
func say(conn net.Conn, header byte, body string) {
	packet := []byte{header}
	for n := len(body); ; n >>= 7 {
		if n < 0x80 {
			packet = append(packet, byte(n))
			break
		}
		packet = append(packet, byte(n&0x7f|0x80))
	}
	conn.Write(append(packet, body...)) // to a connection that ended: so be it
}

// deliver sends a message, as a duplicate if it was sent before.
func deliver(conn net.Conn, o *outgoing) {
	header, body := byte(0x30)|o.QoS<<1, text(o.Topic)
	if o.Retained {
		header |= 1
	}
	if o.QoS > 0 {
		body += string(binary.BigEndian.AppendUint16(nil, o.id))
		if o.sent {
			header |= 8
		}
	}
	o.sent = true
	say(conn, header, body+string(o.Payload))
}

func text(s string) string { return string(binary.BigEndian.AppendUint16(nil, uint16(len(s)))) + s }

// cutText takes a text from the front of a packet.
func cutText(b []byte) (head string, rest []byte) {
	n := 2 + int(binary.BigEndian.Uint16(b))
	return string(b[2:n]), b[n:]
}

func readPublish(flags byte, body []byte) (m mqtt.Message, id []byte) {
	m.Topic, body = cutText(body)
	if m.QoS, m.Retained = flags>>1&3, flags&1 != 0; m.QoS > 0 {
		id, body = body[:2], body[2:]
	}
	m.Payload = body
	return m, id
}

// willOf is what a CONNECT leaves.
func willOf(body []byte) (m mqtt.Message) {
	_, rest := cutText(body) // protocol; level, flags and keep alive follow
	_, rest = cutText(rest[4:])
	if len(rest) < 2 {
		return m
	}
	m.Topic, rest = cutText(rest)
	payload, _ := cutText(rest)
	m.Payload = []byte(payload)
	return m
}

func countFilters(body []byte) (n int) {
	for ; len(body) > 0; n++ {
		_, body = cutText(body)
		body = body[1:]
	}
	return n
}
