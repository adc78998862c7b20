// Package engine keeps the members of a family running on this device: which of
// them, on which execution provider, on how many threads.
//
//	Submit ──▶ view ──▶ backend ──▶ pipeline ──▶ answer
//	            ▲
//	            │ puts another in its place, then lets the old one drain
//	        supervisor ◀── calls ─── loader: profile, sessions, engines
//	            │  ▲ │                  ▲
//	            │  │ └──── tasks ───────┘
//	            │  └── SetMode, SetPower, hangs, ends of pipelines, a tick a second
//	            └──▶ evicts, restores, hands over, publishes the view
//
// A backend is the members worth using on one variant, an execution provider and
// a number of threads: the Pareto front of their accuracy and of their latency as
// measured there. The first is on the CPU. Another one takes over
//
//   - when a configured provider is ready; should it fail later, its sessions fall
//     back on the CPU at once, a backend there takes over, and the provider is
//     tried again, less and less often,
//   - where a backend with more threads is faster, while others leave processors
//     free, and back,
//   - when members that there was no room for can be built,
//   - when another family is to be used, and at least one of its members can be: see
//     Replace.
//
// Where memory becomes short the largest members are evicted, one after the other
// and never the last one, and restored when there is room again.
//
// Two goroutines do this. The supervisor owns the backend that serves, what is
// evicted and the mode that is pursued; it waits for nothing longer than an
// inference. The loader does what takes seconds or minutes, in one sequence from
// the start to the end, and hands what it made to the supervisor in calls; between
// members and while it waits it does the supervisor's tasks. The supervisor never
// waits for the loader, and is there until that has ended.
//
// Another family is prepared by a third goroutine, on a thread that stands back behind
// those that answer jobs, in the room that is left and that the family in use makes.
// While jobs are answered it rests between its steps, so that few of them meet with it:
// it takes half a minute for what is else done in a second.
// Until its first backend takes over, all that it made can be closed and forgotten;
// then the sequence of the loader begins anew, for this family, after its first step.
//
// Before that another family may be compared with the one in use:
//
//	Submit ──▶ backend ──▶ answer ──▶ sampler ──▶ shadow ──▶ its pipeline ──▶ the same class?
//	   └─────────── has it yield ────────▲
//
// The shadow's members answer what those in use have answered, while no job is open, and
// nobody gets their answers: they have a pipeline, counters and a governor of their own, on
// threads that stand back. Who answers jobs, and who brings them, never waits for them: a
// sample goes to one who is waiting for it, or nowhere, and an inference is given up when a
// job comes.
//
// The rules that make it correct. What others see is one immutable view: a job goes
// to the backend of the view, and a pipeline is closed only after the view names
// another one, so a job that a pipeline does not take is offered to the next, and
// is answered exactly once. The mode that is pursued is a field of the supervisor,
// which alone gives it to pipelines: a hand-over cannot lose it, and a backend
// without the member that it names works balanced until the next hand-over. Jobs are
// counted by family, from when it takes over, and in total.
package engine

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/monitor"
	"github.com/limber-edge/limber/agent/pipeline"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/store"
)

// Loader makes the members of a family ready on one variant. A resident.Shelf is
// one. It is safe for concurrent use.
type Loader interface {
	// Session returns member i ready to run. It may take minutes, where an
	// engine is built. The error wraps family.ErrNoRoom where the disk is full.
	Session(i int) (family.Session, error)
	// Profile measures sessions in the family's order, nil for those that
	// cannot be used. It calls pause now and then, between two measurements.
	Profile(ctx context.Context, sessions []family.Session, pause func()) (*family.Profile, error)
	// Pin keeps the weights of member i in memory until they are released. The
	// error says why it may not.
	Pin(i int) (release func() error, err error)
	// Variant is what sessions run on.
	Variant() family.Variant
}

// Machine tells how much of the machine others leave. A monitor.Machine is one. What
// is unknown is nil, or 0.
type Machine interface {
	Memory() monitor.Memory
	// Others is how much of all processors other processes used since a mark, in
	// percent, with the mark of now.
	Others(monitor.Mark) (*float64, monitor.Mark)
	Processors() int // of the machine
}

// Events are told of what happens. Neither method blocks.
type Events interface {
	Event(wire.Severity, wire.Event)       // at most one of a kind a second, with a count
	EventAtOnce(wire.Severity, wire.Event) // each
}

// Config of an engine.
type Config struct {
	Threads    int      // inside one inference on the CPU; 0: one, and more while others leave processors free
	Providers  []string // execution providers, in the order of preference
	Cores      int      // processors that this process may use
	Cascade    float64  // see pipeline.Config
	QueueJobs  int      // jobs that may wait
	QueueBytes int      // bytes of encoded frames that may wait
	Decoder    pipeline.Decoder
	LogFolder  string        // of the logs of decisions
	LogMiB     int           // of each of them at most; 0: none is kept
	Version    string        // of the program, for the logs
	Mode       governor.Mode // to begin with
	Rest       time.Duration // that another family's preparation may rest, in all, while jobs come; see Replace
}

// Source is a family, and what makes its members ready on this device.
type Source struct {
	Family     *family.Family
	Preprocess family.Preprocess
	Open       func(family.Variant) (Loader, error) // nil: there is no runtime, and Fault says why
	Fault      error
}

// Deps are what an engine is put together from.
type Deps struct {
	Source         // to begin with
	Runtime string // version of ONNX Runtime, of which a stored profile must be
	Machine Machine
	State   *store.Store
	Tables  *governor.Tables // shared by engines with one profile; nil: its own
	Events  Events
	Trim    func() // gives freed memory back to the system; debug.FreeOSMemory in a program
}

// Engine runs a family. Its methods are safe for concurrent use.
type Engine struct {
	cfg  Config
	deps Deps
	log  *slog.Logger

	view     atomic.Pointer[view]
	power    atomic.Pointer[governor.Power] // what SetPower was told; nil: nothing yet
	counters pipeline.Counters              // of the jobs of all pipelines
	jobs     openJobs
	shadow   atomic.Pointer[shadow] // the supervisor sets it; nil: nothing is compared

	calls   chan call     // to the supervisor
	hangs   chan hang     // likewise
	tasks   chan struct{} // to the loader: holds a token when the supervisor has some
	powered chan struct{} // holds a token when power is new
	renewal chan struct{} // holds a token while Replace or Shadow works
	changed chan struct{} // see Changed
	ready   chan struct{} // see Ready
	over    chan struct{} // closed when Run has returned
}

// ErrHung ends Run when an inference hangs and cannot be interrupted, or when
// inferences hung too often. Nothing that ONNX Runtime holds may be freed then:
// the process must end, for its supervisor to start it anew.
var ErrHung = pipeline.ErrHung

// call is what the supervisor is to do for another goroutine.
type call struct {
	do   func(*supervisor)
	done chan<- struct{}
}

// beginning is what an engine is at before there is progress to tell of.
const beginning = "preparing: reading the profile of the members"

// New assembles an engine. It starts nothing, and closes nothing it was given.
func New(cfg Config, deps Deps, log *slog.Logger) *Engine {
	e := &Engine{cfg: cfg, deps: deps, log: log,
		jobs:  openJobs{settled: make(chan struct{}, 1)},
		calls: make(chan call), hangs: make(chan hang, hangsMost), tasks: make(chan struct{}, 1),
		powered: make(chan struct{}, 1), renewal: make(chan struct{}, 1),
		changed: make(chan struct{}, 1), ready: make(chan struct{}), over: make(chan struct{}),
	}
	e.view.Store(&view{stale: make(chan struct{}), tally: e.newTally(deps.Family), Status: Status{Family: deps.Family, Target: cfg.Mode,
		Variant: e.baseVariant(), Detail: beginning}})
	return e
}

// SetMode gives the device a mode to pursue, from the next job on, also over
// hand-overs. Its errors are ctx's, which leaves the mode before in force,
// pipeline.ErrClosed after Run, and a refusal of a fixed member that is not in use.
func (e *Engine) SetMode(ctx context.Context, m governor.Mode) (err error) {
	if e := e.order(ctx, func(s *supervisor) { err = s.setMode(ctx, m) }); e != nil {
		return e
	}
	return err
}

// order has the supervisor do something, and waits for it. It was not done where the
// error is ctx's or, after Run, pipeline.ErrClosed.
func (e *Engine) order(ctx context.Context, do func(*supervisor)) error {
	done := make(chan struct{})
	select {
	case e.calls <- call{do, done}:
		<-done
		return nil
	case <-e.over:
		return pipeline.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// SetPower tells what inferences cost from now on.
func (e *Engine) SetPower(w governor.Power) {
	e.power.Store(&w)
	token(e.powered)
}

// Changed holds a token when Status may read differently, but for the operating
// member, which changes by frame.
func (e *Engine) Changed() <-chan struct{} { return e.changed }

// Ready is closed when the first member can answer jobs.
func (e *Engine) Ready() <-chan struct{} { return e.ready }

// token puts one into a channel that has room for one, if it has none.
func token(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
