package mqtt

import (
	"io"
	"strings"
	"testing"
)

func TestN21_StopAtAnyMomentDisconnectsInOrder(t *testing.T) {
	for _, tt := range []struct {
		name    string
		answers int // of the broker, before it falls silent
	}{{"before the CONNACK", 0}, {"before the SUBACK", 1}, {"when up", 2}} {
		t.Run(tt.name, func(t *testing.T) {
			silent, heard := make(chan bool, 1), make(chan byte, 1)
			broker := evilBroker(t, func(c evilConn) {
				c.hear()
				if tt.answers > 0 {
					c.say(connack)
					_, sub := c.hear()
					if tt.answers > 1 {
						c.say("\x90\x03" + string(sub[:2]) + "\x01")
					}
				}
				silent <- true
				kind, _ := c.hear()
				heard <- kind
			})
			_, _, stop := mustRun(t, quick(broker))
			await(t, silent)
			stop()
			if got := await(t, heard); got != typeDisconnect {
				t.Errorf("the broker heard packet type %d, want DISCONNECT, %d", got, typeDisconnect)
			}
		})
	}
}

// TestN21_SocketStaysOpenUntilTheBrokerHangsUp has a broker that is still
// writing when the DISCONNECT comes. If it could not, it would publish the will.
func TestN21_SocketStaysOpenUntilTheBrokerHangsUp(t *testing.T) {
	up, said := make(chan bool, 1), make(chan error, 1)
	broker := evilBroker(t, func(c evilConn) {
		c.accept()
		up <- true
		for kind, _ := c.hear(); kind != typeDisconnect; kind, _ = c.hear() {
		}
		_, err := io.WriteString(c.Conn, strings.Repeat(publishPacket("job/1", 1000), 1000))
		said <- err
	})
	_, _, stop := mustRun(t, quick(broker))
	await(t, up)
	stop()
	if err := await(t, said); err != nil {
		t.Errorf("the broker could not write after the DISCONNECT: %v", err)
	}
}
