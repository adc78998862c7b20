package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/family"
)

// supervisor is the goroutine that owns what serves. See the package's comment.
type supervisor struct {
	*Engine
	running
	todo []task // for the loader

	serving  *backend      // that jobs go to; nil when there is none
	target   governor.Mode // that is pursued, whatever serves
	progress string        // of what is prepared, before there is a backend
	loading  bool          // members are still being loaded
	fault    error         // why no member can be used; nil where one can, or may soon
	failed   string        // the execution provider that failed and is to be tried again; or empty

	interrupted []time.Time // when inferences hung
	memory      memoryPolicy
	restoring   bool // the loader has a member to restore
	replacing   bool // another family is prepared, which wants the room there is
	ending      bool // nothing is begun any more
}

// Run prepares the members of the family and keeps them running until ctx ends.
// It returns ErrHung when only a new process helps.
func (e *Engine) Run(ctx context.Context) error {
	defer close(e.over)
	s := newSupervisor(e)
	loading, stop := context.WithCancel(ctx)
	defer stop()
	loaded := make(chan error, 1)
	go func() {
		loaded <- e.load(loading)
		close(loaded)
	}()
	err := s.supervise(ctx, loaded)
	if s.serving != nil && err == nil {
		s.saveLearned(context.WithoutCancel(ctx), s.serving)
	}
	stop()
	s.stop()
	s.outlive(loaded)
	return errors.Join(err, s.free())
}

// outlive serves those that make sessions until they have ended, with the last session
// that they were at.
func (s *supervisor) outlive(loaded <-chan error) {
	s.ending = true
	var compared <-chan struct{} // nil: nothing is
	if c := s.shadow.Load(); c != nil {
		c.stop()
		compared = c.closed
	}
	for loaded != nil || compared != nil {
		select {
		case _, more := <-loaded:
			if !more {
				loaded = nil
			}
		case <-compared:
			compared = nil
		case c := <-s.calls:
			c.do(s)
			close(c.done)
		}
	}
}

func newSupervisor(e *Engine) *supervisor {
	return &supervisor{Engine: e, target: e.cfg.Mode, progress: beginning,
		running: running{ends: make(chan *backend)}, memory: newMemoryPolicy()}
}

// supervise serves everybody until ctx or the device's ability to infer ends.
func (s *supervisor) supervise(ctx context.Context, loaded <-chan error) error {
	second := time.NewTicker(time.Second)
	defer second.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case err = <-loaded:
		case c := <-s.calls:
			c.do(s)
			close(c.done)
		case <-s.powered:
			s.givePower(ctx, s.serving)
		case h := <-s.hangs:
			err = s.meetHang(h)
		case ended := <-s.ends:
			s.remove(ended)
			err = ended.err
		case <-second.C:
			s.watchMemory(ctx)
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (s *supervisor) task(t task) {
	s.todo = append(s.todo, t)
	token(s.tasks)
}

// setMode pursues another mode, which the backend that serves must have.
func (s *supervisor) setMode(ctx context.Context, mode governor.Mode) error {
	if b := s.serving; b != nil {
		if err := b.lacks(mode); err != nil {
			return err
		}
		if err := b.pipe.SetMode(ctx, mode); err != nil {
			return err
		}
	}
	s.target = mode
	s.publish()
	return nil
}

// setTarget gives a backend the mode that is pursued.
func (s *supervisor) setTarget(ctx context.Context, b *backend) {
	mode := s.target
	if err := b.lacks(mode); err != nil {
		s.log.Warn("mode not usable, balanced is used", "err", err)
		s.tellFault(fmt.Sprintf("mode %s: %s is not among the members in use on %s; balanced is used until it is",
			mode, mode.Member(), b.loader.Variant()))
		mode = governor.Mode{}
	}
	if err := b.pipe.SetMode(ctx, mode); err != nil && ctx.Err() == nil {
		s.log.Error("mode not set", "mode", mode.String(), "err", err)
	}
	s.givePower(ctx, b)
}

// givePower tells a backend, if there is one, what inferences cost.
func (s *supervisor) givePower(ctx context.Context, b *backend) {
	w := s.power.Load()
	if w == nil || b == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, askPatience) // an inference may hang
	defer cancel()
	if err := b.pipe.SetPower(ctx, *w); err != nil {
		s.log.Debug("power not told", "err", err)
	}
}

// handOver gives every job from now on to a backend that runs, and lets the one
// before it answer what it has: what the view names is never a pipeline that was
// closed.
func (s *supervisor) handOver(ctx context.Context, next *backend) {
	s.setTarget(ctx, next)
	old := s.serving
	s.serving = next
	s.publish()
	if old != nil {
		s.retire(old)
	}
}

// takeOver starts a backend that is ready and gives it every job from now on. All of
// its members are in use before: one that a job asks for must not seem to lack.
func (s *supervisor) takeOver(ctx context.Context, next *backend) {
	s.start(ctx, next)
	for at, session := range next.sessions {
		if session != nil && next.pipe.Use(ctx, at, session) != nil {
			return // the engine stops, or next has ended and Run returns why
		}
	}
	next.able = true
	s.fault, s.failed = nil, ""
	s.handOver(ctx, next)
}

// succeed is takeOver by a backend of another family: of the one before, none stays.
func (s *supervisor) succeed(ctx context.Context, next *backend) (took bool) {
	s.takeOver(ctx, next)
	if s.serving != next {
		return false
	}
	s.loading = false
	s.publish()
	for _, b := range s.live {
		if b != next {
			s.retire(b)
		}
	}
	return true
}

// logsTo tells in which of two files a backend is to log that serves beside those that
// do now: not in that of one on the same variant.
func (s *supervisor) logsTo(next *backend) (again bool) {
	for _, b := range s.live {
		if b.loader.Variant() == next.loader.Variant() {
			again = !b.again
		}
	}
	return again
}

// use takes a member of a backend into use. A backend whose first member that is
// takes over. Its error is ctx's, or that the pipeline has ended; the session ends
// with the backend.
func (s *supervisor) use(ctx context.Context, b *backend, at int, session family.Session) error {
	b.sessions[at] = session
	if err := b.pipe.Use(ctx, at, session); err != nil {
		if ctx.Err() == nil {
			s.log.Error("member not taken into use", "member", b.member(at).Name, "err", err)
		}
		return err
	}
	b.able, s.fault = true, nil
	if s.serving != b {
		s.handOver(ctx, b)
	}
	s.publish()
	return nil
}

// wants tells whether a member of a backend is to be loaded; one that is not the
// first, and for which memory is short, is evicted instead.
func (s *supervisor) wants(ctx context.Context, b *backend, at int, optional bool) bool {
	if b.evicted[at] != nil || !optional {
		return b.evicted[at] == nil
	}
	m := s.deps.Machine.Memory()
	why := short(m)
	if why != "" {
		s.evict(ctx, b, at, m, why)
	}
	return why == ""
}

// loaded takes a member into use that was loaded, or notes why that cannot be.
func (s *supervisor) loaded(ctx context.Context, b *backend, at int, session family.Session, fault error) (used bool) {
	if fault == nil {
		return s.use(ctx, b, at, session) == nil
	}
	name := b.member(at).Name
	s.log.Error("member not usable", "member", name, "err", fault)
	s.tellFault(fmt.Sprintf("member %s cannot be used: %v", name, fault))
	b.evicted[at] = newBroken(fault)
	s.publish()
	return false
}

// allLoaded notes that the members of a backend were loaded, as far as they can be.
// Where none could, and it was not for want of room on the disk, which is tried
// again, the device refuses jobs until the next start.
func (s *supervisor) allLoaded(b *backend) {
	s.loading = false
	defer s.publish()
	if s.serving != b || b.inUse() > 0 {
		return
	}
	why := errors.New("a release on trial gives way to the one before; else stop the agent and delete its state " +
		"folder to build it anew")
	if b.makesRoom() {
		why = fmt.Errorf("%w; make room, it is tried again", family.ErrNoRoom)
	} else {
		s.serving = nil
		defer b.stop() // once everybody sees that there is none
	}
	s.refuse(fmt.Errorf("no member of family %s can be used: %w", b.family.Name, why))
}

func (s *supervisor) refuse(why error) {
	s.fault = why
	s.log.Error("device refuses jobs", "err", why)
	s.tellFault(why.Error())
	s.publish()
}

// publish shows everybody the state as it is now.
func (s *supervisor) publish() {
	old := s.view.Load()
	now := &view{Status: s.status(), tally: old.tally, backend: s.serving, stale: make(chan struct{})}
	if s.serving != nil {
		now.tally = s.serving.tally
	}
	s.view.Store(now)
	close(old.stale)
	token(s.changed)
	if now.State == Preparing || now.State == Unavailable {
		return
	}
	select {
	case <-s.ready:
	default:
		s.log.Info("ready", "member", s.Status().Operating.Name)
		close(s.ready)
	}
}

func (s *supervisor) status() Status {
	st := s.view.Load().Status
	st.Target, st.Loading, st.Detail = s.target, s.loading, ""
	b := s.serving
	if b == nil {
		st.Profile, st.Members, st.Loading = nil, nil, false
	} else if st.Profile != b.profile {
		st.Family, st.Profile, st.Members, st.Variant = b.family, b.profile, b.members(), b.loader.Variant()
	}
	switch {
	case s.fault != nil:
		st.State, st.Detail = Unavailable, s.fault.Error()
	case b == nil:
		st.State, st.Detail = Preparing, s.progress
	case b.inUse() == 0:
		st.State, st.Detail = Preparing, fmt.Sprintf("preparing: loading the first of %d members", len(b.front))
	default:
		st.State = Ready
		if st.Detail = s.lacking(b); st.Detail != "" {
			st.State = Degraded
		}
	}
	return st
}

// lacking says what keeps the device from all that it could do; empty if nothing
// does.
func (s *supervisor) lacking(b *backend) string {
	var why []string
	if s.failed != "" {
		why = append(why, fmt.Sprintf("%s failed and is tried again; %s serves", s.failed, family.CPU))
	}
	for _, m := range b.profile.Members {
		if m.Fault != "" {
			why = append(why, faultOf(m))
		}
	}
	for at, e := range b.evicted {
		if e != nil {
			why = append(why, fmt.Sprintf("%s is out of use: %s", b.member(at).Name, e.why()))
		}
	}
	return strings.Join(why, "; ")
}
