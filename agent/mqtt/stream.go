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
)

// writeChunk is what a link must move within one WriteTimeout.
const writeChunk = 8 << 10

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

	writing  sync.Mutex   // held for one whole packet
	left     bool         // guarded by writing: DISCONNECT was said, nothing may follow
	heard    atomic.Int64 // when the last byte came, in ns since began
	said     atomic.Int64 // when the last packet left, likewise
	began    time.Time
	end      sync.Once
	down     chan struct{} // closed at the end, when cause is set
	cause    error
	greeting time.Duration // idle until the CONNACK came
}

// dial opens a connection with all that is known to be needed before the
// first MQTT byte.
func (l *Link) dial(ctx context.Context) (*stream, error) {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.ConnectTimeout)
	defer cancel()
	open := l.cfg.Dial
	if open == nil {
		open = new(net.Dialer).DialContext // with TCP_NODELAY, as is Go's default
	}
	raw, err := open(ctx, "tcp", l.target.addr)
	if err != nil {
		return nil, err
	}
	conn := raw
	if l.target.tls {
		if conn, err = l.secure(ctx, raw); err != nil {
			raw.Close()
			return nil, err
		}
	}
	cfg := l.cfg
	if l.patient.Load() {
		cfg.MaxPacket = maxRemaining
	}
	return newStream(conn, raw, cfg), nil
}

func (l *Link) secure(ctx context.Context, raw net.Conn) (net.Conn, error) {
	cfg, err := l.cfg.loadTLS(l.target)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, cfg)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("TLS with %s: %w", l.target.addr, err)
	}
	return conn, nil
}

func newStream(conn, raw net.Conn, cfg Config) *stream {
	s := &stream{
		Conn: conn, raw: raw,
		idle: cfg.KeepAlive + cfg.PingTimeout, greeting: cfg.ConnectTimeout, timeout: cfg.WriteTimeout,
		began: time.Now(), down: make(chan struct{}),
	}
	s.limiter = limiter{
		src:        bufio.NewReaderSize(socket{s}, 32<<10),
		maxPayload: cfg.MaxPayload, maxPacket: cfg.MaxPacket,
	}
	rand.Read(s.limiter.token[:]) // never returns an error
	return s
}

// Read hands the library approved bytes only.
func (s *stream) Read(p []byte) (int, error) {
	n, err := s.limiter.Read(p)
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
	if n > 0 {
		s.heard.Store(int64(time.Since(s.began)))
	}
	return n, err
}

// Write sends one packet whole. The library may call it from two goroutines.
func (s *stream) Write(p []byte) (int, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	return s.write(p)
}

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

// ping sends a PINGREQ if either side has been silent for quiet. The library
// sends its own, but not while one is unanswered, and the answer may be queued
// behind a long packet on a slow link. A write under way is sign enough.
func (s *stream) ping(quiet time.Duration) {
	silent := time.Since(s.began) - time.Duration(min(s.heard.Load(), s.said.Load()))
	if silent < quiet || !s.writing.TryLock() {
		return
	}
	defer s.writing.Unlock()
	s.write([]byte{0xc0, 0}) // an error ends the stream
}

// leave sends DISCONNECT and returns when the broker has hung up, or when
// patience is at an end. Until then what the broker sends is still taken.
func (s *stream) leave(patience time.Duration) {
	late := time.AfterFunc(patience, func() { s.fail(errStayed) })
	defer late.Stop()
	s.writing.Lock()
	s.write([]byte{0xe0, 0}) // an error ends the stream
	s.left = true
	s.writing.Unlock()
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
