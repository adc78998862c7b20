package control

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/store"
)

// ErrCancelled is the cause of a context's end where the command was taken back.
var ErrCancelled = errors.New("it was cancelled")

// ErrLeft is of an action that the next start is to go on with: the command is handed in
// again there, and has no last state here.
var ErrLeft = errors.New("it is left to the next start")

// Course is the way of a command whose verb has its commands alone: what it tells
// meanwhile, and whether it may still be taken back.
type Course struct {
	id    string
	state atomic.Int32  // of open, begun and cancelled
	ended chan struct{} // closed when it is cancelled
	news  chan news
}

// news is how far a command is, and what came of comparing its family, if that is done.
type news struct {
	progress wire.Progress
	shadow   *wire.Agreement
}

// The states of a Course.
const (
	open int32 = iota
	begun
	cancelled
)

func newCourse(id string) *Course {
	return &Course{id: id, ended: make(chan struct{}), news: make(chan news, 1)}
}

// Tell tells how far the command is, and what came of a comparison up to now, if there is
// one; at most once a second and only while the link is up: the latest wins. It does not
// block.
func (c *Course) Tell(p wire.Progress, shadow *wire.Agreement) {
	for {
		select {
		case c.news <- news{p, shadow}:
			return
		default:
		}
		select {
		case <-c.news: // nobody wants it any more
		default:
		}
	}
}

// Begin has the command go on to its end whatever is cancelled from now on; false
// where it was cancelled before.
func (c *Course) Begin() bool {
	return c.state.CompareAndSwap(open, begun) || c.state.Load() == begun
}

// cancel takes the command back; false where it has begun.
func (c *Course) cancel() bool {
	if c.state.CompareAndSwap(open, cancelled) {
		close(c.ended)
	}
	return c.state.Load() == cancelled
}

// follow carries a command out and tells how far it is, as often as that is new.
func (c *Control) follow(ctx context.Context, l *lane, r request, o Order, act Action) (Outcome, error) {
	course := l.course.Load()
	if course == nil {
		return act(ctx, newCourse(r.ID))
	}
	if c.wasCancelled(r.ID) {
		course.cancel()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var watch sync.WaitGroup
	watch.Go(func() { c.tell(ctx, r, course.news) })
	watch.Go(func() { cancel(c.ending(ctx, course, o)) })
	defer watch.Wait()
	defer cancel(nil)
	return act(ctx, course)
}

// lookPace is how often the clock is looked at while a command is carried out.
const lookPace = time.Minute

// ending waits for what ends a command early. The clock may have been set since its
// expiry was taken from it, by decades where it keeps no time without power.
func (c *Control) ending(ctx context.Context, course *Course, o Order) error {
	look := time.NewTicker(lookPace)
	defer look.Stop()
	for {
		select {
		case <-course.ended:
			return ErrCancelled
		case <-ctx.Done():
			return ctx.Err()
		case <-look.C:
		}
		if behind, ok := c.offset(); ok && o.ExpiresAt != nil && !time.Now().Add(behind).Before(o.ExpiresAt.Time) {
			return context.DeadlineExceeded
		}
	}
}

// progressPace is the least time between two acknowledgements that tell of progress.
const progressPace = time.Second

// tell acknowledges how far a command is until ctx ends.
func (c *Control) tell(ctx context.Context, r request, course <-chan news) {
	for {
		select {
		case n := <-course:
			ack := c.ack(r, wire.CommandExecuting, nil)
			ack.Progress, ack.Shadow = &n.progress, n.shadow
			r.reply.Tell(c.topic(r), encode(ack))
		case <-ctx.Done():
			return
		}
		select {
		case <-time.After(progressPace):
		case <-ctx.Done():
			return
		}
	}
}

// cellCancelled holds the id of the command that was cancelled last, so that a cut
// between the ends of the two does not forget it.
const cellCancelled = "cancelled"

func (c *Control) wasCancelled(id string) bool {
	b, err := c.state.Cell(cellCancelled)
	return err == nil && string(b) == id
}

// cancelVerbs is the verb that takes others back, where any of them can be.
func (c *Control) cancelVerbs(verbs []Verb) []Verb {
	if !slices.ContainsFunc(verbs, Verb.alone) {
		return nil
	}
	return []Verb{{Name: wire.VerbCancel, Class: Instant, Most: ordersMost,
		Prepare: func(_ context.Context, o Order) (Action, error) {
			return func(context.Context, *Course) (Outcome, error) { return c.cancel(o.Cancel) }, nil
		}}}
}

// cancel takes a command back.
func (c *Control) cancel(id string) (Outcome, error) {
	for _, l := range c.lanes {
		course := l.course.Load()
		switch {
		case course == nil || course.id != id:
		case !course.cancel():
			return Outcome{}, wire.Refuse(wire.Precondition, "command %s is being carried out: it ends by itself", id)
		default:
			return Outcome{Remember: []store.Cell{{Name: cellCancelled, Value: []byte(id)}}}, nil
		}
	}
	return Outcome{}, wire.Refuse(wire.Precondition, "no command %s is under way that could be cancelled", id)
}
