// Package controller rolls families, releases, modes and goals out to a fleet, as the
// rules of package rollout have it. It adds to them what they do not know: the network, the disk
// and the clock.
//
//	changes of devices ─┐                    ┌─ acknowledgements of commands
//	acks, commands ─────┤   one goroutine    ├─ rollout/{id}, retained
//	blobs that came ────┼─▶ rules ─▶ COMMIT ─┼─ commands of devices
//	ticks, one a second ┘                    └─ what may be fetched
//
// Its address is wire.Controller: there it has a birth and a will as devices have, takes
// commands of the verb rollout, and retains the newest Kept rollouts. Whoever reads and
// writes these topics steers it: Remote does, and mosquitto_pub.
//
// The rule that makes it correct: what was decided is on the disk, in one commit, before
// anybody is told. Killed at any moment it goes on from its last commit, and says again
// what follows from that: devices have the same commands, to the byte, whose ids they
// remember, and what is retained is what it was. A command that stays without an answer is
// sent again as well, ever more seldom. Nothing is decided while the link is
// down, nor before the broker has told all that it retains: a fleet of which half is
// known looks like one that is half gone.
//
// There is one controller in a fleet. One that starts looks for another that answers, and
// gives way to it. All have the same client id, so of two that start at once the broker
// keeps one connection: who comes back to find the state of another there, and had its
// own there before, was late, and stops for good. One that was gone already is no other:
// a broker that was killed comes back with what it retained some time ago.
//
//	start ──▶ look for another ──answers──▶ ErrTaken
//	               │ none
//	               ▼
//	  ┌──▶ connected ──▶ all retained is known ──▶ born: decides, commits, tells
//	  │                        │ another was born since                │
//	  │                        ▼                                       │ link lost
//	  │                     ErrTaken                                   │
//	  └────────────────────────────────────────────────────────────────┘
//
// A family reaches it as it reaches devices, with the roles exchanged: who asks for the
// rollout answers what the controller fetches. Devices may then have from it, by MQTT or
// HTTP, the blobs of rollouts that live and name them. A release does not: devices have it
// from its repository.
package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/limber-edge/limber/agent/blob"
	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/fleet/hass"
	"github.com/limber-edge/limber/agent/fleet/rollout"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

// ErrTaken says that another controller serves the fleet.
var ErrTaken = errors.New("another controller serves this fleet")

// Kept is how many rollouts are kept: the newest, and those that live.
const Kept = 32

// Store is where the controller keeps what it must remember: *store.Documents. An error
// of Commit says that nothing was stored.
type Store interface {
	Commit(changes map[string][]byte) error
	Document(key string) ([]byte, error)
	Each(prefix string, do func(key string, value []byte)) error
	Keys(prefix string) ([]string, error)
}

// Config describes a Controller.
type Config struct {
	Fleet  string
	Broker mqtt.Config // the client id is the controller's to choose
	Dir    string      // state folder: blobs that are on their way lie in fetch
	HTTP   string      // HOST:PORT at which blobs are served as well; empty: nowhere
	Hass   bool        // Home Assistant is told of the devices, and may set their modes
}

// Controller serves one fleet.
type Controller struct {
	cfg    Config
	at     wire.Address // its own
	boot   string       // names this run in its state
	log    *slog.Logger
	client *fleet.Client
	inbox  *inbox
	ledger *ledger
	shelf  *shelf
	server *blob.Server // serves what is on the shelf
	http   net.Listener // nil: none
	hass   *hass.Bridge // nil: none

	syncs   chan mqtt.Message // devices that ask for the time
	changes chan fleet.Device
	picture picture
	book    book // what is decided, and has to be stored and told
}

// New assembles a controller, reads what an earlier one has stored, and listens for HTTP
// if it is to. The caller closes the store.
func New(cfg Config, store Store, log *slog.Logger) (*Controller, error) {
	c := &Controller{cfg: cfg, at: wire.Address{Fleet: cfg.Fleet, Device: wire.Controller}, boot: fleet.NewID()[:16],
		log: log, inbox: newInbox(), syncs: make(chan mqtt.Message, syncsMost), changes: make(chan fleet.Device),
		picture: picture{seen: map[string]fleet.Device{}, evidence: rollout.NewEvidence()}}
	cfg.Broker.ClientID = "limber-controller-" + cfg.Fleet
	cfg.Broker.Will = func(seq uint64) mqtt.Message { return c.state(wire.Lost, seq, "") }
	var err error
	c.client, err = fleet.OpenBehind(func(client *fleet.Client) mqtt.Handler { return ear{client, c} }, cfg.Broker, log,
		c.filters()...)
	if err != nil {
		return nil, err
	}
	if cfg.Hass {
		c.hass = hass.New(cfg.Fleet, c.client, log)
	}
	fetcher := blob.New(blob.Config{Dir: filepath.Join(cfg.Dir, "fetch")}, asker{c}, log)
	c.shelf = newShelf(store, fetcher)
	c.server = blob.NewServer(blob.ServerConfig{Blobs: c.shelf.cache, May: c.shelf.may}, c.client, log)
	c.book.store, c.book.before = store, map[string]bool{}
	if err := c.book.belong(cfg.Fleet); err != nil {
		return nil, fmt.Errorf("%s: %w", cfg.Dir, err)
	}
	if c.book.entries, err = loadEntries(store, log); err != nil {
		return nil, err
	}
	if c.book.used, err = loadUsed(store); err != nil {
		return nil, err
	}
	if c.ledger, err = loadLedger(store); err != nil {
		return nil, err
	}
	c.shelf.open(c.book.entries)
	if cfg.HTTP != "" {
		if c.http, err = net.Listen("tcp", cfg.HTTP); err != nil {
			return nil, fmt.Errorf("--http: %w", err)
		}
	}
	return c, nil
}

// filters are what the controller hears: of devices what a rollout looks at, and its own
// topics.
func (c *Controller) filters() []string {
	filters := fleet.ListFilters(c.cfg.Fleet)
	for _, kind := range []wire.Kind{wire.KindTelemetry, wire.KindAck, wire.KindSync, wire.KindFetch} {
		filters = append(filters, wire.FleetFilter(c.cfg.Fleet, kind))
	}
	for _, kind := range []wire.Kind{wire.KindCmd, wire.KindBlob, wire.KindRollout} {
		filters = append(filters, c.at.Filter(kind))
	}
	if c.cfg.Hass {
		filters = append(filters, hass.Filters(c.cfg.Fleet)...)
	}
	return filters
}

// state is what its topic says of the controller, with what keeps it from working.
func (c *Controller) state(p wire.Presence, seq uint64, detail string) mqtt.Message {
	b, _ := json.Marshal(wire.State{State: p, BootID: c.boot, ConnSeq: seq, TS: wire.At(time.Now()),
		Detail: detail}) // cannot fail
	return mqtt.Message{Topic: c.at.State(), Payload: b, QoS: 1, Retained: true}
}

// Run serves until ctx ends, which is no error, or until another controller serves the
// fleet: ErrTaken. A broker that is not there at the start is an error as well.
func (c *Controller) Run(ctx context.Context) error {
	if c.http != nil {
		defer c.http.Close()
	}
	if err := c.lookForAnother(ctx); ctx.Err() != nil {
		return nil
	} else if err != nil {
		return err
	}
	// the link outlives ctx by the farewell
	return c.client.While(context.WithoutCancel(ctx), func(link context.Context) error {
		g, within := errgroup.WithContext(ctx)
		for _, part := range []func(context.Context) error{c.loop, c.watch, c.settle, c.answerSyncs, c.bring, c.server.Run,
			c.serveHTTP, c.serveHass} {
			g.Go(func() error { return part(within) })
		}
		if err := g.Wait(); err != nil {
			return err // a farewell would be another's
		}
		bye, cancel := context.WithTimeout(link, farewellTime)
		defer cancel()
		if err := c.client.Publish(bye, c.state(wire.Offline, 0, "")); err != nil {
			c.log.Warn("farewell not sent", "err", err)
		}
		return nil
	})
}

// farewellTime is how long the broker may take to acknowledge the farewell.
const farewellTime = 2 * time.Second

// patience is how long a controller that is there may take to answer.
const patience = 3 * time.Second

// lookForAnother asks a controller that seems to be there whether it is: its state may
// be one that the broker could not change yet. The question is a command that cannot be
// obeyed.
func (c *Controller) lookForAnother(ctx context.Context) error {
	cfg := c.cfg.Broker
	cfg.ClientID = "limber-" + fleet.NewID()[:12]
	r, err := OpenRemote(cfg, c.cfg.Fleet, slog.New(slog.DiscardHandler)) // its error says all
	if err != nil {
		return err
	}
	return r.While(ctx, func(ctx context.Context) error {
		if err := r.Find(ctx); errors.Is(err, ErrAbsent) {
			return nil
		} else if err != nil {
			return err
		}
		within, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		command := wire.RolloutCommand{Action: wire.RolloutResume, Rollout: "is-anybody-there.0"} // an id that none can have
		_, err := r.Do(within, command, patience, nil)
		if _, answered := errors.AsType[*wire.Refusal](err); answered {
			return fmt.Errorf("fleet %s: %w; stop it, or let it be", c.cfg.Fleet, ErrTaken)
		} else if errors.Is(err, fleet.ErrDropped) {
			return err
		}
		return ctx.Err()
	})
}

// settle notes on each connection when the broker has told what it retains. Until then
// nothing is decided, so what fails is tried again.
func (c *Controller) settle(ctx context.Context) error {
	for known := uint64(0); ; {
		seq, err := c.client.Connection(ctx, known)
		if err != nil {
			return nil
		}
		if _, err := c.client.List(ctx); err != nil {
			c.log.Warn("fleet not listed", "err", err)
			continue
		}
		c.inbox.settled(seq)
		known = seq
	}
}

// watch hands on devices that changed. What changes while nobody takes one is told of
// once, as it is then.
func (c *Controller) watch(ctx context.Context) error {
	s := c.client.Registry().Subscribe()
	defer s.Close()
	for {
		d, err := s.Next(ctx)
		if err != nil {
			return nil
		}
		select {
		case c.changes <- d:
		case <-ctx.Done():
			return nil
		}
	}
}

// syncsMost is how many devices may wait to be told the time.
const syncsMost = 1024

// answerSyncs tells devices that connect what time it is.
func (c *Controller) answerSyncs(ctx context.Context) error {
	for {
		select {
		case m := <-c.syncs:
			if _, answer, err := fleet.AnswerTo(m, time.Now()); err == nil {
				c.client.Send(ctx, answer)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// serveHass shows Home Assistant the devices.
func (c *Controller) serveHass(ctx context.Context) error {
	if c.hass == nil {
		return nil
	}
	return c.hass.Run(ctx)
}
