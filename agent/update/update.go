// Package update takes another family into use while the device works, and goes back
// to the one before by itself if the new one does not prove itself.
//
//	                       window, lock            hand-over               probation
//	fetching ──▶ verified [──▶ shadow] ──▶ locked ──▶ activating ──▶ on trial ──────────▶ committed
//	   └─────────────┴────────────┴───────────┴────────────┘              └─────▶ back
//	             the family before, unchanged                          the family before, again
//
// Where the owner of the device says who must have signed a family, a Signer is asked
// before anything of it comes. Blobs come while the family in use answers. Those of the next one are staged in the
// library; its members are made ready and take over in the engine; only then the
// library has it in use, on trial, and the one before is kept whole until the trial has
// ended. What it must show there: frames answered, few of them late. A command may ask that
// before all that the family is compared with the one in use, on frames that this has
// answered; nobody gets what it says there, and it may end with that.
//
// The rule that makes it correct: the phase is in a cell before it is acted on, and what
// a start finds there, in the library and in the ledger says what is to be done: go on,
// or go back. Every step may be repeated. So the process may be killed anywhere, and a
// family is in use that is whole, the old one or the new one. A start whose command is
// gone goes back, and so does the second start on trial, or in shadow, that no orderly end
// preceded: a family that ends the agent must not do so for ever.
//
// The command is one of package control, which has them alone: its ledger, expiry and
// acknowledgements are as for any other. After a restart the agent hands the stored
// command to itself. Until its expiry it must be activated, and proved as well, or the
// family before is in use again.
package update

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/limber-edge/limber/agent/blob"
	"github.com/limber-edge/limber/agent/control"
	"github.com/limber-edge/limber/agent/engine"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/library"
	"github.com/limber-edge/limber/store"
)

// Config is what the owner of a device says of updates.
type Config struct {
	Folder     string         // of the state, where the lock is
	Window     control.Window // in which a family may be activated
	AllowForce bool           // also outside of it and of the lock, where a command says so
}

// Engine runs a family: an engine.Engine, with a count of the jobs that it was given.
type Engine interface {
	// Replace has another family take over. Its errors are ctx's, a *wire.Refusal, or that
	// the engine has ended, and leave the one before in use.
	Replace(context.Context, engine.Source) error
	// Shadow compares another family with the one in use, and tells what came of it up to now,
	// on the caller's goroutine. Its errors are those of Replace.
	Shadow(context.Context, engine.Source, engine.Comparison, func(engine.Compared)) (engine.Compared, error)
	Tally() Tally
	Status() engine.Status
}

// Tally is what became of the jobs since the family in use took over.
type Tally struct {
	engine.Tally
	// TurnedAway counts jobs that were refused since no member would have been in time: those
	// that a family is too slow for. It is of all families, and only grows.
	TurnedAway uint64
}

// Carrier brings blobs. A blob.Fetcher is one. Errors are ctx's, those of the disk and a
// *wire.Refusal; it waits for who does not answer.
type Carrier interface {
	// Fetch returns a blob that was checked against its digest. progress is called with
	// the bytes that are there.
	Fetch(ctx context.Context, w blob.Wanted, progress func(done int64)) ([]byte, error)
	// Size is how many bytes it has at most.
	Size(ctx context.Context, w blob.Wanted) (atMost int64, err error)
	// Forget removes what came of blobs that are of no use any more.
	Forget(keep func(family.Digest) bool) error
}

// Signer knows what those have signed whom the owner of the device trusts. A repo.Client is
// one.
type Signer interface {
	// May returns nil if a family is signed, and waits while nobody can be asked. Its errors
	// are ctx's, those of the disk and repo.ErrRefused.
	May(ctx context.Context, digest family.Digest) error
}

// Deps are what an Updater works with.
type Deps struct {
	Signer  Signer // nil: families need not be signed
	State   *store.Store
	Library *library.Library
	Engine  Engine
	Carrier Carrier
	Source  func(*family.Family) (engine.Source, error) // of a family in the library
	Free    func() (int64, error)                       // bytes that the file system of the state has left
	Changed func()                                      // Status may read differently; it must not block
	Clock   func() time.Time                            // on the wall: time.Now, but in a test
}

// Status is where updates stand. Nothing in it changes.
type Status struct {
	Step *wire.UpdateStep // of the one under way; nil: none
	Last *wire.LastUpdate // that ended; nil: none
}

// Updater carries out commands for another family, one at a time.
type Updater struct {
	cfg    Config
	deps   Deps
	log    *slog.Logger
	status atomic.Pointer[Status]
}

// New assembles an Updater. It reads the store and starts nothing. Settle comes before.
func New(cfg Config, deps Deps, log *slog.Logger) *Updater {
	u := &Updater{cfg: cfg, deps: deps, log: log}
	var last *wire.LastUpdate
	if b, err := deps.State.Cell(cellLast); err == nil && json.Unmarshal(b, &last) != nil {
		last = nil // unreadable: as on a device that had none
	}
	u.status.Store(&Status{Last: last})
	return u
}

// Status tells where updates stand.
func (u *Updater) Status() Status { return *u.status.Load() }

// Verb is that of package control. The verb that cancels comes with it.
func (u *Updater) Verb() control.Verb {
	return control.Verb{Name: wire.VerbFamily, Class: control.Serial, Prepare: u.prepare}
}

// prepare judges a command. One that an earlier run began is not judged again.
func (u *Updater) prepare(_ context.Context, o control.Order) (control.Action, error) {
	t := &task{Updater: u, update: o.Update, digest: digestOf(*o.Family),
		record: record{ID: o.ID, Payload: o.Payload, Family: *o.Family, Expires: o.Expires}}
	if r, err := load(u.deps.State); err == nil && r.ID == o.ID {
		t.record = *r
	} else if err := u.judge(o, t.digest); err != nil {
		return nil, err
	}
	return t.run, nil
}

// judge says why a command is refused.
func (u *Updater) judge(o control.Order, digest family.Digest) error {
	n, err := u.deps.Library.Names()
	if err != nil {
		return err
	}
	why, failed := failedBefore(u.deps.State, digest)
	switch {
	case o.Force && !u.cfg.AllowForce:
		return wire.Refuse(wire.Unauthorized, "force: this device waits for its window and its update lock; "+
			"its configuration must have updates.allow_force = true")
	case n.Before != nil:
		return wire.Refuse(wire.Locked, "family %s is on trial; restart the agent to have it settled", n.Current.Name)
	case failed && !o.Retry:
		return wire.Refuse(wire.Precondition, "this family failed here before: %s; try it again with retry", why)
	}
	return nil
}

// EndInOrder notes that the agent was not cut off in this run. It is for the end, when
// no command is under way any more.
func (u *Updater) EndInOrder() {
	r, err := load(u.deps.State)
	if err != nil || !r.onTrial() {
		return
	}
	r.Starts--
	if err := r.save(u.deps.State); err != nil {
		u.log.Warn("the end of this run counts against the family on trial", "err", err)
	}
}

// show has the status tell of a step.
func (u *Updater) show(s Status) {
	u.status.Store(&s)
	u.deps.Changed()
}

// stopped tells whether ctx ended since the device stops, and not since the command
// expired or was cancelled.
func stopped(ctx context.Context) bool { return context.Cause(ctx) == context.Canceled }
