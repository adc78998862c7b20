package uplink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/store"
)

// cellRun tells how the last run ended, and what it was doing.
const cellRun = "run"

// runRecord is what cellRun holds. No two are the same.
type runRecord struct {
	Running bool      `json:"running"`           // false once the run ended in order
	Boot    string    `json:"boot,omitempty"`    // of the run
	Number  uint64    `json:"number,omitempty"`  // of the record in its run
	Machine string    `json:"machine,omitempty"` // see Config
	Serving *suspect  `json:"serving,omitempty"` // alone, and about to be decoded
	Marked  bool      `json:"marked,omitempty"`  // that is so only while the mark of the store is this record's
	Spared  []suspect `json:"spared,omitempty"`  // the machine ended while a run served them; the newest last
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

// How long a connection may bring what is suspected, how many are remembered that ended a
// run, and how many new ones are served between two suspects where so many wait.
const (
	suspectTime = time.Minute
	suspectMost = 16
	newMost     = 4
)

// suspects keeps a frame that ends the process from ending each one that comes after.
//
// Where the run before did not end in order, a job or a frame that the broker delivers
// again may be why. Until a connection has lasted a minute, and those that it brought
// are answered, each is served alone, and recorded before it is decoded. One that was
// recorded when that run ended as well is refused for good. What does not mark
// duplicates, as some brokers do, is known by its session: all that it brings is
// suspected, until one is marked after all. After an orderly end nothing is looked at.
//
// What is new does not wait for them all: it is decoded between two of them, with others
// as ever, four at most where more wait. Its deadline counts meanwhile. No order is
// promised among jobs, and results are numbered as they are made.
//
//	suspect:  waits ─▶ nothing is served ─▶ recorded, commit ─▶ marked ─▶ served ─▶ mark gone
//	new:      served at once, or waits while a suspect is served ─▶ served
//
// The record is on the disk before the suspect reaches a decoder. The mark, which outlives
// the process and costs no commit, is there as long as it is being decoded and inferred:
// nothing is blamed for a kill that comes while its record or its answer is written.
//
// Where the machine was started since, the mark may be lost, and the end of the machine,
// such as a power cut, is no proof: what was recorded then is served once more, alone, and
// refused if that happens again. So a frame that ends the process does so twice at most,
// and one that takes the machine along three times; more often only where something else
// may be to blame, such as a family on trial. A kill from outside that meets a
// suspect in a decoder cannot be told from one of its own.
type suspects struct {
	state   *store.Store
	log     *slog.Logger
	acquit  bool      // see Config
	run     runRecord // what is the same in each of this run
	waiting *backlog  // suspects
	fresh   *backlog  // what is new, while suspects wait

	watching atomic.Bool // any may come

	mu      sync.Mutex
	up      time.Time  // guarded by mu: when the connection began; zero before it is known to have
	forgot  bool       // guarded by mu: the broker had forgotten the session
	marked  bool       // guarded by mu: it marks what it delivers again
	over    bool       // guarded by mu: a connection lasted long enough
	held    int        // guarded by mu: suspects that wait, or are being served
	serving []*Request // guarded by mu: that may be decoded, and perhaps ended since
}

func newSuspects(cfg Config, state *store.Store, log *slog.Logger) *suspects {
	return &suspects{state: state, log: log, acquit: cfg.Acquit, waiting: newBacklog(), fresh: newBacklog(),
		run: runRecord{Running: true, Boot: cfg.Boot, Machine: cfg.Machine}}
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
	s.run.Spared, s.run.Refused = last.Spared, last.Refused
	if last.Running && last.Serving != nil && !s.acquit {
		s.blame(last, s.state.Mark() == store.DigestOf(b))
	}
	s.watching.Store(last.Running)
	s.write(nil)
}

// blame notes what was being served when a run ended, if the mark of its record, or a
// record that has none, says so.
func (s *suspects) blame(last runRecord, marked bool) {
	who, list := *last.Serving, &s.run.Refused
	restarted := last.Machine != "" && s.run.Machine != "" && last.Machine != s.run.Machine
	switch {
	case restarted && !slices.Contains(s.run.Spared, who): // its mark may be lost
		list = &s.run.Spared
	case !restarted && last.Marked && !marked:
		return
	}
	*list = append(*list, who)
	*list = (*list)[max(0, len(*list)-suspectMost):]
}

// write records where the run stands, and returns the digest of that. Nobody calls it
// while another does.
func (s *suspects) write(serving *suspect) store.Digest {
	s.run.Number++
	s.run.Serving = serving
	b, err := json.Marshal(s.run)
	if err == nil {
		err = s.state.SetCell(cellRun, b)
	}
	if err != nil {
		s.log.Error("what this run does is not recorded: a frame that ends it may do so again", "err", err)
	}
	return store.DigestOf(b)
}

// record notes that a suspect is about to be decoded. The mark comes last: who is killed
// while the record is written leaves one that may be read.
func (s *suspects) record(who suspect) {
	s.run.Marked = s.state.SetMark(store.Digest{}) == nil
	if record := s.write(&who); s.run.Marked && s.state.SetMark(record) != nil {
		s.run.Marked = false
		s.write(&who)
	}
}

// clear notes that the suspect which was recorded, if one was, has ended.
func (s *suspects) clear() {
	if s.run.Serving != nil && (!s.run.Marked || s.state.SetMark(store.Digest{}) != nil) {
		s.write(nil)
	}
}

// settle has the record say what the mark says, which the machine may lose.
func (s *suspects) settle() {
	if s.run.Serving != nil {
		s.write(nil)
	}
}

// connected notes that the broker has taken the device up, and whether it knew it.
func (s *suspects) connected(present bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.up, s.forgot = time.Now(), !present
}

// lost notes that the connection broke.
func (s *suspects) lost() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.late()
	s.up, s.forgot, s.marked = time.Time{}, false, false
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
	return m.Duplicate || !s.forgot && !s.marked
}

// refuses tells whether a request was found to end the process. Of a camera that
// sends the same picture anew, the next one is tried.
func (s *suspects) refuses(r *Request) bool {
	for _, known := range s.run.Refused {
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

// hold keeps a suspect back until it may be served alone; false where it is none. One
// that finds no room is left to the broker.
func (s *suspects) hold(r *Request) bool {
	if !s.watching.Load() || !s.enter(r) {
		return false
	}
	if !s.waiting.put(r) {
		s.leave()
		r.Release()
	}
	return true
}

func (s *suspects) enter(r *Request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.suspected = s.suspected(r.Message); r.suspected {
		s.held++
	}
	return r.suspected
}

func (s *suspects) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held--
}

// defers keeps what is new back while suspects wait; false where it is to be served now.
// What finds no room does not wait.
func (s *suspects) defers(r *Request, serve func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held > 0 {
		r.serve = serve
		if s.fresh.put(r) {
			return true
		}
	} else if s.late() {
		s.watching.Store(false)
	}
	s.track(r)
	return false
}

// track notes that a request may be decoded from now on; mu is held.
func (s *suspects) track(r *Request) {
	s.forget()
	r.ended = make(chan struct{})
	s.serving = append(s.serving, r)
}

// forget lets go of those that have ended; mu is held.
func (s *suspects) forget() {
	s.serving = slices.DeleteFunc(s.serving, func(r *Request) bool { return closed(r.ended) })
}

// next notes that a request may be decoded from now on.
func (s *suspects) next(r *Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.track(r)
}

// busy returns a request that may be being decoded; nil if there is none.
func (s *suspects) busy() *Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.forget(); len(s.serving) == 0 {
		return nil
	}
	return s.serving[0]
}

// guard serves what is held back, until ctx ends.
func (u *Uplink) guard(ctx context.Context) error {
	s := u.suspects
	for ctx.Err() == nil {
		if r := s.waiting.take(); r != nil {
			u.serveNew(ctx)
			u.serveAlone(ctx, r)
			s.leave()
			continue
		}
		for r := s.fresh.take(); r != nil; r = s.fresh.take() {
			u.resume(r)
		}
		s.settle()
		select {
		case <-s.waiting.some:
		case <-s.fresh.some:
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}

// serveNew serves what is new and waits, and returns when nothing is being served.
func (u *Uplink) serveNew(ctx context.Context) {
	s := u.suspects
	some := s.fresh.some
	for n := 0; ctx.Err() == nil; {
		if n == newMost {
			some = nil
		} else if r := s.fresh.take(); r != nil {
			u.resume(r)
			n++
			continue
		}
		open := s.busy()
		if open == nil {
			return
		}
		select {
		case <-some:
		case <-open.ended:
		case <-ctx.Done():
		}
	}
}

// resume serves a new request that was held back.
func (u *Uplink) resume(r *Request) {
	if u.leaves(r) {
		return
	}
	u.suspects.next(r)
	r.serve()
}

// leaves leaves a request to the broker where nothing is taken in any more.
func (u *Uplink) leaves(r *Request) bool {
	left := u.closed.Load() && r.Message.QoS > 0
	if left {
		r.Release()
	}
	return left
}

// serveAlone hands on a suspect, and returns when it has ended.
func (u *Uplink) serveAlone(ctx context.Context, r *Request) {
	if ctx.Err() != nil || u.leaves(r) {
		return
	}
	u.suspects.next(r)
	r.Received = time.Now() // its deadline does not count the wait
	u.hand(r)
	if r.wait(ctx) {
		u.suspects.clear()
	}
}

// Serve calls serve, which has a job or a frame decoded: at once, or later where it has
// to wait for one that is suspected of having ended the last run. A suspect is recorded
// before, which waits for the disk; of others nothing is.
func (r *Request) Serve(serve func()) {
	s := r.uplink.suspects
	switch {
	case r.suspected:
		s.record(suspectOf(r))
	case s.watching.Load() && s.defers(r, serve):
		return
	}
	serve()
}

// EndInOrder notes that the run ended in order: nothing that the broker delivers to the
// next one is suspected. It is for the end, when Run has returned.
func (u *Uplink) EndInOrder() {
	u.suspects.run.Running = false
	u.suspects.write(nil)
}
