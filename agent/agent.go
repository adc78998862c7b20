// Package agent is the behaviour of one device: it answers jobs, obeys
// commands, and says what it does.
//
//	            ┌──▶ control ── goal ──┐   acknowledgements, reported state
//	broker ──▶ link                    ▼          │
//	            └──▶ inbox ──▶ pipeline ──▶ answer┴▶ outbox ──▶ uplink ──▶ broker
//	                   ▲                      │
//	                   └── known id? ◀────────┘   events, telemetry
//
// The inbox lets every job id in once. Its answer goes into the outbox before
// it goes anywhere else, and out of there in order; the broker gets the
// acknowledgement for the job when the answer was acknowledged or is on the
// disk, whichever is first. The rule that makes it correct: between receipt and
// acknowledgement a job is in the inbox or its answer in the outbox, never in
// neither, so no job is run twice and none is forgotten.
//
// A frame that a camera publishes without an id is given one when it is received,
// of its source, this run and a number, and is a job like any other from then on.
// What the broker delivers again keeps its id where it is known by source and
// bytes; a frame whose place a newer one took is the one thing without an answer.
//
// What the device pursues, a mode or a goal of figures, is what an operator set
// last or what the schedule did, whichever was later by the clock on the wall.
//
// Where another execution provider than the CPU is configured, a second crew of
// members is made ready on it while the first serves, and relieves it. Should
// that provider fail later, the CPU answers at once and a new crew on it takes
// over; the provider is tried again, less and less often.
//
// Where inferences may take more than one processor, a crew with more threads
// relieves the first while others leave these free, and the other way round.
//
// Where memory becomes short, the largest members go out of use, one after the
// other and never the last one, and come back when there is room again.
//
// Where the disk was too full to build members, they are tried again, less and
// less often, and come into use without a restart; until the first one does, jobs
// are refused as at a start without any.
//
// Commands for the power mode of the board, where its owner allows them, have a
// goroutine of their own: one that hangs keeps no mode and no goal waiting.
//
// Run owns every goroutine. They stop in the order of the arrows: no more jobs,
// then those that wait are finished, their answers sent, the farewell
// published, the link closed, and last the outbox committed.
package agent

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/pipeline"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/store"
)

// Agent is one device.
type Agent struct {
	cfg   Config
	parts *Parts
	log   *slog.Logger
	boot  string // names this run of the agent
	self  wire.Address
	link  *mqtt.Link
	crew  atomic.Pointer[crew] // the members in use; nil when the device cannot infer

	inbox      *inbox
	origins    *origins
	news       *news
	linkUp     atomic.Bool
	boarding   atomic.Bool // members are still being loaded
	stopping   atomic.Bool
	connSeq    atomic.Uint64
	lastSeq    atomic.Uint64    // of the last answer of this run
	account    pipeline.Account // of the jobs of all crews
	turnedAway atomic.Uint64    // jobs refused without a pipeline
	failed     atomic.Uint64    // attempts to connect without success
	up         chan connection
	lost       chan struct{}         // of the connection that is up; the link's goroutine alone touches it
	turned     chan struct{}         // holds one token when the link came up, broke, or could not come up
	orders     *orders               // control's
	power      *orders               // controlPower's
	ready      chan struct{}         // closed when the first member is
	noCrew     atomic.Pointer[error] // set when no member could be loaded

	relief sync.RWMutex // held for reading while crew is given a job or a mode, so that none goes to one that was relieved

	standing sync.Mutex     // held while a retained state is handed to the link, so that the newest stays
	left     bool           // guarded by standing: the farewell was handed over
	reported *wire.Reported // guarded by standing: what was answered to the last order

	ordered      *ordered      // control's, and Run's before it, as are the next three
	aim          aim           // what is in force
	unmet        governor.Mode // the goal in force that was told of as infeasible
	unmetDesired versions      // likewise desired states

	untold store.Gap // of the last run or this; report's, and Run's before and after it
}

// How long a stopping agent works on what it has, and then tries to say so.
const (
	grace    = 1500 * time.Millisecond
	farewell = time.Second // to connect, if need be, and for the broker's acknowledgement
)

// New assembles an agent and checks its configuration. It starts nothing, and
// closes none of the parts.
func New(cfg Config, parts *Parts, log *slog.Logger) (*Agent, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	id := make([]byte, 8)
	rand.Read(id) // never fails, since Go 1.24
	a := &Agent{
		cfg: cfg, parts: parts, log: log,
		boot:         hex.EncodeToString(id),
		self:         wire.Address{Fleet: cfg.Fleet, Device: cfg.Device},
		inbox:        newInbox(),
		origins:      newOrigins(cfg.Sources),
		up:           make(chan connection, 1),
		turned:       make(chan struct{}, 1),
		orders:       newOrders(ordersMost),
		power:        newOrders(powerMost),
		ready:        make(chan struct{}),
		unmetDesired: versions{},
	}
	a.news = newNews(a.publishEvent)
	link, err := cfg.link()
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	link.Will, link.Former = a.will, parts.Former
	a.link, err = mqtt.New(link, a, log)
	if err != nil {
		return nil, fmt.Errorf("configuration: broker: %w", err)
	}
	return a, nil
}

// Run works until ctx ends, then stops in order. Being asked to stop is not an
// error.
func (a *Agent) Run(ctx context.Context) error {
	mode, err := a.startMode()
	if err != nil {
		return err
	}
	defer func() { a.crew.Load().close() }()
	if err := a.muster(ctx, mode); err != nil || ctx.Err() != nil {
		return err
	}
	a.reportStart()
	a.loadGap()

	storing, endStoring := context.WithCancel(context.WithoutCancel(ctx))
	defer endStoring()
	stored := make(chan error, 1)
	go func() { stored <- a.parts.Outbox.Run(storing) }()

	err = a.serve(ctx, mode)
	a.saveGap()
	endStoring()
	return errors.Join(err, <-stored)
}

// serve runs everything but the outbox's writer. The link outlives the others,
// for the farewell: a clean end without one would leave the device online.
func (a *Agent) serve(ctx context.Context, mode governor.Mode) error {
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, gctx := errgroup.WithContext(work)
	g.Go(func() error { return a.link.Run(work) })
	for _, part := range []func(context.Context) error{a.uplink, a.control, a.controlPower, a.pace, a.report, a.learn} {
		g.Go(func() error { return part(gctx) })
	}
	if c := a.crew.Load(); c != nil {
		a.man(gctx, g, c)
	} else if isFull(a.parts.Fault) {
		g.Go(func() error { return a.musterLater(gctx, g, mode) })
	}
	select {
	case <-ctx.Done():
		a.finish(context.WithoutCancel(ctx))
		a.saveExperience(context.WithoutCancel(ctx))
	case <-gctx.Done(): // a part failed
	}
	a.goodbye(context.WithoutCancel(ctx))
	stop()
	err := g.Wait()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// finish answers the jobs that wait and empties the outbox. What the grace is
// too short for waits in the outbox, or at the broker.
func (a *Agent) finish(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	a.stopping.Store(true)
	if c := a.crew.Load(); c != nil {
		c.pipe.Drain(ctx)
	}
	a.news.flush(0)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for n, _ := a.parts.Outbox.Depth(); n > 0 && a.linkUp.Load() && ctx.Err() == nil; n, _ = a.parts.Outbox.Depth() {
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// goodbye tells everybody that the device is off.
func (a *Agent) goodbye(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, farewell)
	defer cancel()
	if err := a.takeLeave(ctx); err != nil {
		a.log.Warn("farewell not published", "err", err)
	}
	if n, _ := a.parts.Outbox.Depth(); n > 0 {
		a.log.Warn("messages kept for the next start", "count", n)
	}
}

// takeLeave publishes the farewell. A link that is down gets one attempt more:
// the broker may be telling everybody that the device is lost.
func (a *Agent) takeLeave(ctx context.Context) error {
	for failed := a.failed.Load(); ; {
		err := a.sayFarewell(ctx)
		if !errors.Is(err, mqtt.ErrDown) {
			return err
		}
		a.link.Hurry()
		select {
		case <-a.turned:
		case <-ctx.Done():
			return err
		}
		if a.failed.Load() > failed {
			return err
		}
	}
}

// Ready is closed when the first member of the family can answer jobs.
func (a *Agent) Ready() <-chan struct{} { return a.ready }
