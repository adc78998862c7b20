package engine

import (
	"context"
	"fmt"
	"runtime"
	"syscall"
	"time"

	"github.com/limber-edge/limber/family"
)

// beside makes members ready while those of another family answer jobs: in the room
// that these leave, a little at a time, and measured as if they did not.
type beside struct {
	Loader
	family  *family.Family
	serving *loader      // of the other family
	room    func() error // waits for some; the error says why there is none
	duty    *duty
}

// Session is the loader's, where there is room for it.
func (b *beside) Session(i int) (family.Session, error) {
	if err := b.room(); err != nil {
		return nil, err
	}
	b.duty.begin()
	defer b.duty.rest()
	return b.Loader.Session(i)
}

// Profile is the loader's, less what comes of the jobs that are answered meanwhile. In
// its pauses it rests.
func (b *beside) Profile(ctx context.Context, sessions []family.Session, _ func()) (*family.Profile, error) {
	b.serving.tellMeasuring(b.family)
	before := b.serving.strain(ctx, b.duty)
	p, err := b.Loader.Profile(ctx, sessions, b.duty.rest)
	if err != nil {
		return nil, err
	}
	scale := 2 / (before + b.serving.strain(ctx, b.duty))
	for i := range p.Members {
		m := &p.Members[i]
		m.P50ms, m.P95ms, m.Batch = scale*m.P50ms, scale*m.P95ms, scale*m.Batch
	}
	return p, nil
}

// prepareBeside makes the members of a family ready while another loader's serves, each
// where there is room for it.
func (l *loader) prepareBeside(ctx context.Context, serving *loader, room func() error) (prepared, error) {
	d := newDuty(l.cfg.Rest, ctx.Done(), serving.tally.answered)
	on := func(made Loader) *beside { return &beside{made, l.deps.Family, serving, room, d} }
	l.measureMulti(ctx, on(l.multi), func(int) {})
	return l.members(ctx, on(l.base), true, func(i int) { serving.tellNext(l.deps.Family, i) })
}

// roomFor returns what waits until memory is not short, while the supervisor takes
// members of this loader's family out of use, the largest first. Where the last one is
// left and that was in vain, it waits no more, and its error wraps errShort. Else it is
// ctx's.
func (l *loader) roomFor(ctx context.Context) func() error {
	none := false
	return func() error {
		for since := time.Now(); ; {
			var spare bool
			l.do(func(s *supervisor) { spare = s.serving != nil && s.serving.dispensable() >= 0 })
			why := short(l.deps.Machine.Memory())
			switch {
			case why == "":
				return nil
			case spare: // one goes at the next look
				since = time.Now()
			case none || time.Since(since) > stallMemory:
				none = true
				return fmt.Errorf("%w: %s", errShort, why)
			}
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

// strain measures the smallest member of this loader's family, and compares that with
// its profile: how many times longer an inference takes than on the idle device. It is
// 1 where that cannot be had.
func (l *loader) strain(ctx context.Context, d *duty) float64 {
	if l.base == nil {
		return 1
	}
	p, err := StoredProfile(&l.deps, l.base)
	if p == nil || err != nil {
		return 1
	}
	i := p.Front(l.deps.Family)[0]
	sessions := make([]family.Session, len(p.Members))
	if sessions[i], err = l.base.Session(i); err != nil {
		return 1
	}
	defer sessions[i].Close() // freeing memory: nothing a caller could do about it
	d.rest()
	now, err := l.base.Profile(ctx, sessions, d.rest)
	if err != nil {
		return 1
	}
	return max(1, now.Members[i].P50ms/p.Members[i].P50ms)
}

// niceness is how far a thread that prepares a family, or brings a release, stands back behind
// those that answer jobs: where they want all processors, it gets a tenth of one.
const niceness = 10

// LowerPriority has the goroutine that calls it yield the processor to all others, until
// it ends, and its thread with it.
func LowerPriority() {
	runtime.LockOSThread()
	// Where the system does not allow it, work is done at the usual priority.
	_ = syscall.Setpriority(syscall.PRIO_PROCESS, syscall.Gettid(), niceness)
}
