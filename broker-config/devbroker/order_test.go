package devbroker_test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/limber-edge/limber/broker-config/devbroker"
)

// mustLeave leaves a session of client "a" that is subscribed to limber/x.
func mustLeave(tb testing.TB, addr string) {
	tb.Helper()
	a := mustDial(tb, addr)
	a.send(0x82, "\x00\x63\x00\x08limber/x\x01") // SUBSCRIBE, QoS 1
	a.expect(0x90)
	a.conn.Close()
}

// publish returns when the broker is done with a QoS 1 publish to limber/x.
func (c *rawClient) publish(payload string) {
	c.tb.Helper()
	c.send(0x32, "\x00\x08limber/x\x00\x01"+payload)
	c.expect(0x40)
	c.send(0xc0, "") // PINGREQ: the PUBACK comes before the delivery
	c.expect(0xd0)
}

// expectKept resumes the session of client "a", whose messages must come in order.
func expectKept(tb testing.TB, addr string, want []string) {
	tb.Helper()
	a := mustDial(tb, addr)
	var got []string
	for range want {
		body := a.expect(0x30)
		got = append(got, string(body[len("..limber/x.."):]))
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		tb.Errorf("got %v, want %v", got, want)
	}
}

func TestKeptMessagesComeInOrderWhateverWasPublishedBefore(t *testing.T) {
	addr := mustServe(t, devbroker.Config{})
	mustLeave(t, addr)
	b := mustConnect(t, addr, "\x00\x04MQTT\x04\x02\x00\x3c\x00\x01b")
	before := strings.Repeat("\x30\x0a\x00\x08limber/y", 65_520) // QoS 0, to nobody
	if _, err := io.WriteString(b.conn, before); err != nil {
		t.Fatal(err)
	}
	var want []string
	for i := range 50 { // 15 below 65,536 and 35 from there
		want = append(want, fmt.Sprint(i))
		b.publish(want[i])
	}
	expectKept(t, addr, want)

	// The session was put in order once, and is to be so again.
	for i := 50; i < 60; i++ {
		want = append(want, fmt.Sprint(i))
		b.publish(want[i])
	}
	expectKept(t, addr, want)
}

func TestAKeptWillComesInItsTurn(t *testing.T) {
	addr := mustServe(t, devbroker.Config{})
	mustLeave(t, addr)
	b := mustConnect(t, addr, "\x00\x04MQTT\x04\x02\x00\x3c\x00\x01b")
	b.publish("before")
	dying := mustConnect(t, addr, "\x00\x04MQTT\x04\x0e\x00\x3c\x00\x01c\x00\x08limber/x\x00\x04will") // QoS 1
	dying.conn.(*net.TCPConn).CloseWrite()
	io.Copy(io.Discard, dying.conn) // the broker closes after the will
	b.publish("after")
	expectKept(t, addr, []string{"before", "will", "after"})
}
