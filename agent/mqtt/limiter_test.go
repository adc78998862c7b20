package mqtt

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

const connack = "\x20\x02\x00\x00"

func newLimiter(src io.Reader, maxPayload, maxPacket int) *limiter {
	l := &limiter{src: bufio.NewReader(src), maxPayload: maxPayload, maxPacket: maxPacket, token: [tokenSize]byte{1, 2, 3}}
	l.asked.Store(2)
	return l
}

// publishPacket is a PUBLISH of QoS 1 with the given payload size.
func publishPacket(topic string, payload int) string {
	variable := fmt.Sprintf("\x00%c%s\x00\x07", len(topic), topic)
	head := binary.AppendUvarint([]byte{0x32}, uint64(len(variable)+payload))
	return string(head) + variable + strings.Repeat("p", payload)
}

func TestLimiterHandsOnSoundPacketsUnchanged(t *testing.T) {
	in := connack + publishPacket("a/b", 300) + "\x30\x03\x00\x01a" + "\x90\x04\x00\x01\x01\x80" +
		"\x40\x02\x00\x01" + "\x50\x02\x00\x02" + "\x62\x02\x00\x02" + "\x70\x02\x00\x02" + "\xb0\x02\x00\x03" + "\xd0\x00" + publishPacket("é", 0)
	for name, src := range map[string]io.Reader{"whole": strings.NewReader(in), "byte by byte": iotest.OneByteReader(strings.NewReader(in))} {
		got, err := io.ReadAll(newLimiter(src, 300, 1000))
		if err != nil || string(got) != in {
			t.Errorf("%s: got %q, %v; want %q", name, got, err, in)
		}
	}
}

func TestN14_MalformedPacketsEndTheStream(t *testing.T) {
	for _, tt := range []struct{ name, in string }{
		{"N14 fifth length byte", connack + "\x30\xff\xff\xff\xff\x01"},
		{"N14 reserved type 0", connack + "\x00\x00"},
		{"N14 reserved type 15", connack + "\xf0\x00"},
		{"N14 a client's packet", connack + "\x10\x00"},
		{"N14 bad UTF-8 in the topic", connack + "\x30\x04\x00\x02\xff\xfe"},
		{"N14 NUL in the topic", connack + "\x30\x03\x00\x01\x00"},
		{"N14 wildcard in the topic", connack + "\x30\x03\x00\x01#"},
		{"N14 empty topic", connack + "\x30\x03\x00\x00x"},
		{"N14 packet id 0", connack + "\x32\x05\x00\x01a\x00\x00"},
		{"N14 acknowledged id 0", connack + "\x40\x02\x00\x00"},
		{"QoS 3", connack + "\x36\x05\x00\x01a\x00\x01"},
		{"topic longer than the packet", connack + "\x30\x03\xff\xffa"},
		{"too short for a packet id", connack + "\x32\x03\x00\x01a"},
		{"flags on a PUBACK", connack + "\x41\x02\x00\x01"},
		{"PUBACK of three bytes", connack + "\x40\x03\x00\x01\x00"},
		{"SUBACK without a code", connack + "\x90\x02\x00\x01"},
		{"SUBACK with more codes than filters", connack + "\x90\x05\x00\x01\x00\x00\x00"},
		{"SUBACK with fewer codes than filters", connack + "\x90\x03\x00\x01\x00"},
		{"PINGRESP with a body", connack + "\xd0\x01\x00"},
		{"second CONNACK", connack + connack},
		{"no CONNACK first", "\xd0\x00"},
		{"CONNACK with an unknown code", "\x20\x02\x00\x77"},
		{"over the packet limit", connack + publishPacket("a", 1001)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := io.ReadAll(newLimiter(strings.NewReader(tt.in), 300, 1000))
			if !errors.Is(err, ErrBadPacket) {
				t.Errorf("got %q, %v; want ErrBadPacket", got, err)
			}
			if !strings.HasPrefix(connack, string(got)) {
				t.Errorf("handed on %q", got)
			}
		})
	}
}

func TestDisconnectIsNoOffence(t *testing.T) {
	_, err := io.ReadAll(newLimiter(strings.NewReader(connack+"\xe0\x00"), 300, 1000))
	if !errors.Is(err, errDismissed) || errors.Is(err, ErrBadPacket) {
		t.Errorf("got %v, want %v", err, errDismissed)
	}
}

func TestStreamThatEndsWithinAPacket(t *testing.T) {
	whole := connack + publishPacket("a", 20)
	for end := len(connack) + 1; end < len(whole); end++ {
		if _, err := io.ReadAll(newLimiter(strings.NewReader(whole[:end]), 300, 1000)); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut at %d: got %v, want an unexpected end", end, err)
		}
	}
}

func TestN15_PayloadLimit(t *testing.T) {
	const limit = 300
	for _, tt := range []struct{ size, oversize int }{
		{limit - 1, 0},
		{limit, 0},
		{limit + 1, limit + 1},
		{3 * limit, 3 * limit},
	} {
		l := newLimiter(strings.NewReader(connack+publishPacket("a/b", tt.size)+"\xd0\x00"), limit, 1000)
		if _, err := packets.ReadPacket(l); err != nil {
			t.Fatal(err)
		}
		got, err := packets.ReadPacket(l)
		if err != nil {
			t.Fatalf("%d bytes: %v", tt.size, err)
		}
		p := got.(*packets.PublishPacket)
		if p.TopicName != "a/b" || p.MessageID != 7 || p.Qos != 1 {
			t.Errorf("%d bytes: header became %v", tt.size, p.FixedHeader)
		}
		if n := l.oversize(p.Payload); n != tt.oversize || n == 0 && len(p.Payload) != tt.size {
			t.Errorf("%d bytes: oversize %d with %d bytes, want %d", tt.size, n, len(p.Payload), tt.oversize)
		}
		if next, err := packets.ReadPacket(l); err != nil || next.String() != "PINGRESP: dup: false qos: 0 retain: false rLength: 0" {
			t.Errorf("%d bytes: then came %v, %v; want the PINGRESP", tt.size, next, err)
		}
	}
}

// FuzzLimiter lets a broker say anything in any portions. What is handed on
// must be packets that the library can read, none larger than the limit, and
// equal to what was sent unless a payload was discarded.
func FuzzLimiter(f *testing.F) {
	f.Add([]byte(connack+publishPacket("a/b", 20)+"\xd0\x00"), uint8(1))
	f.Add([]byte(connack+publishPacket("a/b", 90)+"\x40\x02\x00\x01"), uint8(7))
	f.Add([]byte(connack+"\x90\x04\x00\x01\x00\x80\xb0\x02\x00\x01"), uint8(2))
	f.Add([]byte(connack+"\x30\xff\xff\xff\x7f\xff\xff"), uint8(200))
	f.Fuzz(func(t *testing.T, in []byte, portion uint8) {
		const maxPayload, maxPacket = 64, 128
		src := &portions{rest: in, size: int(portion) + 1}
		l := newLimiter(src, maxPayload, maxPacket)
		out, err := io.ReadAll(l)
		if err == nil && !bytes.Contains(out, l.token[:]) && !bytes.Equal(out, in) {
			t.Fatalf("got %q, want it unchanged: %q", out, in)
		}
		if cap(l.buf) > 1<<10 {
			t.Fatalf("%d bytes kept for a packet of at most %d", cap(l.buf), maxPacket)
		}
		for r := bytes.NewReader(out); err == nil && r.Len() > 0; {
			p, err := packets.ReadPacket(r)
			if err != nil {
				t.Fatalf("the library cannot read %q: %v", out, err)
			}
			if p, ok := p.(*packets.PublishPacket); ok && len(p.Payload) > maxPayload {
				t.Fatalf("a payload of %d bytes passed", len(p.Payload))
			}
		}
	})
}

// portions hands out size bytes at most at a time.
type portions struct {
	rest []byte
	size int
}

func (p *portions) Read(b []byte) (int, error) {
	if len(p.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), p.size)], p.rest)
	p.rest = p.rest[n:]
	return n, nil
}
