package devbroker_test

import (
	"io"
	"net"
	"strings"
	"testing"

	"github.com/limber-edge/limber/broker-config/devbroker"
)

// hello is the CONNECT of a nameless client "x" with a clean session.
const hello = "\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01x"

// say sends bytes, hangs up, and returns what the broker answered before it
// closed the connection.
func say(tb testing.TB, addr, bytes string) string {
	tb.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, bytes)      // the broker may have had enough half way
	conn.(*net.TCPConn).CloseWrite() // nor be there any more
	answer, _ := io.ReadAll(conn)    // a reset is an answer as well
	return string(answer)
}

func TestN14_BadPacketsHurtNobodyElse(t *testing.T) {
	const limit = 1 << 16
	addr := mustServe(t, devbroker.Config{MaxPacket: limit})
	witness := mustSubscribe(t, addr, "", "-t", "limber/#")
	for _, tt := range []struct{ name, bytes string }{
		{"no CONNECT first", "\xc0\x00"},
		{"fifth length byte", "\x10\xff\xff\xff\xff\x7f"},
		{"length bytes without end", hello + "\x30" + strings.Repeat("\x80", 1000)},
		{"reserved type 0", hello + "\x00\x00"},
		{"reserved type 15", hello + "\xf0\x00"},
		{"QoS 3", hello + "\x36\x05\x00\x01a\x00\x01"},
		{"packet id 0", hello + "\x32\x05\x00\x01a\x00\x00"},
		{"topic longer than the packet", hello + "\x30\x03\xff\xffa"},
		{"topic of bad UTF-8", hello + "\x30\x03\x00\x01\xff"},
		{"empty topic", hello + "\x30\x02\x00\x00"},
		{"empty subscription", hello + "\x82\x02\x00\x01"},
		{"filter cut short", hello + "\x82\x05\x00\x01\x00\x09a"},
		{"second CONNECT", hello + hello},
		{"over the limit", hello + "\x30\xff\xff\xff\x7f\x00\x01a"},
		{"cut in the middle", hello + "\x30\x10\x00\x01a"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			say(t, addr, tt.bytes)
			mustPublish(t, addr, "", "-t", "limber/alive", "-m", "yes")
			if got := witness.until("message "); got != "limber/alive yes" {
				t.Errorf("the witness got %q", got)
			}
		})
	}
}

// FuzzClient lets one client after another say anything; the broker must still
// answer the next.
func FuzzClient(f *testing.F) {
	for _, s := range []string{"\xc0\x00", "\x30\x03\x00\x01a", "\x82\x06\x00\x01\x00\x01#\x01", "\x62\x02\x00\x01",
		"\xa2\x05\x00\x01\x00\x01a", "\xe0\x00"} {
		f.Add(s, true)
	}
	f.Add("\x10\x0d\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x00", false)
	addr := mustServe(f, devbroker.Config{MaxPacket: 1 << 16})
	f.Fuzz(func(t *testing.T, bytes string, greet bool) {
		if greet {
			bytes = hello + bytes
		}
		say(t, addr, bytes)
		if got := say(t, addr, hello); !strings.HasPrefix(got, "\x20\x02\x00\x00") {
			t.Errorf("after %q the next client got %q, want a CONNACK", bytes, got)
		}
	})
}
