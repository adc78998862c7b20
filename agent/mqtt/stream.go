package mqtt

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/limber-edge/limber/agent/mqtt/websocket"
)

// writeChunk is what a link must move within one WriteTimeout.
const writeChunk = 8 << 10

// beside is how many bytes of other packets may come in one WebSocket message with
// the largest.
const beside = 64 << 10

// errClosed is the cause when the library closed the socket by itself.
var errClosed = errors.New("connection closed by the client library")

// errStayed is the cause when the broker did not hang up after a DISCONNECT.
var errStayed = errors.New("the broker kept the connection after DISCONNECT")

// errOver is all the library learns of an end. Told that a closed socket was
// used, it would believe that it had closed it, and keep its goroutines.
var errOver = errors.New("connection over")

// stream is the socket as the library sees it: limited on the way in, and with
// deadlines that move with every byte. The library's own deadlines cover whole
// packets and only some of them, so it may not set any.
type stream struct {
	net.Conn // plain or TLS
	raw      net.Conn
	limiter  limiter
	idle     time.Duration // silence after which a read gives up
	timeout  time.Duration // of a write without progress

	acked    func()        // called when an acknowledgement left; set before the first packet, or nil
	turn     chan struct{} // holds the token of whoever writes one whole packet
	left     bool          // of the one with the turn: DISCONNECT was said, nothing may follow
	heard    atomic.Int64  // when the last byte came, in ns since began
	moved    atomic.Int64  // when the last byte came that is of anything but a PINGRESP, likewise
	said     atomic.Int64  // when the last packet left, likewise
	began    time.Time
	end      sync.Once
	down     chan struct{} // closed at the end, when cause is set
	cause    error
	greeting time.Duration // idle until the CONNACK came
}

// The packet types that acknowledge a message.
const (
	puback = 4
	pubrec = 5
)

// dial opens a connection with all that is known to be needed before the
// first MQTT byte.
func (l *Link) dial(ctx context.Context, at target) (*stream, error) {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.ConnectTimeout)
	defer cancel()
	open := l.cfg.Dial
	if open == nil {
		open = new(net.Dialer).DialContext // with TCP_NODELAY, as is Go's default
	}
	raw, err := open(ctx, "tcp", at.addr)
	if err != nil {
		return nil, err
	}
	cfg := l.cfg
	if l.patient.Load() {
		cfg.MaxPacket = maxRemaining
	}
	conn, err := layer(ctx, raw, at, cfg)
	if err != nil {
		raw.Close()
		return nil, err
	}
	return newStream(conn, raw, cfg), nil
}

// layer puts over a connection what the broker's scheme asks for.
func layer(ctx context.Context, raw net.Conn, at target, cfg Config) (conn net.Conn, err error) {
	conn = raw
	if at.tls {
		if conn, err = secure(ctx, raw, at, cfg); err != nil {
			return nil, err
		}
	}
	if at.path == "" {
		return conn, nil
	}
	limits := websocket.Limits{Message: cfg.MaxPacket + beside, Pong: cfg.WriteTimeout}
	if conn, err = websocket.Client(ctx, conn, at.addr, at.path, limits); err != nil {
		return nil, fmt.Errorf("WebSocket with %s: %w", at.name, err)
	}
	return conn, nil
}

func secure(ctx context.Context, raw net.Conn, at target, cfg Config) (net.Conn, error) {
	settings, err := cfg.loadTLS(at)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, settings)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("TLS with %s: %w", at.addr, err)
	}
	return conn, nil
}

func newStream(conn, raw net.Conn, cfg Config) *stream {
	// What does not fit is read without it. Most messages are of some hundred bytes.
	const readAhead = 4 << 10
	s := &stream{
		Conn: conn, raw: raw,
		idle: cfg.KeepAlive + cfg.PingTimeout, greeting: cfg.ConnectTimeout, timeout: cfg.WriteTimeout,
		turn: make(chan struct{}, 1), began: time.Now(), down: make(chan struct{}),
	}
	s.limiter = limiter{
		src:        bufio.NewReaderSize(socket{s}, readAhead),
		maxPayload: cfg.MaxPayload, maxPacket: cfg.MaxPacket,
	}
	rand.Read(s.limiter.token[:]) // never returns an error
	return s
}

// Read hands the library approved bytes only.
func (s *stream) Read(p []byte) (int, error) {
	n, err := s.limiter.Read(p)
	s.progress()
	if err != nil {
		s.fail(fmt.Errorf("read from the broker: %w", err))
		return n, errOver
	}
	return n, nil
}

// socket reads what the broker sent, as it comes.
type socket struct{ s *stream }

func (r socket) Read(p []byte) (int, error) {
	s := r.s
	idle := s.idle
	if !s.limiter.greeted {
		idle = s.greeting
	}
	if err := s.Conn.SetReadDeadline(time.Now().Add(idle)); err != nil {
		return 0, err
	}
	n, err := s.Conn.Read(p)
	switch {
	case errors.Is(err, websocket.ErrText):
		err = bad("%v", err)
	case errors.Is(err, websocket.ErrTooLarge):
		err = fmt.Errorf("%w: %w", bad("%v", err), errTooLarge)
	}
	if n > 0 {
		s.heard.Store(int64(time.Since(s.began)))
		s.progress()
	}
	return n, err
}

// progress takes note that a packet is arriving. That of a PINGRESP is none: it
// would keep alive a wait for what the broker does not mean to answer.
func (s *stream) progress() {
	if kind := s.limiter.kind; kind != 0 && kind != typePingresp {
		s.moved.Store(int64(time.Since(s.began)))
	}
}

// still is for how long there was no progress.
func (s *stream) still() time.Duration { return time.Since(s.began) - time.Duration(s.moved.Load()) }

// Write sends one packet whole. The library may call it from two goroutines.
func (s *stream) Write(p []byte) (int, error) {
	select {
	case s.turn <- struct{}{}:
		defer s.pass()
		n, err := s.write(p)
		if err == nil && len(p) > 0 && s.acked != nil && (p[0]>>4 == puback || p[0]>>4 == pubrec) {
			s.acked()
		}
		return n, err
	case <-s.down:
		return 0, errOver
	}
}

// pass ends a turn.
func (s *stream) pass() { <-s.turn }

// write is for the one whose turn it is.

func (s *stream) write(p []byte) (n int, err error) {
	if s.left {
		return 0, errOver
	}
	for n < len(p) && err == nil {
		if err = s.Conn.SetWriteDeadline(time.Now().Add(s.timeout)); err != nil {
			break
		}
		var k int
		k, err = s.Conn.Write(p[n:min(n+writeChunk, len(p))])
		n += k
	}
	if err != nil {
		s.fail(fmt.Errorf("write to the broker: %w", err))
		return n, errOver
	}
	s.said.Store(int64(time.Since(s.began)))
	return n, nil
}

// keepAlive pings until the stream ends.
func (s *stream) keepAlive(longest time.Duration) {
	ticker := time.NewTicker(longest / 4)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			s.ping(longest / 2)
		case <-s.down:
			return
		}
	}
}

// ping sends a PINGREQ if either side has been silent for quiet. The library
// sends its own, but not while one is unanswered, and the answer may be queued
// behind a long packet on a slow link. A write under way is sign enough.
func (s *stream) ping(quiet time.Duration) {
	silent := time.Since(s.began) - time.Duration(min(s.heard.Load(), s.said.Load()))
	if silent < quiet {
		return
	}
	select {
	case s.turn <- struct{}{}:
		s.write([]byte{0xc0, 0}) // an error ends the stream
		s.pass()
	default:
	}
}

// leave sends DISCONNECT and returns when the broker has hung up, or when
// patience is at an end. Until then what the broker sends is still taken.
func (s *stream) leave(patience time.Duration) {
	late := time.AfterFunc(patience, func() { s.fail(errStayed) })
	defer late.Stop()
	select {
	case s.turn <- struct{}{}:
		s.write([]byte{0xe0, 0}) // an error ends the stream
		s.left = true
		s.pass()
	case <-s.down:
	}
	<-s.down
}

// fail ends the stream; the first cause stays.
func (s *stream) fail(cause error) {
	s.end.Do(func() {
		s.cause = cause
		close(s.down)
		s.raw.Close()
	})
}

// Close is the library's way to give up.
func (s *stream) Close() error {
	s.fail(errClosed)
	return nil
}

func (s *stream) SetDeadline(time.Time) error      { return nil }
func (s *stream) SetReadDeadline(time.Time) error  { return nil }
func (s *stream) SetWriteDeadline(time.Time) error { return nil }
