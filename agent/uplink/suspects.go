package uplink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/store"
)

// cellRun tells how the last run ended, and what it was doing.
const cellRun = "run"

// runRecord is what cellRun holds.
type runRecord struct {
	Running bool      `json:"running"`           // false once the run ended in order
	Serving *suspect  `json:"serving,omitempty"` // alone, and about to be decoded
	Refused []suspect `json:"refused,omitempty"` // a run ended while it served them; the newest last
}

// suspect names a job, or a frame without an id of its own, over restarts.
type suspect struct {
	Job    string `json:"job,omitempty"`
	Source string `json:"source,omitempty"` // of a frame
	Digest string `json:"digest"`           // of its bytes, hexadecimal
}

func suspectOf(r *Request) suspect {
	s := suspect{Job: r.ID, Digest: r.Digest().String()}
	if r.Kind == wire.KindFrame {
		s.Job, s.Source = "", r.Source // its id is another one in each run
	}
	return s
}

func (s suspect) String() string {
	if s.Source != "" {
		return fmt.Sprintf("a frame of source %s (sha256 %.12s)", s.Source, s.Digest)
	}
	return fmt.Sprintf("job %s (sha256 %.12s)", s.Job, s.Digest)
}

// How long a connection may bring what is suspected, and how many are remembered that
// are to be refused.
const (
	suspectTime = time.Minute
	refusedMost = 16
)

// suspects keeps a frame that ends the process from ending each one that comes after.
//
// Where the run before did not end in order, a job or a frame that the broker delivers
// again may be why. Until a connection has lasted a minute, and those that it brought
// are answered, each is served alone, and recorded before it is decoded. One that was
// recorded when that run ended as well is refused for good. What does not mark
// duplicates, as some brokers do, is known by its session: all that it brings is
// suspected, until one is marked after all. After an orderly end nothing is looked at.
type suspects struct {
	state   *store.Store
	log     *slog.Logger
	refused []suspect // set by begin
	waiting *backlog  // for those before them to be served

	watching atomic.Bool // any may come

	mu      sync.Mutex
	up      time.Time  // guarded by mu: when the connection began; zero before it is known to have
	fresh   bool       // guarded by mu: the broker had forgotten the session
	marked  bool       // guarded by mu: it marks what it delivers again
	over    bool       // guarded by mu: a connection lasted long enough
	held    int        // guarded by mu: that wait, or are being served alone
	serving []*Request // guarded by mu: handed on, and perhaps ended since
}

// begin reads how the last run ended and notes that this one has begun.
func (s *suspects) begin() {
	var last runRecord
	b, err := s.state.Cell(cellRun)
	if err == nil {
		err = json.Unmarshal(b, &last)
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		s.log.Error("how the last run ended is not readable", "err", err)
	}
	s.refused = last.Refused
	if last.Running && last.Serving != nil {
		s.refused = append(s.refused, *last.Serving)
		s.refused = s.refused[max(0, len(s.refused)-refusedMost):]
	}
	s.watching.Store(last.Running)
	s.write(runRecord{Running: true})
}

// write records where the run stands. Nobody calls it while another does.
func (s *suspects) write(r runRecord) {
	r.Refused = s.refused
	b, err := json.Marshal(r)
	if err == nil {
		err = s.state.SetCell(cellRun, b)
	}
	if err != nil {
		s.log.Error("what this run does is not recorded: a frame that ends it may do so again", "err", err)
	}
}

// connected notes that the broker has taken the device up, and whether it knew it.
func (s *suspects) connected(present bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.up, s.fresh = time.Now(), !present
}

// lost notes that the connection broke.
func (s *suspects) lost() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.late()
	s.up, s.fresh, s.marked = time.Time{}, false, false
}

// late tells whether a connection has brought all that is suspected; mu is held.
func (s *suspects) late() bool {
	s.over = s.over || !s.up.IsZero() && time.Since(s.up) >= suspectTime
	return s.over
}

// suspected tells whether the run before may have had this message; mu is held. A
// session may bring messages before it is known to be there.
func (s *suspects) suspected(m mqtt.Message) bool {
	if m.QoS == 0 || s.late() {
		return false
	}
	s.marked = s.marked || m.Duplicate
	return m.Duplicate || !s.fresh && !s.marked
}

// refuses tells whether a request was found to end the process. Of a camera that
// sends the same picture anew, the next one is tried.
func (s *suspects) refuses(r *Request) bool {
	for _, known := range s.refused {
		same := known.Job == r.ID
		if r.Kind == wire.KindFrame {
			same = known.Source == r.Source && r.Message.Duplicate
		}
		if same && known == suspectOf(r) {
			return true
		}
	}
	return false
}

// hold keeps a job or a frame back until it may be served; false where that is now. A
// suspect that finds no room is left to the broker.
func (s *suspects) hold(r *Request) bool {
	if !s.watching.Load() || !s.enter(r) {
		return false
	}
	if s.waiting.put(r) {
		return true
	}
	s.leave()
	if r.suspected {
		r.Release()
	}
	return r.suspected
}

// enter tells whether a request has to wait.
func (s *suspects) enter(r *Request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.suspected = s.suspected(r.Message)
	if s.held == 0 && !r.suspected {
		if s.late() {
			s.watching.Store(false)
		}
		s.track(r)
		return false
	}
	s.held++
	return true
}

func (s *suspects) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held--
}

// track notes that a request is handed on; mu is held.
func (s *suspects) track(r *Request) {
	open := s.serving[:0]
	for _, other := range s.serving {
		if !closed(other.ended) {
			open = append(open, other)
		}
	}
	clear(s.serving[len(open):])
	r.ended = make(chan struct{})
	s.serving = append(open, r)
}

// others are those that were handed on. r will be.
func (s *suspects) others(r *Request) []*Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	others := append([]*Request{}, s.serving...)
	s.track(r)
	return others
}

// guard serves what is held back, until ctx ends.
func (u *Uplink) guard(ctx context.Context) error {
	return u.suspects.waiting.each(ctx, func(r *Request) {
		u.serveHeld(ctx, r)
		u.suspects.leave()
	})
}

// serveHeld hands on a request that was held back: a suspect when those before it have
// ended, and then returns when it has.
func (u *Uplink) serveHeld(ctx context.Context, r *Request) {
	if u.closed.Load() && r.Message.QoS > 0 {
		r.Release()
		return
	}
	for _, other := range u.suspects.others(r) {
		if r.suspected && !other.wait(ctx) {
			return
		}
	}
	r.Received = time.Now() // its deadline does not count the wait
	u.hand(r)
	if r.suspected && r.wait(ctx) && r.recorded && !r.released {
		u.suspects.write(runRecord{Running: true})
	}
}

// Serving is to be called when a job or a frame is about to be decoded. Where it is
// suspected of having ended the last run that is recorded first, which waits for the
// disk; of others nothing is.
func (r *Request) Serving() {
	if !r.suspected {
		return
	}
	s := suspectOf(r)
	r.recorded = true
	r.uplink.suspects.write(runRecord{Running: true, Serving: &s})
}

// EndInOrder notes that the run ended in order: nothing that the broker delivers to the
// next one is suspected. It is for the end, when Run has returned.
func (u *Uplink) EndInOrder() { u.suspects.write(runRecord{}) }
