package blob

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
)

// How many asks wait at most. Those that find no room are dropped: who asked asks again.
const (
	asksMost  = 4096 // of all together
	asksOfOne = 16   // of one who asks; wire.MaxBlobParts bounds their bytes
)

// ServerConfig describes a Server.
type ServerConfig struct {
	Blobs family.Blobs
	// May tells whether a device, or wire.Controller, may have a blob. It is called by Run.
	May func(who string, d family.Digest) bool
}

// Publisher is the side of a connection that messages leave by.
type Publisher interface {
	// Publish returns once the socket has taken a message of QoS 0, or with the reason why
	// it will not.
	Publish(ctx context.Context, m mqtt.Message) error
}

// ServerCounts are totals since NewServer.
type ServerCounts struct {
	Parts   uint64 // that were sent, without the empty ones
	Bytes   uint64 // of them
	Refused uint64 // asks for what there is not, or not for who asks
	Dropped uint64 // asks that are none, or found no room
}

// Server answers who asks for parts of blobs: everybody in turn, one part at a time.
// Receive is for any goroutine.
type Server struct {
	cfg       ServerConfig
	publisher Publisher
	log       *slog.Logger
	wake      chan struct{} // holds a token when somebody waits

	mu      sync.Mutex
	waiting map[wire.Address][]request // guarded by mu; the first of the one whose turn it is is being answered
	order   []wire.Address             // guarded by mu: whose turn it is; each of waiting once
	count   int                        // guarded by mu: requests of all together

	parts, bytes, refused, dropped atomic.Uint64
}

// request is a part that somebody wants.
type request struct {
	digest string
	wire.Fetch
}

// NewServer assembles a Server; it starts nothing.
func NewServer(cfg ServerConfig, p Publisher, log *slog.Logger) *Server {
	return &Server{cfg: cfg, publisher: p, log: log, wake: make(chan struct{}, 1),
		waiting: map[wire.Address][]request{}}
}

// Counts returns the totals so far.
func (s *Server) Counts() ServerCounts {
	return ServerCounts{s.parts.Load(), s.bytes.Load(), s.refused.Load(), s.dropped.Load()}
}

// Receive takes a message of a fetch topic. It never blocks.
func (s *Server) Receive(t wire.Topic, payload []byte) {
	r := request{digest: t.Digest}
	err := wire.Decode(payload, &r.Fetch)
	if err == nil {
		err = r.Check()
	}
	if err != nil || !s.put(t.Address, r) {
		s.dropped.Add(1)
		return
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// put has a request wait for its turn, unless there is no room or it waits already.
func (s *Server) put(who wire.Address, r request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	mine, bytes := s.waiting[who], r.Bytes
	for _, other := range mine {
		if other == r {
			return false
		}
		bytes += other.Bytes
	}
	if s.count >= asksMost || len(mine) >= asksOfOne || bytes > wire.MaxBlobParts {
		return false
	}
	if len(mine) == 0 {
		s.order = append(s.order, who)
	}
	s.waiting[who] = append(mine, r)
	s.count++
	return true
}

// first is the request whose turn it is; it waits until done.
func (s *Server) first() (who wire.Address, r request, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.order) == 0 {
		return who, r, false
	}
	who = s.order[0]
	return who, s.waiting[who][0], true
}

// done takes out what first returned, and passes the turn on.
func (s *Server) done() {
	s.mu.Lock()
	defer s.mu.Unlock()
	who := s.order[0]
	s.order = s.order[1:]
	s.count--
	if rest := s.waiting[who][1:]; len(rest) > 0 {
		s.waiting[who] = rest
		s.order = append(s.order, who)
	} else {
		delete(s.waiting, who)
	}
}

// Run answers until ctx ends, which is no error.
func (s *Server) Run(ctx context.Context) error {
	for {
		for who, r, ok := s.first(); ok && ctx.Err() == nil; who, r, ok = s.first() {
			s.answer(ctx, who, r)
			s.done()
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			return nil
		}
	}
}

// answer sends a part, an empty one to a device that may not have it. The controller is
// served by several, of whom those say nothing that do not have what it asks for. Where
// the blob cannot be read nothing is said either, for it may be read the next time.
func (s *Server) answer(ctx context.Context, who wire.Address, r request) {
	m := mqtt.Message{Topic: who.Blob(r.digest, r.Offset)}
	digest := family.Digest(r.digest)
	switch may := s.cfg.May(who.Device, digest); {
	case !may && who.Device == wire.Controller:
		s.refused.Add(1)
		return
	case may:
		b, err := s.cfg.Blobs.Blob(digest)
		if err != nil {
			s.log.Warn("blob not served", "device", who.Device, "err", err)
			s.dropped.Add(1)
			return
		}
		m.Payload = cutOut(b, r.Fetch)
	}
	err := s.publisher.Publish(ctx, m)
	switch {
	case err != nil: // who asked asks again
		s.dropped.Add(1)
	case len(m.Payload) == 0:
		s.refused.Add(1)
	default:
		s.parts.Add(1)
		s.bytes.Add(uint64(len(m.Payload)))
	}
}

// cutOut is what is asked for, of what there is.
func cutOut(b []byte, f wire.Fetch) []byte {
	if f.Offset >= int64(len(b)) {
		return nil
	}
	return b[f.Offset:min(f.Offset+int64(f.Bytes), int64(len(b)))]
}
