package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/limber-edge/limber/agent/frame"
	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/monitor"
	"github.com/limber-edge/limber/agent/pipeline"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/resident"
)

// Shelf makes the members of a family ready on one execution provider. A
// resident.Shelf is one.
type Shelf interface {
	// Session returns member i ready to run. It may take minutes, where an
	// engine is built.
	Session(i int) (family.Session, error)
	// Profile measures sessions in the family's order, nil for those that
	// cannot be used. It stops between two runs when ctx ends, with its error.
	Profile(ctx context.Context, sessions []family.Session) (*family.Profile, error)
	// Pin keeps the weights of member i in memory until they are released. The
	// error says why it may not.
	Pin(i int) (release func() error, err error)
	Variant() family.Variant
}

// crew is the members of the family that are worth using on this device, on one
// execution provider: the Pareto front of their accuracy and of their latency
// as measured there.
type crew struct {
	shelf    Shelf
	family   *family.Family
	profile  *family.Profile
	front    []int            // indices into the family, by rising latency
	sessions []family.Session // by position in front; nil until it is loaded, and while it makes room
	pipe     *pipeline.Pipeline
	line     *lifeline          // what catches a failing execution provider; nil on the CPU
	end      context.CancelFunc // stops the pipeline
	over     chan struct{}      // closed when the pipeline has answered everything
	unpin    func() error       // of the smallest member in use; nil if it is not pinned
	hung     chan int           // members whose run was interrupted, by position in front
	hangs    atomic.Bool        // a session may still be running: none may be freed
	again    bool               // it relieves one on the same provider and threads; and is relieved by one that does not say so

	mu      sync.Mutex // held while a member comes into use or goes out of it
	spared  []*spared  // guarded by mu, by position in front: out of use to make room in memory; nil for others
	retired bool       // guarded by mu: another crew takes over, and nothing is changed here any more
}

// newCrew chooses from sessions, in the family's order or none at all, and
// closes those that are not worth using.
func newCrew(shelf Shelf, f *family.Family, profile *family.Profile, sessions []family.Session) *crew {
	c := &crew{shelf: shelf, family: f, profile: profile, front: profile.Front(f), over: make(chan struct{}),
		hung: make(chan int, hangsMost)}
	c.sessions, c.spared = make([]family.Session, len(c.front)), make([]*spared, len(c.front))
	for i, s := range sessions {
		if at := slices.Index(c.front, i); at >= 0 {
			c.sessions[at] = s
		} else if s != nil {
			s.Close() // dominated on this device, so never chosen; freeing it cannot be mended if it fails
		}
	}
	return c
}

// member returns the family's entry for a position in front.
func (c *crew) member(at int) *family.Member { return &c.family.Members[c.front[at]] }

// start runs the pipeline until ctx ends, or end is called.
func (c *crew) start(ctx context.Context, g *errgroup.Group) {
	ctx, c.end = context.WithCancel(ctx)
	g.Go(func() error {
		defer close(c.over)
		defer c.end()
		err := c.pipe.Run(ctx)
		if errors.Is(err, pipeline.ErrHung) {
			c.hangs.Store(true)
		}
		return err
	})
}

// retire keeps members from coming and going, for good.
func (c *crew) retire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.retired = true
}

// finish lets the crew answer what it has, then frees it. It must be retired.
func (c *crew) finish(ctx context.Context) {
	c.pipe.Drain(ctx)
	c.end()
	<-c.over
	c.close()
}

// load makes the member at a position in front ready, if it is not.
func (c *crew) load(at int) error {
	if c.sessions[at] != nil {
		return nil
	}
	s, err := c.shelf.Session(c.front[at])
	if err != nil {
		return err
	}
	c.sessions[at] = c.line.hold(s, c.front[at])
	return nil
}

// free closes the session of a member that is out of use. mu is held.
func (c *crew) free(at int) {
	c.sessions[at].Close() // freeing memory: nothing a caller could do about it
	c.sessions[at] = nil
}

// close frees the sessions, once nothing runs them any more.
func (c *crew) close() {
	if c == nil || c.hangs.Load() {
		return
	}
	for _, s := range c.sessions {
		if s != nil {
			s.Close() // freeing memory: nothing a caller could do about it
		}
	}
	if c.unpin != nil {
		c.unpin() // likewise
	}
}

// pin keeps the member at a position in front in memory.
func (c *crew) pin(at int) (err error) {
	c.unpin, err = c.shelf.Pin(c.front[at])
	return err
}

// muster chooses the crew by this device's profile, which it takes if there is
// none that fits. Without a runtime, or when no member can be used, the device
// stays up, says so and refuses jobs; that is not an error.
func (a *Agent) muster(ctx context.Context, mode governor.Mode) error {
	if a.parts.Shelf == nil {
		a.log.Error("no runtime", "err", a.parts.Fault)
		return nil
	}
	a.measureWide(ctx)
	profile, sessions, err := a.profile(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		a.parts.Fault = err
		a.log.Error("no member can be used", "err", err)
		return nil
	}
	return a.form(profile, sessions, mode)
}

// form makes a crew of what a profile says, the one in use.
func (a *Agent) form(profile *family.Profile, sessions []family.Session, mode governor.Mode) error {
	c := newCrew(a.parts.Shelf, a.parts.Family, profile, sessions)
	if err := a.lay(c, mode); err != nil {
		c.close()
		return err
	}
	a.boarding.Store(true)
	a.crew.Store(c)
	return nil
}

// man lets the first crew work, loads its members, and keeps them as many and as
// fast as the machine allows.
func (a *Agent) man(ctx context.Context, g *errgroup.Group, c *crew) {
	a.work(ctx, g, c)
	g.Go(func() error { return a.economise(ctx) })
	g.Go(func() error {
		if err := a.board(ctx, c); err != nil {
			return err
		}
		serving, err := a.complete(ctx, g, c)
		if err != nil {
			return err
		}
		return a.relieve(ctx, g, serving)
	})
}

// lay makes the crew's pipeline. A mode that names a member of an earlier
// family must not keep the device from working: balanced takes its place.
func (a *Agent) lay(c *crew, mode governor.Mode) (err error) {
	cfg := pipeline.Config{Classes: len(a.parts.Family.Classes), Preprocess: a.parts.Preprocess, Mode: mode,
		Decoder:    frame.Decoder{MaxPixels: frame.DefaultPixels, Upright: a.cfg.Frames.Orientation == OrientEXIF},
		Processors: max(0, a.parts.Cores-c.shelf.Variant().Threads),
		QueueJobs:  a.cfg.Jobs.Queue, QueueBytes: a.cfg.Jobs.QueueMiB << 20, Cascade: a.cfg.Governor.Cascade, Log: a.decisionLog(c), Account: &a.account}
	for _, i := range c.front {
		cfg.Members = append(cfg.Members, frontMember(c.family, c.profile, i))
	}
	c.pipe, err = pipeline.New(cfg, switches{a, c})
	if err != nil {
		a.log.Warn("mode not usable, balanced is used", "err", err)
		cfg.Mode = governor.Mode{}
		c.pipe, err = pipeline.New(cfg, switches{a, c})
	}
	if err == nil {
		a.recall(c)
	}
	return err
}

func frontMember(f *family.Family, p *family.Profile, i int) pipeline.Member {
	took := func(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }
	of := &f.Members[i]
	m := pipeline.Member{R: of.Arch.R, Probabilities: of.Outputs == family.Probabilities, Member: governor.Member{
		Name: of.Name, Top1: of.Top1, Latency: took(p.Members[i].P50ms)}}
	if p.Batch == governor.Batch {
		m.Batch = took(p.Members[i].Batch)
	}
	return m
}

// board loads the members of the first crew. When there is none at all, the
// pipeline is ended and the device refuses jobs.
func (a *Agent) board(ctx context.Context, c *crew) error {
	defer a.boarding.Store(false)
	ready, err := a.enlist(ctx, c, func(first string) {
		close(a.ready)
		a.log.Info("ready", "member", first)
	})
	if err == nil && ready == 0 {
		a.tellNone(c)
	}
	return err
}

// tellNone says that no member could be loaded. Where the disk was full they are
// tried again, and one may be in use already; else the pipeline ends.
func (a *Agent) tellNone(c *crew) {
	c.mu.Lock()
	defer c.mu.Unlock()
	inUse := func(s family.Session) bool { return s != nil }
	if at := slices.IndexFunc(c.sessions, inUse); at >= 0 {
		a.haveFirst(c, at)
		return
	}
	why := errors.New("stop the agent and delete its state folder to build it anew")
	full := slices.ContainsFunc(c.spared, func(s *spared) bool { return s != nil })
	if full {
		why = fmt.Errorf("%w; make room, it is tried again", resident.ErrNoRoom)
	} else {
		c.end()
	}
	err := fmt.Errorf("no member of family %s can be used: %w", a.parts.Family.Name, why)
	a.noCrew.Store(&err)
	a.log.Error("device refuses jobs", "err", err)
	a.fault(err.Error())
}

// enlist loads a crew's members, the smallest first so that the first answer
// does not wait for the largest, and hands each to the pipeline when it is
// ready. It calls first with the name of the first, which stays in memory
// whatever happens there: it is the one to fall back on. Where memory is short it
// stops after that one. It returns how many are in use; its error is ctx's.
func (a *Agent) enlist(ctx context.Context, c *crew, first func(name string)) (ready int, err error) {
	for at := range c.front {
		used, err := a.enlistOne(ctx, c, at, ready > 0)
		if err != nil {
			return ready, err
		}
		if !used {
			continue
		}
		if ready++; ready > 1 {
			continue
		}
		first(c.member(at).Name)
		if err := c.pin(at); err != nil {
			a.log.Warn("smallest member may leave memory", "member", c.member(at).Name, "err", err)
		}
	}
	return ready, nil
}

// enlistOne loads one member and hands it to the pipeline; false means that it
// cannot be used, or is spared because memory is short or the disk full.
func (a *Agent) enlistOne(ctx context.Context, c *crew, at int, optional bool) (used bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.spared[at] != nil {
		return false, nil
	}
	if m := a.parts.Machine.Memory(); optional {
		if why := short(m); why != "" {
			return false, a.spare(ctx, c, at, m, why)
		}
	}
	if err := c.load(at); err != nil {
		a.log.Error("member not usable", "member", c.member(at).Name, "err", err)
		a.fault(fmt.Sprintf("member %s cannot be used: %v", c.member(at).Name, err))
		if isFull(err) {
			c.spared[at] = newSpared(monitor.Memory{})
			c.spared[at].full = true
			c.spared[at].failed(time.Now())
		}
		return false, nil
	}
	return true, c.pipe.Use(ctx, at, c.sessions[at])
}

// unfit says why the device cannot infer at all; nil when it can.
func (a *Agent) unfit() error {
	if err := a.noCrew.Load(); err != nil {
		return *err
	}
	if a.crew.Load() == nil {
		return a.parts.Fault
	}
	return nil
}
