package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/limber-edge/limber/agent"
	"github.com/limber-edge/limber/agent/config"
	"github.com/limber-edge/limber/store"
)

// device is one of the fleet, whether its agent runs or not.
type device struct {
	*Fleet
	cfg    config.Config
	cable  cable
	churn  *rand.Rand
	cuts   *rand.Rand
	camera string                      // topic of its frames
	agent  atomic.Pointer[agent.Agent] // nil: it is off
	seen   *agent.Agent                // that was connected; of the camera's goroutine
}

// Purposes of chance.
const (
	ofChurn = iota
	ofCuts
)

func (f *Fleet) newDevice(i int) *device {
	d := &device{Fleet: f, cfg: config.Default(), churn: f.chance(i, ofChurn), cuts: f.chance(i, ofCuts)}
	d.cfg.Fleet, d.cfg.Device = f.cfg.Fleet, Name(i)
	d.cfg.State = filepath.Join(f.cfg.State, d.cfg.Device)
	d.cfg.Broker.Broker = f.cfg.Broker(d.cfg.Device)
	d.cfg.Outbox.FreeMiB = 0  // of memory that is not the device's
	d.cfg.Runtime.Threads = 1 // a second profile and backend would show nothing
	if every := f.cfg.Telemetry; every > 0 {
		d.cfg.Telemetry.Every.Duration = every
	}
	if r := f.cfg.Releases; r.asked() {
		d.cfg.Updates.RootFile, d.cfg.Updates.Repository = r.RootFile, r.Repository
		if r.Trial > 0 {
			d.cfg.Updates.Trial.Duration = r.Trial
		}
	}
	d.camera = d.cfg.Address().Frame("camera")
	return d
}

// How long a device that ended is away.
const (
	awayLeast = time.Second
	awayMost  = 10 * time.Second
)

// othersShare is how many of the devices that end do not come back: another one has
// their name and place.
const othersShare = 0.25

// run has the device live, end and come back until ctx ends.
func (d *device) run(ctx context.Context) error {
	var ended error // why the last program gave way to another
	for {
		err := d.live(ctx, ended)
		if ended = nil; gaveWay(err) {
			ended = err
			continue
		}
		if err != nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		d.counts.ends.Add(1)
		if d.churn.Float64() < othersShare {
			d.counts.others.Add(1)
			if err := os.RemoveAll(d.cfg.State); err != nil {
				return fmt.Errorf("%s: %w", d.cfg.Device, err)
			}
		}
		if err := sleep(ctx, awayLeast+time.Duration(d.churn.Float64()*float64(awayMost-awayLeast))); err != nil {
			return err
		}
	}
}

// live runs the agent until churn ends it, or ctx does, or it gives way to another one.
func (d *device) live(ctx context.Context, ended error) (err error) {
	is, err := d.launch(ended)
	if err != nil {
		return fmt.Errorf("%s: %w", d.cfg.Device, err)
	}
	a, deps, err := d.open(ctx, is)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, deps.Close()) }()
	if d.Fleet.cfg.Churn > 0 {
		age := d.churn.ExpFloat64() / d.Fleet.cfg.Churn * float64(time.Minute)
		var end context.CancelFunc
		ctx, end = context.WithTimeout(ctx, time.Duration(min(age, float64(10*365*24*time.Hour))))
		defer end()
	}
	d.agent.Store(a)
	defer d.agent.Store(nil)
	d.counts.births.Add(1)
	if err := a.Run(ctx); err != nil {
		return fmt.Errorf("%s: %w", d.cfg.Device, err)
	}
	return nil
}

// open assembles the agent. Only so many do at once: the others' first sessions would
// wait for all of them.
func (d *device) open(ctx context.Context, is program) (*agent.Agent, *agent.Deps, error) {
	select {
	case d.opening <- struct{}{}:
		defer func() { <-d.opening }()
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	deps, err := agent.Open(d.cfg, agent.Options{Version: is.version, Slots: is.slots, Carried: d.shared.carried,
		Inference: func() (agent.Inference, error) { return Inference{Shape: d.shared.members.shape}, nil },
		Store:     store.Options{NoSync: true, Sparse: true}}, d.log)
	if err != nil {
		return nil, nil, err
	}
	deps.Machine, deps.Board, deps.Tables, deps.Trim = d.shared.machine, d.shared.board, d.shared.tables, func() {}
	if deps.Dial = d.cable.Dial; is.deaf {
		deps.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, errCut }
	}
	a, err := agent.New(d.cfg, deps, d.log.With("device", d.cfg.Device))
	if err != nil {
		return nil, nil, errors.Join(err, deps.Close())
	}
	return a, deps, nil
}

// breakNowAndThen cuts the cable for a tenth of the time.
func (d *device) breakNowAndThen(ctx context.Context) error {
	for {
		whole := time.Duration(9 * d.cuts.ExpFloat64() * float64(d.Fleet.cfg.Cut))
		if err := sleep(ctx, whole); err != nil {
			return err
		}
		d.counts.cuts.Add(1)
		d.cable.cut()
		err := sleep(ctx, d.Fleet.cfg.Cut)
		d.cable.mend()
		if err != nil {
			return err
		}
	}
}
