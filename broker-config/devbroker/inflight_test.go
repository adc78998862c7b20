package devbroker_test

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"github.com/limber-edge/limber/broker-config/devbroker"
)

// rawClient speaks MQTT byte by byte, to choose its packet ids.
type rawClient struct {
	tb   testing.TB
	conn net.Conn
}

// mustDial connects as client "a" with a session that outlives the connection.
func mustDial(tb testing.TB, addr string) *rawClient {
	tb.Helper()
	return mustConnect(tb, addr, "\x00\x04MQTT\x04\x00\x00\x3c\x00\x01a")
}

// mustConnect sends a CONNECT with the given body and awaits its answer.
func mustConnect(tb testing.TB, addr, body string) *rawClient {
	tb.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { conn.Close() })
	c := &rawClient{tb, conn}
	c.send(0x10, body)
	c.expect(0x20)
	return c
}

func (c *rawClient) send(header byte, body string) {
	c.tb.Helper()
	if _, err := c.conn.Write(append([]byte{header, byte(len(body))}, body...)); err != nil {
		c.tb.Fatal(err)
	}
}

// next returns the kind and the body of the next packet.
func (c *rawClient) next() (kind byte, body []byte) {
	c.tb.Helper()
	if err := c.conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		c.tb.Fatal(err)
	}
	head := make([]byte, 2)
	if _, err := io.ReadFull(c.conn, head); err != nil {
		c.tb.Fatalf("waiting for a packet: %v", err)
	}
	body = make([]byte, head[1])
	if _, err := io.ReadFull(c.conn, body); err != nil {
		c.tb.Fatal(err)
	}
	return head[0] & 0xf0, body
}

// expect returns the body of the next packet, which must be of a kind.
func (c *rawClient) expect(want byte) []byte {
	c.tb.Helper()
	kind, body := c.next()
	if kind != want {
		c.tb.Fatalf("got a packet of kind %#x, want %#x", kind, want)
	}
	return body
}

func TestAMessageIsKeptThoughItsReceiverPublishesUnderTheSameId(t *testing.T) {
	addr := mustServe(t, devbroker.Config{Listen: "127.0.0.1:0"})
	const topic = "\x00\x08limber/x"
	a := mustDial(t, addr)
	a.send(0x82, "\x00\x63"+topic+"\x01") // SUBSCRIBE, QoS 1
	a.expect(0x90)
	a.send(0x32, topic+"\x00\x64first") // PUBLISH, QoS 1, to itself
	var id []byte
	for range 2 { // the PUBACK and the delivery, in either order
		if kind, body := a.next(); kind == 0x30 {
			id = body[len(topic) : len(topic)+2]
		}
	}
	if id == nil {
		t.Fatal("the message was not delivered")
	}
	a.send(0x32, "\x00\x08limber/y"+string(id)+"other") // a publish under the very same id
	if got := a.expect(0x40); !bytes.Equal(got[:2], id) {
		t.Fatalf("PUBACK for %x, want %x", got[:2], id)
	}
	a.conn.Close() // without a PUBACK for the delivery

	again := mustDial(t, addr)
	if got := again.expect(0x30); !bytes.HasSuffix(got, []byte("first")) {
		t.Errorf("got %q, want the message once more", got)
	}
}

func TestAMessageThatWaitsDoesNotStandInTheWayOfASubscriptionUnderItsId(t *testing.T) {
	addr := mustServe(t, devbroker.Config{Listen: "127.0.0.1:0"})
	const topic = "\x00\x08limber/x"
	a := mustDial(t, addr)
	a.send(0x82, "\x00\x63"+topic+"\x01") // SUBSCRIBE, QoS 1
	a.expect(0x90)
	a.send(0x32, topic+"\x00\x64first") // PUBLISH, QoS 1, to itself
	a.next()                            // the PUBACK and the delivery, in either order
	a.next()
	a.conn.Close() // without a PUBACK for the delivery

	again := mustDial(t, addr)
	id := string(again.expect(0x30)[len(topic):][:2])
	again.send(0x82, id+topic+"\x01\x00\x08limber/y\x01")
	if got, want := again.expect(0x90), id+"\x01\x01"; string(got) != want {
		t.Errorf("SUBACK %x, want %x", got, want)
	}
	again.send(0xa2, id+topic) // UNSUBSCRIBE
	if got := again.expect(0xb0); string(got) != id {
		t.Errorf("UNSUBACK %x, want %x", got, id)
	}
	again.send(0x32, topic+"\x00\x65second")
	again.expect(0x40)
	again.send(0xc0, "") // PINGREQ
	again.expect(0xd0)   // with nothing before it: the filter is gone
}
