package engine

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/pipeline"
	"github.com/limber-edge/limber/family"
)

// backend is the members of the family that are worth using on this device, on one
// variant: the Pareto front of their accuracy and of their latency as measured
// there.
type backend struct {
	*tally   // of its family
	loader   Loader
	profile  *family.Profile
	front    []int // indices into the family, by rising latency
	pipe     *pipeline.Pipeline
	fallback *fallback // what catches a failing execution provider; nil on the CPU
	again    bool      // it takes over from one on the same variant that is none of these

	// ahead brings the first session, which is made while the pipeline is; nil where
	// none is made so, and once it was taken.
	ahead chan made

	life

	// The supervisor's once the backend is started, the loader's before, by position
	// in front.
	sessions []family.Session // nil until it is loaded, and while it is evicted
	evicted  []*evicted       // nil for those that are not
	unpin    func() error     // of the smallest member in use; nil if it is not pinned
}

// life is that of a backend's pipeline.
type life struct {
	stop func()        // ends the pipeline; nil until it is started
	over chan struct{} // closed when the pipeline has answered everything
	err  error         // that it ended with; set before over is closed
	hung atomic.Bool   // a session may still be running: none may be freed

	// The supervisor's:
	able bool // a member is in use, of which one stays so
	quit bool // it answers what it has, and ends
}

// newBackend chooses from members that were made ready, with a fallback or nil, and
// closes those that are not worth using.
func newBackend(l Loader, of *tally, p prepared, f *fallback) *backend {
	b := &backend{loader: l, tally: of, profile: p.profile, front: p.profile.Front(of.family), fallback: f,
		life: life{over: make(chan struct{})}}
	b.sessions, b.evicted = make([]family.Session, len(b.front)), make([]*evicted, len(b.front))
	for i, s := range p.sessions {
		if at := slices.Index(b.front, i); at >= 0 {
			b.sessions[at] = f.hold(s, i)
		} else if s != nil {
			s.Close() // dominated on this device, so never chosen; freeing it cannot be mended if it fails
		}
	}
	return b
}

// member returns the family's entry for a position in front.
func (b *backend) member(at int) *family.Member { return &b.family.Members[b.front[at]] }

// best is the most accurate member.
func (b *backend) best() *family.Member { return b.member(len(b.front) - 1) }

func (b *backend) provider() string { return b.loader.Variant().Provider }

// members are those worth using with what they take.
func (b *backend) members() (all []Member) {
	for at, i := range b.front {
		all = append(all, Member{b.member(at), b.profile.Members[i]})
	}
	return all
}

// inUse counts the members that have a session.
func (b *backend) inUse() (n int) {
	for _, s := range b.sessions {
		if s != nil {
			n++
		}
	}
	return n
}

// makesRoom tells whether members are evicted that come back.
func (b *backend) makesRoom() bool {
	return slices.ContainsFunc(b.evicted, func(e *evicted) bool { return e != nil && e.cause != broken })
}

// load makes a session of the member at a position in front.
func (b *backend) load(at int) (family.Session, error) {
	var m made
	if at == 0 && b.ahead != nil {
		m, b.ahead = <-b.ahead, nil
	} else {
		m.session, m.err = b.loader.Session(b.front[at])
	}
	return b.fallback.hold(m.session, b.front[at]), m.err
}

// made is what came of making a session.
type made struct {
	session family.Session
	err     error
}

// loadAhead begins to make the first session, which the first answer waits for.
func (b *backend) loadAhead() {
	ahead := make(chan made, 1)
	b.ahead = ahead
	go func() {
		s, err := b.loader.Session(b.front[0])
		ahead <- made{s, err}
	}()
}

// free closes the session of a member that is out of use.
func (b *backend) free(at int) {
	b.sessions[at].Close() // freeing memory: nothing a caller could do about it
	b.sessions[at] = nil
}

// close frees the sessions, once nothing runs them any more.
func (b *backend) close() {
	if b.hung.Load() {
		return
	}
	if b.ahead != nil {
		if m := <-b.ahead; m.session != nil {
			m.session.Close() // as in free
		}
	}
	for at, s := range b.sessions {
		if s != nil {
			b.free(at)
		}
	}
	if b.unpin != nil {
		b.unpin() // likewise
	}
}

// running are the backends whose pipelines run. It belongs to the supervisor.
type running struct {
	live     []*backend
	ends     chan *backend // of which the pipeline has ended
	draining sync.WaitGroup
}

// start runs a backend's pipeline until it is stopped.
func (r *running) start(ctx context.Context, b *backend) {
	ctx, b.stop = context.WithCancel(context.WithoutCancel(ctx))
	r.live = append(r.live, b)
	go func() {
		b.err = b.pipe.Run(ctx)
		if errors.Is(b.err, ErrHung) {
			b.hung.Store(true)
		}
		close(b.over)
		r.ends <- b
	}()
}

// retire lets a backend answer what it has, then ends it. Jobs go to another one by
// now; so do those that wait for a member of one that has none in use, which ends at
// once.
func (r *running) retire(b *backend) {
	if b.quit {
		return
	}
	b.quit = true
	if !b.able {
		b.stop()
		return
	}
	r.draining.Go(func() {
		b.pipe.Drain(context.Background()) // ends with the pipeline at the latest
		b.stop()
	})
}

// remove frees a backend whose pipeline has ended.
func (r *running) remove(b *backend) {
	b.stop()
	b.close()
	r.live = slices.DeleteFunc(r.live, func(other *backend) bool { return other == b })
}

// stop ends all pipelines, without waiting for them.
func (r *running) stop() {
	for _, b := range r.live {
		b.stop()
	}
}

// free ends all pipelines and frees the backends. It joins the errors of those that
// did not end as they should.
func (r *running) free() (err error) {
	r.stop()
	for len(r.live) > 0 {
		ended := <-r.ends
		r.remove(ended)
		err = errors.Join(err, ended.err)
	}
	r.draining.Wait()
	return err
}

// pipelineMember is what a pipeline knows of member i.
func pipelineMember(f *family.Family, p *family.Profile, i int) pipeline.Member {
	took := func(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }
	of := &f.Members[i]
	m := pipeline.Member{R: of.Arch.R, Probabilities: of.Outputs == family.Probabilities, Member: governor.Member{
		Name: of.Name, Top1: of.Top1, Latency: took(p.Members[i].P50ms)}}
	if p.Batch == governor.Batch {
		m.Batch = took(p.Members[i].Batch)
	}
	return m
}
