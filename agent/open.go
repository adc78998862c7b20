package agent

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/limber-edge/limber/agent/config"
	"github.com/limber-edge/limber/agent/engine"
	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/monitor"
	"github.com/limber-edge/limber/agent/release"
	"github.com/limber-edge/limber/agent/update"
	"github.com/limber-edge/limber/agent/uplink"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/library"
	"github.com/limber-edge/limber/firmware/power"
	"github.com/limber-edge/limber/firmware/slot"
	"github.com/limber-edge/limber/store"
)

// Deps are what an agent is put together from. Open makes those of a real device;
// tests and simulators bring their own.
type Deps struct {
	engine.Source        // the family that the device starts with
	Version       string // of the program
	Unsaved       error  // why the family could not be stored; it is served from the program's copy

	Runtime string // version of ONNX Runtime; empty: none
	Cores   int    // processors that this process may use
	Machine *monitor.Machine
	Board   *power.Board
	Tables  *governor.Tables // shared by agents whose members take the same time; nil: its own
	Trim    func()           // gives freed memory back to the system

	Store  *store.Store
	Outbox *store.Outbox
	Former []string // filters that the broker may hold from before
	// Dial opens connections to the broker; nil: that of a net.Dialer. See mqtt.Config
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	Carrier update.Carrier // of the blobs of other families; nil: sources and the controller
	Rest    time.Duration  // see engine.Config

	Slots     *slot.Agent      // of releases; nil: no launcher started this program
	canaries  release.Canaries // that members failed
	inference Inference        // nil: there is no runtime
	library   *library.Library // nil where the family is simulated
	closers   []func() error
}

// engine is what an engine gets of it.
func (d *Deps) engine(events engine.Events) engine.Deps {
	return engine.Deps{Source: d.Source, Runtime: d.Runtime, Machine: d.Machine, State: d.Store, Tables: d.Tables,
		Events: events, Trim: d.Trim}
}

// SourceOf is a family of the device's store with what makes its members ready, for the
// engine. The error is that it has no preprocessing; that it cannot be run is the
// source's Fault.
func (d *Deps) SourceOf(f *family.Family) (s engine.Source, err error) {
	s.Family = f
	if s.Preprocess, err = f.Preprocessing(); err != nil {
		return s, err
	}
	if d.inference == nil {
		s.Fault = d.Fault
		return s, nil
	}
	open, fault := d.inference.Members(f, d.library)
	if s.Fault = fault; fault == nil {
		s.Open = d.canaries.Watch(f, open)
	}
	return s, nil
}

// StoredProfile is what the members were found to take on the CPU of this device;
// nil if that is not known, and where there is no runtime.
func (d *Deps) StoredProfile(cfg config.Config) (*family.Profile, error) {
	if d.Open == nil {
		return nil, nil
	}
	return d.profile(cfg, engine.StoredProfile)
}

// TakeProfile measures the members on the CPU of this device, and stores that.
func (d *Deps) TakeProfile(ctx context.Context, cfg config.Config) (*family.Profile, error) {
	if d.Open == nil {
		return nil, d.Fault
	}
	return d.profile(cfg, func(e *engine.Deps, l engine.Loader) (*family.Profile, error) {
		return engine.TakeProfile(ctx, e, l, func(int) {})
	})
}

func (d *Deps) profile(cfg config.Config, by func(*engine.Deps, engine.Loader) (*family.Profile, error)) (*family.Profile,
	error) {
	l, err := d.Open(family.Variant{Provider: family.CPU, Threads: max(1, cfg.Runtime.Threads)})
	if err != nil {
		return nil, err
	}
	parts := d.engine(nil)
	return by(&parts, l)
}

// Members makes those of a family ready on one variant.
type Members func(family.Variant) (engine.Loader, error)

// Inference is what runs members, such as ONNX Runtime.
type Inference interface {
	Version() string
	// Shared tells whether another release of the program, in a folder of its own, has it
	// as well.
	Shared() bool
	// Members makes those of a family, whose blobs come from the device's store.
	Members(*family.Family, family.Blobs) (Members, error)
	Close() error
}

// Options are how Open opens.
type Options struct {
	Version string // of the program
	// Inference opens it, beside the state, as both take their time. Its error is none
	// of Open's: the device stays up and says so.
	Inference func() (Inference, error)
	Family    *family.Family // of simulated members, of which nothing is stored; nil: the device's own
	Carried   *family.Folder // what a new device gets; nil: the stock family
	Store     store.Options
	Slots     *slot.Agent // nil: no launcher started this program
}

// rest keeps the preparation of a family like the stock one under a minute.
const rest = 45 * time.Second

// Open opens state, family and runtime. The error is store.ErrLocked when another
// process uses the state folder.
func Open(cfg config.Config, o Options, log *slog.Logger) (*Deps, error) {
	d := &Deps{Version: o.Version, Cores: runtime.GOMAXPROCS(0), Machine: monitor.New("/"), Board: power.New("/"), Slots: o.Slots,
		Trim: debug.FreeOSMemory, Rest: rest}
	if err := d.open(cfg, o, log); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// Close closes in the reverse order of opening. No agent may run any more.
func (d *Deps) Close() error {
	var errs []error
	for i := len(d.closers) - 1; i >= 0; i-- {
		errs = append(errs, d.closers[i]())
	}
	return errors.Join(errs...)
}

func (d *Deps) open(cfg config.Config, o Options, log *slog.Logger) error {
	opened := make(chan Inference, 1)
	go func() {
		rt, err := o.Inference()
		if err != nil {
			d.Fault = err
		}
		opened <- rt
	}()
	o.Store.Intact = o.Slots != nil && o.Slots.OnTrial() // the release before may read what this one cannot
	err := d.openState(cfg, o, log)
	if rt := <-opened; d.Fault == nil {
		d.inference, d.Runtime = rt, rt.Version()
		d.closers = append(d.closers, rt.Close)
	}
	if err == nil {
		d.Source, err = d.SourceOf(d.Family)
	}
	return err
}

// openState opens what the device keeps.
func (d *Deps) openState(cfg config.Config, o Options, log *slog.Logger) (err error) {
	if d.Store, err = store.Open(cfg.State, o.Store, log); err != nil {
		return err
	}
	d.closers = append(d.closers, d.Store.Close)
	if err := d.openOutbox(cfg, o.Store, log); err != nil {
		return err
	}
	if link, err := cfg.Link(); err == nil { // else New tells of it
		if d.Former, err = uplink.RecallFilters(d.Store, link.Subscriptions); err != nil {
			log.Warn("filters not remembered, those taken out later will still be served", "err", err)
		}
	}
	if d.Family = o.Family; d.Family != nil {
		return nil
	}
	lib, err := library.Open(d.Store, o.Carried)
	if err != nil {
		return err
	}
	d.Family, d.Unsaved, d.library = lib.Current(), lib.Unsaved(), lib
	return nil
}

// cellHorizon holds a number that the outbox's will not reach, in the other file:
// should the outbox be damaged, its numbers go on from there.
const cellHorizon = "horizon"

func (d *Deps) openOutbox(cfg config.Config, opts store.Options, log *slog.Logger) error {
	o := cfg.Outbox.Options()
	o.Alias, o.Lost = uplink.Alias, formerGap(d.Store, log)
	o.NoSync, o.Sparse, o.StayUp, o.Intact = opts.NoSync, opts.Sparse, opts.StayUp, opts.Intact
	if b, err := d.Store.Cell(cellHorizon); err == nil {
		o.Floor, _ = strconv.ParseUint(string(b), 10, 64) // unreadable: 0, and the clock decides
	}
	var err error
	if d.Outbox, err = store.OpenOutbox(cfg.State, o, log); err != nil {
		return err
	}
	d.closers = append(d.closers, d.Outbox.Close)
	if o.Lost.Records > 0 {
		if err := d.Store.SetCell(cellGap, []byte("{}")); err != nil {
			log.Warn("lost messages may be told of twice", "err", err)
		}
	}
	if h := d.Outbox.Horizon(); h != o.Floor {
		if err := d.Store.SetCell(cellHorizon, strconv.AppendUint(nil, h, 10)); err != nil {
			log.Warn("numbers of messages not secured against damage", "err", err)
		}
	}
	return nil
}

// cellGap is where the version before kept what it had lost and not told of.
const cellGap = "gap"

// formerGap reads what the version before lost. It had no classes and, but for a
// failing disk, one reason.
func formerGap(s *store.Store, log *slog.Logger) store.Gap {
	var former struct {
		Records     int
		Bytes       int64
		First, Last uint64
	}
	b, err := s.Cell(cellGap)
	if err == nil {
		err = json.Unmarshal(b, &former)
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		log.Error("count of lost messages not readable", "err", err)
	}
	return store.Gap{Class: store.Results, Reason: store.Quota, Records: max(0, former.Records), Bytes: former.Bytes,
		First: former.First, Last: former.Last, Mixed: true}
}
