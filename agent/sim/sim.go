// Package sim runs a fleet in one process: the agents are those of devices, with what
// costs much or is there once exchanged for what costs little and all can share.
//
//	              Profile: families, load, frames
//	               │             │          │
//	               ▼             ▼          ▼
//	Loader: members that   machine: one   camera: one, which hands
//	only take their time   for all        frames to each in its turn
//	               │             │          │
//	               ▼             ▼          ▼
//	broker ◀─ cable ─▶ agent.New … Run ─▶ state: files in memory, not synced
//	            │        │
//	     Cut: broken   Churn: ends and comes back, or another one comes
//	     for a while          in its place, without its state
//
// What is real: every line that an agent runs from its socket to its session, the
// broker's protocol, stores, ledgers, governors, how other families and releases come to a
// device, and the trial of a release. What is not: inferences, which sleep, the proc and
// sys of the machine, which are a few small files, the disk, the network, which is
// loopback, and limber-boot: whatever a release has for a program, this one goes on under
// its version, and the profile says which of them fail. So a fleet here shows what an operator's side and a
// broker have to bear, and how commands and rollouts end; it shows nothing of what
// inferences cost.
//
// The rule that makes a thousand cheap: nothing that grows with the fleet runs while
// nothing happens, but for what an agent itself does. Agents share one machine, one set
// of tables of governors, one log and one camera.
//
// All chance is drawn from the seed, for each device apart: the same devices have the
// same cuts and ends at the same times after their starts. What inferences take is not
// repeated, as it depends on which comes first.
package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/monitor"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/firmware/power"
)

// Config of a fleet.
type Config struct {
	Devices int
	Seed    uint64
	Profile *Profile
	Ramp    time.Duration // over which the devices start; 0: all at once
	Churn   float64       // the share of the devices that end in a minute, and come back; 0: none
	Cut     time.Duration // for which a link is broken, a tenth of the time; 0: never
	Fleet   string
	Broker  func(device string) mqtt.Broker
	State   string // folder, best in memory: see StateFolder
	Version string // of the program

	Releases Releases // where other releases come from

	Telemetry time.Duration // how often each device sends it; 0: as devices do
}

// Releases are where devices have other releases of the program from, as their
// configuration has it. The zero value: they take none.
type Releases struct {
	Repository []string      // URLs
	RootFile   string        // who may sign
	Trial      time.Duration // that they have to prove themselves; 0: as devices give them
}

func (r Releases) asked() bool { return r.RootFile != "" }

// MaxDevices is how many devices a fleet may have: the names have four digits.
const MaxDevices = 10_000

// Fleet is devices that run in this process.
type Fleet struct {
	cfg     Config
	log     *slog.Logger
	shared  shared
	devices []*device
	machine *machine
	counts  counters
	opening chan struct{} // holds a token for each agent that is being opened
}

// shared is what all agents have together.
type shared struct {
	machine *monitor.Machine
	board   *power.Board
	tables  *governor.Tables
	carried *family.Folder // the family that new devices get
	members members
}

type counters struct{ births, ends, others, cuts, frames atomic.Uint64 }

// Counts are totals since the start.
type Counts struct {
	Births uint64 `json:"births"` // starts of an agent
	Ends   uint64 `json:"ends"`   // of these, those that churn ended
	Others uint64 `json:"others"` // of the ends, those after which another device came
	Cuts   uint64 `json:"cuts"`   // of links
	Frames uint64 `json:"frames"` // handed to devices
}

// New assembles a fleet, and makes its machine in the folder. It starts nothing.
func New(cfg Config, log *slog.Logger) (*Fleet, error) {
	if cfg.Devices < 1 || cfg.Devices > MaxDevices {
		return nil, fmt.Errorf("%d devices: wants 1 to %d", cfg.Devices, MaxDevices)
	}
	f := &Fleet{cfg: cfg, log: log, opening: make(chan struct{}, 2*runtime.GOMAXPROCS(0))}
	var err error
	if f.machine, err = newMachine(cfg.State, cfg.Profile); err != nil {
		return nil, err
	}
	carried, err := cfg.Profile.Folder(0)
	if err != nil {
		return nil, err
	}
	f.shared = shared{machine: monitor.New(f.machine.root), board: power.New(f.machine.root), tables: new(governor.Tables),
		carried: carried, members: newMembers(cfg.Profile, f.machine)}
	for i := range cfg.Devices {
		f.devices = append(f.devices, f.newDevice(i))
	}
	return f, nil
}

// Name is that of a device, by its number from 0.
func Name(i int) string { return fmt.Sprintf("%s%04d", prefix, i) }

// prefix is what names of simulated devices begin with.
const prefix = "sim-"

// Counts are the totals of now.
func (f *Fleet) Counts() Counts {
	c := &f.counts
	return Counts{Births: c.births.Load(), Ends: c.ends.Load(), Others: c.others.Load(), Cuts: c.cuts.Load(),
		Frames: c.frames.Load()}
}

// Run runs the devices until ctx ends, or one of them fails. Being asked to stop is not
// an error.
func (f *Fleet) Run(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return f.machine.run(gctx) })
	g.Go(func() error { return f.film(gctx) })
	for i, d := range f.devices {
		wait := f.cfg.Ramp * time.Duration(i) / time.Duration(len(f.devices))
		g.Go(func() error {
			if err := sleep(gctx, wait); err != nil {
				return err
			}
			return d.run(gctx)
		})
		if f.cfg.Cut > 0 {
			g.Go(func() error { return d.breakNowAndThen(gctx) })
		}
	}
	if err := g.Wait(); ctx.Err() == nil || !errors.Is(err, ctx.Err()) {
		return err
	}
	return nil
}

// chance is a device's own, for one purpose.
func (f *Fleet) chance(device int, purpose uint64) *rand.Rand {
	return rand.New(rand.NewPCG(f.cfg.Seed, uint64(device)<<8|purpose))
}

// sleep waits; its error is ctx's.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
