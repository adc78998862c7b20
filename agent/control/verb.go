package control

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/store"
)

// Class is what a verb's commands wait for.
type Class int

// The classes of verbs.
const (
	Instant   Class = iota // for one another: they take no longer than an inference
	Serial                 // for those of the same verb; refused while an exclusive one runs
	Exclusive              // for all of this class, and serial ones under way
)

// perSecond is how many commands of a lane are carried out a second, once a burst is
// over: people and their programs order less, and each takes two commits of the store.
func (c Class) perSecond() int { return [...]int{Instant: 50, Serial: 5, Exclusive: 1}[c] }

// Order is a command that may be carried out.
type Order struct {
	wire.Command
	ID       string
	Payload  []byte // as it came
	Received time.Time
	Expires  time.Time // by the clock here
}

// Action carries a command out, under its expiry. It is safe to repeat. An error
// that wraps context.DeadlineExceeded means that it was given up, and one that wraps
// ErrCancelled that it was taken back. Which it is the cause of ctx's end says; that is
// context.Canceled where the device stops.
type Action func(ctx context.Context, c *Course) (Outcome, error)

// Outcome is what an action leaves to do, also where it failed.
type Outcome struct {
	Remember []store.Cell // written in one commit with the last state
	// Undo puts back what was before, where that of "succeeded" failed. With nil that cannot
	// be: it has succeeded, and does so again if the command is repeated
	Undo       func(ctx context.Context)
	Detail     string          // of a success
	Shadow     *wire.Agreement // of a family that was compared
	RolledBack bool            // of a failure: the family or release before is in use again
}

// Verb is what a device can be told to do.
type Verb struct {
	Name  string
	Class Class
	// Most is how many commands may wait; of verbs that share a lane the first one's
	// counts. With 0, unless it is instant, none does: others are refused as locked while
	// one is under way, and that one can be cancelled until it has begun.
	Most int
	// Prepare says what a command does. Its error is a *wire.Refusal, or ctx's at
	// the command's expiry.
	Prepare func(context.Context, Order) (Action, error)
}

// alone tells whether others are refused while one is under way.
func (v Verb) alone() bool { return v.Class != Instant && v.Most == 0 }

// lane is the commands that wait for one another.
type lane struct {
	class   Class
	verbs   map[string]Verb
	waiting chan request
	alone   bool
	course  atomic.Pointer[Course] // of a lane whose commands are alone: of the one under way
	pace    limit                  // of whoever works
	owed    []debt                 // and his: last states that the ledger did not take, the oldest first
}

// debt is a last state of a command that the ledger is still to know, with what is to be
// remembered.
type debt struct {
	known store.Command
	cells []store.Cell
}

// A lane that owes last states tries again so often to record them, and owes so many at
// most: of a flood that a full disk refuses the ledger need not know.
const (
	owedPace = time.Second
	owedMost = 64
)

func (l *lane) owe(d debt) {
	if len(l.owed) < owedMost {
		l.owed = append(l.owed, d)
	}
}

// owes is what the ledger is still to know of a command; false where it is up to date. A
// request that has no lane owes nothing.
func (l *lane) owes(key string) (store.Command, bool) {
	if l == nil {
		return store.Command{}, false
	}
	i := slices.IndexFunc(l.owed, func(d debt) bool { return d.known.ID == key })
	if i < 0 {
		return store.Command{}, false
	}
	return l.owed[i].known, true
}

// pay records in the ledger what is owed. The error is why it still does not take that.
func (l *lane) pay(ledger *store.Store) error {
	for len(l.owed) > 0 {
		if err := ledger.SetCommand(l.owed[0].known, l.owed[0].cells...); err != nil {
			return err
		}
		l.owed = l.owed[1:]
	}
	return nil
}

func (c *Control) makeLanes(verbs []Verb) {
	shared := map[Class]*lane{}
	serial := 0
	for _, v := range verbs {
		l := shared[v.Class]
		if l == nil {
			l = &lane{class: v.Class, verbs: map[string]Verb{}, waiting: make(chan request, max(v.Most, 1)), alone: v.alone(),
				pace: limit{each: every(v.Class.perSecond()), burst: v.Most + 1}} // those that wait, and one under way
			c.lanes = append(c.lanes, l)
		}
		if v.Class == Serial {
			serial++
		} else {
			shared[v.Class] = l
		}
		l.verbs[v.Name], c.verbs[v.Name] = v, l
		c.names = append(c.names, v.Name)
	}
	c.strange = shared[Instant]
	c.free = make(chan struct{}, serial)
	for range serial {
		c.free <- struct{}{}
	}
}

// enter waits until a command of a class may begin; leave is to be called when it
// has ended. Its errors are ctx's and a refusal.
func (c *Control) enter(ctx context.Context, class Class) (leave func(), err error) {
	held := 0
	leave = func() {
		for range held {
			c.free <- struct{}{}
		}
	}
	switch class {
	case Serial:
		select {
		case <-c.free:
			held = 1
		default:
			return nil, wire.Refuse(wire.Locked, "an exclusive command is running")
		}
	case Exclusive:
		for held < cap(c.free) {
			select { // one that an earlier run began, and that is late, finds all free
			case <-c.free:
				held++
				continue
			default:
			}
			select {
			case <-c.free:
				held++
			case <-ctx.Done():
				leave()
				return nil, ctx.Err()
			}
		}
	}
	return leave, nil
}
