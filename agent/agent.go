// Package agent joins the parts of one device: uplink delivers, engine serves,
// control decides.
//
//	                    Request                     Answer
//	broker ──▶ uplink ──┬──▶ jobs ──▶ engine ──────▶ jobs ──▶ uplink ──▶ broker
//	                    │               ▲
//	                    └──▶ control ───┘ SetMode
//	                            │
//	                documents: state, caps and reported are functions of what
//	                engine and control say of themselves; telemetry is published
//
// A frame has eight stops between the socket and its published result:
//
//	1 mqtt/stream.go      bytes of the socket, which limiter.go judges, become a Message
//	2 uplink/receive.go   a Request, unless inbox.go or the outbox knows it
//	3 jobs.go             header and body are told apart, the deadline is set
//	4 engine/submit.go    the backend that serves now takes it: pipeline/queue.go
//	5 pipeline/decode.go  the picture becomes a tensor
//	6 pipeline/infer.go   the governor chooses a member, whose session infers
//	7 jobs.go             the answer becomes a result in the outbox
//	8 uplink/deliver.go   records leave, each stream in order, through mqtt/session.go
//
// A command for a mode has nine:
//
//	1 mqtt/stream.go         as above
//	2 uplink/receive.go      as above
//	3 control/verb.go        it waits in the lane of its class
//	4 control/command.go     the ledger is asked, the command read, its expiry set
//	5 control/aims.go        the target says whether it can be had
//	6 store/ledger.go        one commit: executing, before anything is done
//	7 engine/supervisor.go   the mode is the target, and in force: pipeline/infer.go
//	8 store/ledger.go        one commit: succeeded, and the mode to be remembered
//	9 uplink/deliver.go      as above
//
// A command for a family has most of these as well, but it is package update that
// carries it out: it fetches, has the engine exchange the family, and watches it. One for
// a release of the program package release carries out, in two or three runs: Run ends
// when another program is to take over.
//
// The link starts first, so that a device which measures its members says how far
// it is. Everything stops in the order of the arrows: no new requests, then those
// that wait are answered, their answers sent, the farewell published, the link
// closed, and last the outbox committed.
package agent

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/limber-edge/limber/agent/blob"
	"github.com/limber-edge/limber/agent/config"
	"github.com/limber-edge/limber/agent/control"
	"github.com/limber-edge/limber/agent/engine"
	"github.com/limber-edge/limber/agent/frame"
	"github.com/limber-edge/limber/agent/lock"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/release"
	"github.com/limber-edge/limber/agent/update"
	"github.com/limber-edge/limber/agent/uplink"
	"github.com/limber-edge/limber/agent/wire"
)

// ErrHung ends Run when only a new process helps: see engine.ErrHung.
var ErrHung = engine.ErrHung

// Agent is one device.
type Agent struct {
	cfg         config.Config
	deps        *Deps
	log         *slog.Logger
	uplink      *uplink.Uplink
	engine      *engine.Engine
	control     *control.Control
	power       *control.Power
	updater     *update.Updater  // nil: the device takes no other family
	releaser    *release.Updater // nil: nor another release
	fetcher     *blob.Fetcher    // nil: it has another carrier, or none
	jobs        *jobs
	left        update.Left   // by an earlier run
	leftRelease release.Left  // likewise
	ends        chan error    // why Run is to end by itself
	stopping    chan struct{} // closed when Run ends
	machine     string        // names it; empty: not known
}

// How long a stopping agent works on what it has, and then tries to say so.
const (
	grace    = 1500 * time.Millisecond
	farewell = time.Second // to connect, if need be, and for the broker's acknowledgement
)

// clusterSettles is how long several brokers may take to agree after one of them was
// lost: NATS chooses anew who leads within some ten seconds.
const clusterSettles = 20 * time.Second

// New assembles an agent and checks its configuration. It starts nothing, and
// closes none of the parts.
func New(cfg config.Config, deps *Deps, log *slog.Logger) (*Agent, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	id := make([]byte, 8)
	rand.Read(id) // never fails, since Go 1.24
	boot := hex.EncodeToString(id)
	a := &Agent{cfg: cfg, deps: deps, log: log, machine: deps.machineID(), ends: make(chan error, 1),
		stopping: make(chan struct{})}
	if err := a.settleRelease(); err != nil {
		return nil, err
	}
	if err := a.settle(); err != nil {
		return nil, err
	}
	if err := a.makeUplink(boot); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	if err := a.makeUpdater(); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	a.makeControl()
	a.makeEngine()
	a.jobs = newJobs(cfg, boot, a.uplink, a.engine)
	return a, nil
}

func (a *Agent) makeUplink(boot string) error {
	link, err := a.cfg.Link()
	if err != nil {
		return err
	}
	link.Former, link.Dial = a.deps.Former, a.deps.Dial
	cfg := uplink.Config{Self: a.cfg.Address(), Boot: boot, Machine: a.deps.Machine.Boot(), Link: link,
		KeepNewest: a.cfg.Frames.Keep == config.KeepNewest, Retained: a.cfg.Frames.Retained}
	cfg.ReplayPerSecond, cfg.ReplayBytes = a.cfg.Outbox.ReplayPerS, int64(a.cfg.Outbox.ReplayKiBS)<<10
	if len(a.cfg.Broker.URL) > 1 {
		cfg.Again = clusterSettles
	}
	cfg.Acquit = a.left.OnTrial || a.leftRelease.Tried
	resume := func(verb, id string, payload []byte) {
		if id != "" {
			cfg.Resumed = append(cfg.Resumed, mqtt.Message{Topic: cfg.Self.Cmd(verb, id), Payload: payload, QoS: 1})
		}
	}
	resume(wire.VerbFamily, a.left.ID, a.left.Payload)
	resume(wire.VerbRelease, a.leftRelease.ID, a.leftRelease.Payload)
	for _, s := range a.cfg.Sources {
		cfg.Sources = append(cfg.Sources, uplink.Source{Name: s.Name, Filter: s.Topic, ResultTopic: s.ResultTopic})
	}
	a.uplink, err = uplink.New(cfg, a.deps.Store, a.deps.Outbox, a.log)
	return err
}

func (a *Agent) makeEngine() {
	a.engine = engine.New(engine.Config{
		Threads: a.cfg.Runtime.Threads, Providers: a.cfg.Runtime.Providers, Cores: a.deps.Cores,
		QueueJobs: a.cfg.Jobs.Queue, QueueBytes: a.cfg.Jobs.QueueMiB << 20,
		Decoder: frame.Decoder{MaxPixels: frame.DefaultPixels, Upright: a.cfg.Frames.Orientation == config.OrientEXIF},
		Cascade: a.cfg.Governor.Cascade, LogFolder: a.cfg.State, LogMiB: a.cfg.Governor.LogMiB, Version: a.deps.Version,
		Mode: a.control.Start(), Rest: a.deps.Rest,
	}, a.deps.engine(a.uplink), a.log)
}

func (a *Agent) makeControl() {
	changed := func(d uplink.Document) func() { return func() { a.uplink.Changed(d) } }
	allowed := a.cfg.Power
	a.power = control.NewPower(
		control.PowerConfig{SetMode: allowed.SetMode, AllowReboot: allowed.AllowReboot, Keep: allowed.Keep,
			Socket: allowed.Socket, Boot: a.deps.Machine.Boot()},
		control.PowerDeps{Board: a.deps.Board, State: a.deps.Store, Events: a.uplink, Changed: changed(uplink.Caps),
			Lock: func() (func(), error) { return lock.Try(a.cfg.State) }},
		a.log)
	verbs := []control.Verb{a.power.Verb()}
	if a.updater != nil {
		verbs = append(verbs, a.updater.Verb())
	}
	if a.releaser != nil {
		verbs = append(verbs, a.releaser.Verb())
	}
	a.control = control.New(
		control.Config{Self: a.cfg.Address(), Mode: a.cfg.Mode, Schedule: a.cfg.Schedule},
		control.Deps{State: a.deps.Store, Events: a.uplink, Offset: a.uplink.Offset, Changed: changed(uplink.Reported)},
		verbs, a.log)
}

// Run works until ctx ends, then stops in order. Being asked to stop is not an
// error. It ends by itself with release.ErrSwitch, and with an error that says why this program,
// being on trial, is not to go on.
func (a *Agent) Run(ctx context.Context) error {
	storing, endStoring := context.WithCancel(context.WithoutCancel(ctx))
	defer endStoring()
	stored := make(chan error, 1)
	go func() { stored <- a.deps.Outbox.Run(storing) }()
	a.tellStart()
	a.tellRelease(ctx)
	err := a.work(ctx)
	if err == nil || errors.Is(err, release.ErrSwitch) {
		a.uplink.EndInOrder()
		if a.updater != nil {
			a.updater.EndInOrder()
		}
	}
	endStoring()
	return errors.Join(err, <-stored)
}

// work runs everything but the outbox's writer. The link outlives the others, for
// the farewell: a clean end without one would leave the device online.
func (a *Agent) work(ctx context.Context) error {
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, gctx := errgroup.WithContext(working)
	a.uplink.Serve(handler{a.jobs, a.control, a.fetcher},
		documents{a.cfg, a.deps, a.engine, a.control, a.power, a.updater, a.releaser, a.machine})
	g.Go(func() error { return a.uplink.Run(working) })
	g.Go(func() error { return a.control.Run(gctx, a.engine) })
	for _, part := range []func(context.Context) error{a.engine.Run, a.jobs.pace, a.observe, a.power.Run, a.deps.Store.Run} {
		g.Go(func() error { return part(gctx) })
	}
	var ended error
	select {
	case <-ctx.Done():
		a.finish(context.WithoutCancel(ctx))
	case ended = <-a.ends:
		a.finish(context.WithoutCancel(ctx))
	case <-gctx.Done(): // a part failed
	}
	close(a.stopping)
	a.publishOffline(context.WithoutCancel(ctx))
	stop()
	if err := g.Wait(); !errors.Is(err, context.Canceled) {
		ended = errors.Join(ended, err)
	}
	return ended
}

// handler takes what the uplink receives.
type handler struct {
	*jobs
	*control.Control
	fetcher *blob.Fetcher // nil: nothing is asked for
}

// Blob implements uplink.Handler.
func (h handler) Blob(t wire.Topic, payload []byte) {
	if h.fetcher != nil {
		h.fetcher.Receive(t, payload)
	}
}

// finish answers the jobs that wait and empties the outbox. What the grace is too
// short for waits in the outbox, or at the broker.
func (a *Agent) finish(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	a.uplink.StopIntake()
	a.jobs.stop()
	a.engine.Drain(ctx)
	a.uplink.Flush(ctx)
}

// publishOffline tells everybody that the device is off.
func (a *Agent) publishOffline(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, farewell)
	defer cancel()
	if err := a.uplink.Farewell(ctx); err != nil {
		a.log.Warn("farewell not published", "err", err)
	}
	if n := a.uplink.Status().Records; n > 0 {
		a.log.Warn("messages kept for the next start", "count", n)
	}
}

// Ready is closed when the first member of the family can answer jobs.
func (a *Agent) Ready() <-chan struct{} { return a.engine.Ready() }

// Progress tells how far the work is, for who wants to know whether it goes on.
func (a *Agent) Progress() engine.Progress { return a.engine.Progress() }

// Receive takes a message as if the broker had delivered it. ack is called when the
// broker would need it no more.
func (a *Agent) Receive(m mqtt.Message, ack func()) { a.uplink.Receive(m, ack) }

func (a *Agent) fault(format string, args ...any) {
	a.uplink.Event(wire.SeverityError, wire.Event{Kind: wire.EventFault, Detail: fmt.Sprintf(format, args...)})
}

// end has Run end: for another program, or with an error.
func (a *Agent) end(why error) {
	select {
	case a.ends <- why:
	default: // it ends already
	}
}

// tellRelease tells how a release ended, which its own run could not.
func (a *Agent) tellRelease(ctx context.Context) {
	if a.releaser == nil {
		return
	}
	if err := a.releaser.Begin(ctx); err != nil {
		a.log.Warn("how the last release ended may be told again", "err", err)
	}
}

func (a *Agent) tellStart() {
	if err := a.deps.Unsaved; err != nil {
		a.fault("%v", err)
	}
	for _, what := range a.left.Told {
		a.fault("%v", what)
	}
	aside := a.deps.Outbox.Quarantined()
	if q := a.deps.Store.Quarantined(); q != "" {
		aside = append(aside, q)
	}
	if len(aside) > 0 {
		a.fault("damaged files were set aside: %s", strings.Join(aside, ", "))
	}
	for _, what := range slices.Concat(a.deps.Store.Damage(), a.deps.Outbox.Damage()) {
		a.fault("%s", what)
	}
}
