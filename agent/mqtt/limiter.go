package mqtt

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"unicode/utf8"
)

// maxRemaining is the greatest remaining length four bytes can declare
// (MQTT-3.1.1, 2.2.3).
const maxRemaining = 1<<28 - 1

// Control packet types a broker may send (MQTT-3.1.1, 2.2.1).
const (
	typeConnack    = 2
	typePublish    = 3
	typePuback     = 4
	typePubrec     = 5
	typePubrel     = 6
	typePubcomp    = 7
	typeSuback     = 9
	typeUnsuback   = 11
	typePingresp   = 13
	typeDisconnect = 14
)

// errDismissed is a broker's way to end a connection; it is no offence.
var errDismissed = errors.New("broker sent DISCONNECT: it stops, or another client has this client id")

// errTooLarge marks a packet over the limit: the one offence that a harmless
// publisher can commit, and that a broker with a session for us repeats on every
// connection.
var errTooLarge = errors.New("if it is a message, the next one is discarded as it arrives")

// tokenSize is the length of the secret that marks a discarded payload.
const tokenSize = 16

// limiter hands on a broker's packets unchanged once their fixed and variable
// headers are known to be sound. A payload over maxPayload is read to nowhere
// and replaced by a note: token, then its length (uint32, big endian). The
// first bad byte ends the stream with ErrBadPacket. Memory is one topic name
// at most, whatever is declared.
type limiter struct {
	src        *bufio.Reader
	maxPayload int
	maxPacket  int
	asked      atomic.Int32    // filters in the last SUBSCRIBE, 0 before it
	token      [tokenSize]byte // unknown to the broker, so that no payload can pose as a note

	greeted bool   // the CONNACK has passed
	kind    byte   // of the last packet; 0 while the next one's is not known
	buf     []byte // of head, reused
	head    []byte // approved bytes to hand on first
	body    int    // bytes to hand on unseen after them
}

func (l *limiter) Read(p []byte) (int, error) {
	for len(p) > 0 {
		switch {
		case len(l.head) > 0:
			n := copy(p, l.head)
			l.head = l.head[n:]
			return n, nil
		case l.body > 0:
			n, err := l.src.Read(p[:min(len(p), l.body)])
			l.body -= n
			return n, cut(err)
		}
		if err := l.next(); err != nil {
			return 0, err
		}
	}
	return 0, nil
}

// next judges the next packet and makes it ready to hand on.
func (l *limiter) next() error {
	l.kind = 0
	first, err := l.src.ReadByte()
	if err != nil {
		return err
	}
	l.buf = append(l.buf[:0], first)
	remaining, err := l.length()
	if err != nil {
		return err
	}
	kind, flags := first>>4, first&0x0f
	if err := l.judge(kind, flags, remaining); err != nil {
		return err
	}
	l.kind = kind
	if kind == typePublish {
		return l.publish(flags, remaining)
	}
	return l.control(kind, remaining)
}

// length reads the remaining length and refuses what is over maxPacket.
func (l *limiter) length() (int, error) {
	n := 0
	for shift := 0; shift < 28; shift += 7 {
		b, err := l.src.ReadByte()
		if err != nil {
			return 0, cut(err)
		}
		l.buf = append(l.buf, b)
		n |= int(b&0x7f) << shift
		if b&0x80 != 0 {
			continue
		}
		if n > l.maxPacket {
			return 0, fmt.Errorf("%w: %w", bad("packet of %d bytes, the limit is %d", n, l.maxPacket), errTooLarge)
		}
		return n, nil
	}
	return 0, bad("fixed header with a fifth length byte")
}

// judge checks type, flags and length against what a broker may send.
func (l *limiter) judge(kind, flags byte, remaining int) error {
	if (kind == typeConnack) == l.greeted {
		return bad("packet type %d where a CONNACK must come first and once", kind)
	}
	l.greeted = true
	least, most, want := 2, 2, byte(0)
	switch kind {
	case typePublish:
		if flags>>1&3 == 3 {
			return bad("PUBLISH with QoS 3")
		}
		least, most, want = 3, l.maxPacket, flags
	case typeConnack, typePuback, typePubrec, typePubcomp, typeUnsuback:
	case typePubrel:
		want = 2
	case typeSuback:
		n := int(l.asked.Load()) // the library does not look how many codes there are
		least, most = max(3, 2+n), 2+n
	case typePingresp:
		least, most = 0, 0
	case typeDisconnect: // MQTT 5's, yet some brokers say it to everyone
		return errDismissed
	default:
		return bad("packet of type %d", kind)
	}
	if flags != want {
		return bad("packet type %d with flags %#x", kind, flags)
	}
	if remaining < least || remaining > most {
		return bad("packet type %d with length %d", kind, remaining)
	}
	return nil
}

// control takes a whole packet of a few bytes.
func (l *limiter) control(kind byte, remaining int) error {
	at := len(l.buf)
	if err := l.take(remaining); err != nil {
		return err
	}
	switch body := l.buf[at:]; {
	case kind == typeConnack && (body[0] > 1 || body[1] > 5): // the library takes an unknown code for consent
		return bad("CONNACK with flags %#x and code %d", body[0], body[1])
	case kind != typeConnack && remaining > 0 && body[0] == 0 && body[1] == 0:
		return bad("packet type %d with packet id 0", kind)
	}
	l.head = l.buf
	return nil
}

// publish takes a PUBLISH up to its payload.
func (l *limiter) publish(flags byte, remaining int) error {
	fixed := len(l.buf)
	if err := l.take(2); err != nil {
		return err
	}
	name := int(binary.BigEndian.Uint16(l.buf[fixed:]))
	idSize := 0
	if flags&0x06 != 0 {
		idSize = 2
	}
	payload := remaining - 2 - name - idSize
	if payload < 0 {
		return bad("PUBLISH of %d bytes with a topic of %d", remaining, name)
	}
	if err := l.take(name + idSize); err != nil {
		return err
	}
	topic, id := l.buf[fixed+2:fixed+2+name], l.buf[fixed+2+name:]
	if !ValidTopic(string(topic)) {
		return bad("PUBLISH to %q", clip(topic))
	}
	if idSize > 0 && id[0] == 0 && id[1] == 0 {
		return bad("PUBLISH with packet id 0")
	}
	if payload > l.maxPayload {
		return l.discard(fixed, payload)
	}
	l.head, l.body = l.buf, payload
	return nil
}

// discard drops the payload and hands on the note instead; fixed is the size
// of the fixed header, which must be written anew.
func (l *limiter) discard(fixed, payload int) error {
	if _, err := l.src.Discard(payload); err != nil {
		return cut(err)
	}
	variable := l.buf[fixed:]
	head := []byte{l.buf[0]}
	head = binary.AppendUvarint(head, uint64(len(variable)+tokenSize+4)) // MQTT's length is the same encoding
	head = append(head, variable...)
	head = append(head, l.token[:]...)
	l.head = binary.BigEndian.AppendUint32(head, uint32(payload))
	return nil
}

// oversize reads a note: the length of the payload that was discarded, or 0
// if the payload is not one.
func (l *limiter) oversize(payload []byte) int {
	if len(payload) != tokenSize+4 || [tokenSize]byte(payload) != l.token {
		return 0
	}
	return int(binary.BigEndian.Uint32(payload[tokenSize:]))
}

// take appends the next n bytes to buf.
func (l *limiter) take(n int) error {
	at := len(l.buf)
	l.buf = append(l.buf, make([]byte, n)...)
	_, err := io.ReadFull(l.src, l.buf[at:])
	return cut(err)
}

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrBadPacket, fmt.Sprintf(format, args...))
}

// cut names an end of stream within a packet.
func cut(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// clip makes a hostile name fit for a log line.
func clip(b []byte) string {
	return strings.ToValidUTF8(string(b[:min(len(b), 64)]), string(utf8.RuneError))
}
