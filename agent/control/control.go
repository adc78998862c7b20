// Package control decides what a device pursues, and carries out what operators
// order.
//
//	command ─▶ lane ─▶ ledger ─▶ Prepare ─▶ [executing] ─▶ Action ─▶ [last state, cells] ─▶ answer
//	                     │                                   │ mode, goal
//	                     └ done before: answered again       ▼
//	desired ─▶ may the target have it? ───────────────────▶ aims ─▶ Target
//	clock, once a second ─────────────────────────────────▶
//
// What is in brackets is one commit of the store: a command has two. The one rule:
// what a command does is recorded before it is acted on, and what cannot be recorded
// is not acted on, so a power cut repeats a command and never forgets one. Every
// action must therefore be safe to repeat. Where the last commit fails, what was
// before is put back and the command has failed; what cannot be put back has succeeded.
//
// A verb has a class. Instant ones have a lane together, each serial one has a lane
// of its own, so that one which hangs holds up nobody else; exclusive ones wait for
// the serial ones under way, and keep others from beginning. Whatever the class, a
// command has until its expiry: what is not done then is given up and not done later.
// A verb that is not instant may have its commands alone: one that comes while another is under way
// is refused, and the one under way tells how far it is and can be cancelled, until
// it says itself that it has begun. What a cut leaves of one goes back to its verb, be it
// late or the disk full: nobody else knows what is to be undone.
// Each class has a pace as well: a burst is carried out at once, and of a flood so many
// a second. What finds no room to wait is refused, and of what is refused only so much
// is answered, so that a flood of orders holds up no results. The rest is counted.
//
// The device pursues what an operator ordered last, by command or desired state, or
// what the schedule did, whichever was later by the clock on the wall; without
// either, the mode of the configuration. All that is one goroutine's, the aims'. It
// never waits for members that are being prepared: what they can do is asked by
// others, which hand it the answer. Commands for modes and goals wait for one another,
// since the last one counts, and so do desired states; neither waits for the other, nor
// the schedule for them. A desired state that had to wait does not undo an order that
// came after it.
//
// A desired state is applied when its version is greater than the last one applied,
// whatever the place of either (the device itself, or one of its groups): what a
// broker retains comes in any order, and must end in the same.
package control

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/uplink"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/store"
)

// Config is what a Control goes by.
type Config struct {
	Self     wire.Address
	Mode     string // pursued where nobody ordered another
	Schedule Schedule
}

// Target pursues a mode: the engine, or a test's.
type Target interface {
	// SetMode makes it the one that is pursued from now on, also by members that
	// are not ready yet, for which it does not wait. It may wait for an inference.
	// Its errors are ctx's and a *wire.Refusal, and leave the mode before in force.
	SetMode(context.Context, governor.Mode) error
	// Feasible tells whether the members in use can give what a mode asks for. It
	// waits while they are prepared or loaded, but not for a mode that names
	// neither a member nor figures. Its errors are ctx's and a *wire.Refusal; where
	// that is infeasible, nearest is the goal that can be had, zero for none.
	Feasible(context.Context, governor.Mode) (nearest governor.Goal, err error)
}

// Events are told of what happens: the uplink's. Neither blocks.
type Events interface {
	Event(wire.Severity, wire.Event)       // at most one of a kind a second
	EventAtOnce(wire.Severity, wire.Event) // each
}

// Deps are what a Control works with.
type Deps struct {
	State  *store.Store
	Events Events
	// Offset is by how much the clock here is behind that of operators, by which their
	// expires_at is meant; ok is false where that is not known.
	Offset  func() (behind time.Duration, ok bool)
	Changed func() // the report may read differently, be it by what is in force; it must not block
}

// Status is where control stands.
type Status struct {
	Reported wire.Reported // what became of the last order; what is in force is left to others
	Newest   uint64        // version of the desired state last applied; 0 if none
}

// Control carries out orders. Its methods may be called from any goroutine.
type Control struct {
	cfg    Config
	state  *store.Store
	log    *slog.Logger
	offset func() (behind time.Duration, ok bool)

	aims     *aims
	names    []string // of the verbs
	verbs    map[string]*lane
	lanes    []*lane
	strange  *lane         // of verbs that are not known
	free     chan struct{} // a token for each serial lane that does nothing
	overflow chan request  // commands that found no room in their lane
	refusals *refusals
}

// New assembles a Control that obeys modes, goals and the verbs given. It reads the
// store and starts nothing.
func New(cfg Config, deps Deps, verbs []Verb, log *slog.Logger) *Control {
	c := &Control{
		cfg: cfg, state: deps.State, log: log, offset: deps.Offset,
		aims:     newAims(cfg, deps, log),
		verbs:    make(map[string]*lane),
		overflow: make(chan request, ordersMost),
		refusals: newRefusals(deps.Events),
	}
	c.makeLanes(append(c.aims.verbs(), append(verbs, c.cancelVerbs(verbs)...)...))
	return c
}

// Start is the mode to begin with: the target's until Run.
func (c *Control) Start() governor.Mode { return c.aims.start() }

// Run has a target pursue what is wanted, and obeys, until ctx ends. A command under
// way then is left to the next start. It may be called once, after Start.
func (c *Control) Run(ctx context.Context, t Target) error {
	c.aims.target = t
	var parts sync.WaitGroup
	parts.Go(func() { c.aims.run(ctx) })
	parts.Go(func() { c.turnAway(ctx) })
	for _, l := range c.lanes {
		parts.Go(func() { c.work(ctx, l) })
	}
	parts.Wait()
	return nil
}

// Verbs are the names of what the device obeys.
func (c *Control) Verbs() []string { return slices.Clone(c.names) }

// Status tells what became of the last order.
func (c *Control) Status() Status { return *c.aims.status.Load() }

// Counts are the totals so far.
func (c *Control) Counts() Counts {
	return Counts{Refused: c.refusals.all.Load(), Unanswered: c.refusals.unanswered.Load()}
}

// Command takes a command. It does not block.
func (c *Control) Command(r *uplink.Request) { c.take(requestOf(r)) }

// Desired takes a desired state. It does not block.
func (c *Control) Desired(r *uplink.Request) { c.aims.put(requestOf(r)) }

func joined(names []string) string { return strings.Join(names, ", ") }
