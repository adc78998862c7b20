//go:build torture

package agent_test

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"
)

// hose publishes as fast as it is told to, and costs next to nothing: it writes what
// it publishes in a millisecond at once, and looks at nothing that comes.
type hose struct {
	tb   testing.TB
	conn net.Conn
}

func openHose(tb testing.TB, addr, name string) *hose {
	tb.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { conn.Close() })
	h := &hose{tb, conn}
	const clean, keepAlive = 2, 0
	h.write(packetOf(nil, 0x10, lengthed(append(lengthed(nil, "MQTT"), 4, clean, 0, keepAlive), name), ""))
	if _, err := io.ReadFull(conn, make([]byte, 4)); err != nil {
		tb.Fatalf("no CONNACK: %v", err)
	}
	go io.Copy(io.Discard, conn)
	return h
}

// packetOf appends a packet: its first byte, its length, what stands first and the rest.
func packetOf(b []byte, first byte, head []byte, rest string) []byte {
	b = binary.AppendUvarint(append(b, first), uint64(len(head)+len(rest)))
	return append(append(b, head...), rest...)
}

// lengthed appends a string with its length.
func lengthed(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

func (h *hose) write(b []byte) {
	if _, err := h.conn.Write(b); err != nil {
		h.tb.Errorf("write to the broker: %v", err)
	}
}

// swallow subscribes at QoS 0.
func (h *hose) swallow(filter string) {
	h.write(packetOf(nil, 0x82, append(lengthed([]byte{0, 1}, filter), 0), ""))
}

// publish publishes so many a second at QoS 0, each on the topic of its number, until
// ctx ends, and returns how many they were.
func (h *hose) publish(ctx context.Context, perSecond int, topic func(n int) string, payload string) (n int) {
	var b []byte
	for began := time.Now(); ctx.Err() == nil; idle(ctx, time.Millisecond) {
		b = b[:0]
		for ; n < int(float64(perSecond)*time.Since(began).Seconds()); n++ {
			b = packetOf(b, 0x30, lengthed(nil, topic(n)), payload)
		}
		h.write(b)
	}
	return n
}
