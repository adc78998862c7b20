package devbroker_test

import (
	"fmt"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/limber-edge/limber/broker-config/devbroker"
)

// take acknowledges what was delivered until the broker answers a ping.
func (c *rawClient) take(got map[string]bool) {
	c.tb.Helper()
	c.send(0xc0, "") // PINGREQ
	for {
		switch kind, body := c.next(); kind {
		case 0x30:
			id := body[len("..limber/x"):][:2]
			got[string(body[len("..limber/x.."):])] = true
			c.send(0x40, string(id))
		case 0xd0:
			return
		default:
			c.tb.Fatalf("got a packet of kind %#x, want a message or the answer to the ping", kind)
		}
	}
}

// publishing numbers what client "b" publishes until stop, which returns how much it was.
func publishing(tb testing.TB, addr string) (stop func() int) {
	tb.Helper()
	b := mustConnect(tb, addr, "\x00\x04MQTT\x04\x02\x00\x3c\x00\x01b")
	done, sent := make(chan struct{}), make(chan int, 1)
	go func() {
		for i := 0; ; i++ {
			select {
			case <-done:
				sent <- i
				return
			default:
				b.publish(fmt.Sprint(i))
			}
		}
	}()
	return func() int { close(done); return <-sent }
}

// expectAll resumes the session of client "a", which has got some of n messages before.
func expectAll(tb testing.TB, addr string, got map[string]bool, n int) {
	tb.Helper()
	mustDial(tb, addr).take(got)
	var lost []int
	for i := range n {
		if !got[fmt.Sprint(i)] {
			lost = append(lost, i)
		}
	}
	if len(lost) > 0 {
		tb.Errorf("%d of %d messages never came: %.200s", len(lost), n, fmt.Sprint(lost))
	}
}

func TestNothingIsLostThatIsPublishedWhileItsReceiverConnects(t *testing.T) {
	addr := mustServe(t, devbroker.Config{Listen: "127.0.0.1:0"})
	mustLeave(t, addr)
	stop := publishing(t, addr)
	got := make(map[string]bool)
	for i := range 400 {
		a := mustDial(t, addr)
		a.take(got)
		if i%2 == 0 { // the others are taken over
			a.conn.Close()
		}
	}
	expectAll(t, addr, got, stop())
}

func TestNothingIsLostThoughTwoTakeASessionAtOnce(t *testing.T) {
	addr := mustServe(t, devbroker.Config{Listen: "127.0.0.1:0"})
	mustLeave(t, addr)
	stop := publishing(t, addr)
	got := make(map[string]bool)
	for range 100 {
		var both sync.WaitGroup
		for range 2 {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			both.Go(func() {
				io.WriteString(conn, "\x10\x0d\x00\x04MQTT\x04\x00\x00\x3c\x00\x01a")
				conn.Read(make([]byte, 4)) // an error where the other one has it
				conn.Close()
			})
		}
		both.Wait()
		mustDial(t, addr).take(got)
	}
	expectAll(t, addr, got, stop())
}
