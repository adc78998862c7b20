// Package release has another release of the program run on a device, and the one before
// again if it does not prove itself.
//
//	            the program that runs                         the next one
//	fetching ──▶ verified ──▶ locked ──▶ activating ──▶ │ ──▶ trial ──▶ confirmed
//	   └────────────┴────────────┘                      │       │
//	      nothing happened                              │       └──▶ it ends with a reason
//	                                                    │
//	rolled back ◀── a link where the next one had none ◀┤ the program before, again
//	undecided ◀──── no link either: tried once more ◀───┘
//
// What is fetched is signed, by version and digest of its manifest, or it is refused. The
// files of the release that runs are taken from its slot, the others are blobs. Jobs have
// the processors first: the thread that brings and writes them stands back.
//
// Which program runs is not decided here: package slot records it, and limber-boot acts on
// that once this process has ended, see End. A trial that hangs or crashes is ended by
// limber-boot; all else that a release must show it shows to itself, beside its work: the
// state of the one before, its members' canaries, frames answered, a broker, and a record
// that got there.
//
// A broker that cannot be reached may be nobody's fault. So the program before has as long
// as the trial had to reach one: if it does, the release is refused, and if not it is
// undecided, and tried again when there is a link.
//
// The state of a release can be read by the one before, but for that of a one-way release:
// before such a one opens it, it is copied, and put back where the one before runs again.
//
// The rule that makes it correct: the phase is on the disk before it is acted on, with the
// command that asked for it. What a start finds there is handed in again and goes on, or it
// is told how it ended: in the ledger first, then by an event. That it was told is recorded
// last, and the command forgotten, so that an end is told twice rather than never.
package release

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/limber-edge/limber/agent/blob"
	"github.com/limber-edge/limber/agent/control"
	"github.com/limber-edge/limber/agent/engine"
	"github.com/limber-edge/limber/agent/pipeline"
	"github.com/limber-edge/limber/agent/uplink"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/firmware/slot"
	"github.com/limber-edge/limber/store"
)

// Config is what is to be known of a device and its owner.
type Config struct {
	Folder  string         // of the state, where the lock is
	Window  control.Window // in which a release may be activated
	Trial   time.Duration  // that a release has to prove itself
	Sources []string       // URLs below which blobs lie, beside those of a command
	Version string         // of this program
	Arch    string         // as Go names it
	Model   string         // of the board; empty: not known
	Runtime bool           // programs share an ONNX Runtime, so that a release may do without its own
	Started time.Time      // this program, by the running clock
}

// Engine is what a trial asks of an engine.Engine.
type Engine interface {
	Status() engine.Status
	Answered() uint64 // frames, with classes, since the start
	// Submit has a picture answered. It does not block.
	Submit(pipeline.Job, func(*engine.Answer))
}

// Link is the device's to its broker. An uplink.Uplink is one.
type Link interface {
	Status() uplink.Status
	// Keep publishes an event; kept is true when that cannot be lost any more. It does not
	// block.
	Keep(wire.Severity, wire.Event) (kept func() bool)
}

// Signer says which releases may be taken. A repo.Client is one.
type Signer interface {
	// Signed is nil if the manifest of a digest is signed as that of a version. It waits for
	// who does not answer. Its errors are ctx's, those of the disk and repo.ErrRefused.
	Signed(ctx context.Context, version string, manifest family.Digest) error
}

// Carrier brings blobs. A blob.Fetcher is one. Errors are ctx's, those of the disk and a
// *wire.Refusal; it waits for who does not answer.
type Carrier interface {
	// Fetch returns a blob that was checked against its digest.
	Fetch(ctx context.Context, w blob.Wanted, progress func(done int64)) ([]byte, error)
	// FetchFile leaves it in a file.
	FetchFile(ctx context.Context, w blob.Wanted, progress func(done int64)) (file string, err error)
	// Forget removes what came of blobs that are of no use any more.
	Forget(keep func(family.Digest) bool) error
}

// Deps are what an Updater works with.
type Deps struct {
	State    *store.Store
	Slots    *slot.Agent
	Engine   Engine
	Canaries *Canaries // of its members
	Link     Link
	Carrier  Carrier
	Signer   Signer                // nil: nobody may sign, and everything is refused
	Free     func() (int64, error) // bytes that the file system of the state has left
	Changed  func()                // Status may read differently; it must not block
	Clock    func() time.Time      // on the wall: time.Now, but in a test
	// End has the process end in order: with ErrSwitch, or with why this program is not to
	// go on. It does not block.
	End      func(error)
	Stopping <-chan struct{} // closed when it ends
}

// ErrSwitch ends a process when another release of the program is to take over.
var ErrSwitch = errors.New("another release takes over")

// Status is where releases stand. Nothing in it changes.
type Status struct {
	Running wire.Release
	Step    *wire.UpdateStep // of the one under way; nil: none
	Last    *wire.LastUpdate // that ended; nil: none
}

// Updater carries out commands for another release, one at a time.
type Updater struct {
	cfg    Config
	deps   Deps
	log    *slog.Logger
	status atomic.Pointer[Status]
}

// cellLast holds the wire.LastUpdate of releases; empty or absent: there was none.
const cellLast = "release-last"

// New assembles an Updater. It reads the store and the slots and starts nothing.
func New(cfg Config, deps Deps, log *slog.Logger) *Updater {
	u := &Updater{cfg: cfg, deps: deps, log: log}
	s := Status{Running: wire.Release{Version: cfg.Version, Slot: string(deps.Slots.Running())}}
	if r, err := deps.Slots.Release(deps.Slots.Running()); err == nil {
		s.Running.Version, s.Running.Digest = r.Version, r.Digest
	}
	if p, err := deps.Slots.Phase(); err == nil && p.InTrial() && p.Command != nil { // so that none takes it for confirmed
		s.Step = &wire.UpdateStep{ID: p.Command.ID, Release: &wire.Release{Version: p.Version, Digest: p.Digest},
			Step: wire.UpdateTrial}
	}
	if b, err := deps.State.Cell(cellLast); err == nil && json.Unmarshal(b, &s.Last) != nil {
		s.Last = nil // unreadable: as on a device that had none
	}
	u.status.Store(&s)
	return u
}

// Status tells where releases stand.
func (u *Updater) Status() Status { return *u.status.Load() }

// Verb is that of package control. The verb that cancels comes with it.
func (u *Updater) Verb() control.Verb {
	return control.Verb{Name: wire.VerbRelease, Class: control.Exclusive, Prepare: u.prepare}
}

// prepare judges a command. One that an earlier run began is not judged again.
func (u *Updater) prepare(_ context.Context, o control.Order) (control.Action, error) {
	p, err := u.deps.Slots.Phase()
	if err != nil {
		u.log.Warn("phase of the firmware not known", "err", err)
	}
	t := &task{Updater: u, order: o, asked: wire.Release{Version: o.Version, Digest: o.Digest}}
	if p.Command == nil || p.Command.ID != o.ID {
		if err := u.judge(o, &p); err != nil {
			return nil, err
		}
	}
	return t.run, nil
}

// judge says why a command is refused.
func (u *Updater) judge(o control.Order, p *slot.Phase) error {
	switch {
	case u.deps.Signer == nil:
		return noSigner()
	case p.InTrial() || p.Provisional:
		return wire.Refuse(wire.Locked, "release %s is not judged yet", p.Version)
	case p.IsRefused(o.Digest) && !o.Retry:
		return wire.Refuse(wire.Precondition, "this release failed here before%s; try it again with retry",
			howFailed(p, o.Version))
	}
	return nil
}

func noSigner() error {
	return wire.Refuse(wire.Unauthorized, "releases must be signed: the configuration of this device must say who "+
		"may sign, with updates.root_file")
}

// howFailed says how the release of a version failed, if it was the last.
func howFailed(p *slot.Phase, version string) string {
	if l := p.Last; l != nil && l.Version == version && l.Reason != "" {
		return ": " + string(l.Reason)
	}
	return ""
}

// show has the status tell of a step, and of how the last update ended.
func (u *Updater) show(step *wire.UpdateStep, last *wire.LastUpdate) {
	s := u.Status()
	s.Step, s.Last = step, last
	u.status.Store(&s)
	u.deps.Changed()
}

// stopped tells whether ctx ended since the device stops, and not since the command
// expired or was cancelled.
func stopped(ctx context.Context) bool { return context.Cause(ctx) == context.Canceled }
