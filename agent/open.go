package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"

	"github.com/limber-edge/limber/agent/engine"
	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/monitor"
	"github.com/limber-edge/limber/agent/uplink"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/library"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/resident"
	"github.com/limber-edge/limber/firmware/power"
	"github.com/limber-edge/limber/store"
)

// Deps are what an agent is put together from. Open makes those of a real device;
// tests and simulators bring their own.
type Deps struct {
	Version string // of the program
	Family  *family.Family
	Unsaved error // why the family could not be stored; it is served from the program's copy

	Open    func(family.Variant) (engine.Loader, error) // nil: no ONNX Runtime, see Fault
	Fault   error
	Runtime string // version of ONNX Runtime; empty: none
	Cores   int    // processors that this process may use
	Machine *monitor.Machine
	Board   *power.Board
	Tables  *governor.Tables // shared by agents whose members take the same time; nil: its own
	Trim    func()           // gives freed memory back to the system

	Store  *store.Store
	Outbox *store.Outbox
	Former []string // filters that the broker may hold from before

	closers []func() error
}

// engine is what an engine gets of it.
func (d *Deps) engine(events engine.Events) engine.Deps {
	return engine.Deps{Family: d.Family, Runtime: d.Runtime, Open: d.Open, Fault: d.Fault, Machine: d.Machine,
		State: d.Store, Tables: d.Tables, Events: events, Trim: d.Trim}
}

// StoredProfile is what the members were found to take on the CPU of this device;
// nil if that is not known, and where there is no runtime.
func (d *Deps) StoredProfile(cfg Config) (*family.Profile, error) {
	if d.Open == nil {
		return nil, nil
	}
	l, err := d.Open(cfg.onCPU())
	if err != nil {
		return nil, err
	}
	parts := d.engine(nil)
	return engine.StoredProfile(&parts, l)
}

// TakeProfile measures the members on the CPU of this device, and stores that.
func (d *Deps) TakeProfile(ctx context.Context, cfg Config) (*family.Profile, error) {
	if d.Open == nil {
		return nil, d.Fault
	}
	l, err := d.Open(cfg.onCPU())
	if err != nil {
		return nil, err
	}
	parts := d.engine(nil)
	return engine.TakeProfile(ctx, &parts, l, func(int) {})
}

// Members is a runtime that makes the members of a family.
type Members struct {
	Version string // of the runtime
	Open    func(family.Variant) (engine.Loader, error)
	Close   func() error
}

// Options are how Open opens.
type Options struct {
	Version string // of the program
	// Members makes those of a family, whose blobs come from the device's store. Its
	// error is none of Open's: the device stays up and says so.
	Members func(*family.Family, family.Blobs) (*Members, error)
	Family  *family.Family // of simulated members, of which nothing is stored; nil: the device's own
	Store   store.Options
}

// Open opens state, family and runtime. The error is store.ErrLocked when another
// process uses the state folder.
func Open(cfg Config, o Options, log *slog.Logger) (*Deps, error) {
	d := &Deps{Version: o.Version, Cores: runtime.GOMAXPROCS(0), Machine: monitor.New("/"), Board: power.New("/"),
		Trim: debug.FreeOSMemory}
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

func (d *Deps) open(cfg Config, o Options, log *slog.Logger) (err error) {
	if d.Store, err = store.Open(cfg.State, o.Store, log); err != nil {
		return err
	}
	d.closers = append(d.closers, d.Store.Close)
	if err := d.openOutbox(cfg, o.Store.NoSync, log); err != nil {
		return err
	}
	if d.Former, err = recallFilters(d.Store, cfg); err != nil {
		log.Warn("filters not remembered, those taken out later will still be served", "err", err)
	}
	d.Family = o.Family
	var blobs family.Blobs
	if d.Family == nil {
		lib, err := library.Open(d.Store)
		if err != nil {
			return err
		}
		d.Family, d.Unsaved, blobs = lib.Current(), lib.Unsaved(), lib
	}
	m, err := o.Members(d.Family, blobs)
	if err != nil {
		d.Fault = err
		return nil
	}
	d.closers = append(d.closers, m.Close)
	d.Open, d.Runtime = m.Open, m.Version
	return nil
}

// cellHorizon holds a number that the outbox's will not reach, in the other file:
// should the outbox be damaged, its numbers go on from there.
const cellHorizon = "horizon"

func (d *Deps) openOutbox(cfg Config, noSync bool, log *slog.Logger) error {
	o := store.OutboxOptions{Quota: cfg.Outbox.bytes(), Alias: uplink.Alias, NoSync: noSync}
	if b, err := d.Store.Cell(cellHorizon); err == nil {
		o.Floor, _ = strconv.ParseUint(string(b), 10, 64) // unreadable: 0, and the clock decides
	}
	var err error
	if d.Outbox, err = store.OpenOutbox(cfg.State, o, log); err != nil {
		return err
	}
	d.closers = append(d.closers, d.Outbox.Close)
	if h := d.Outbox.Horizon(); h != o.Floor {
		if err := d.Store.SetCell(cellHorizon, strconv.AppendUint(nil, h, 10)); err != nil {
			log.Warn("numbers of messages not secured against damage", "err", err)
		}
	}
	return nil
}

// ONNXRuntime makes members with the ONNX Runtime of this machine. Foreign models
// are tried by guard; nil refuses them.
func ONNXRuntime(cfg Config, guard resident.Guard) func(*family.Family, family.Blobs) (*Members, error) {
	return func(f *family.Family, blobs family.Blobs) (*Members, error) {
		path, err := ort.Find()
		if err != nil {
			return nil, err
		}
		rt, err := ort.Open(path)
		if err != nil {
			return nil, err
		}
		m, err := OnRuntime(cfg, rt, f, blobs, guard)
		if err != nil {
			return nil, errors.Join(err, rt.Close())
		}
		m.Close = rt.Close
		return m, nil
	}
}

// OnRuntime makes members with a runtime that is open, which the caller closes.
func OnRuntime(cfg Config, rt *ort.Runtime, f *family.Family, blobs family.Blobs,
	guard resident.Guard) (*Members, error) {
	// Each provider has a folder of its own: a shelf sweeps what it does not know.
	shelf := func(provider, folder string) (*resident.Shelf, error) {
		cache := filepath.Join(cfg.State, folder)
		if err := os.MkdirAll(cache, 0o700); err != nil {
			return nil, fmt.Errorf("model cache: %w", err)
		}
		o := ort.DefaultOptions()
		o.Provider, o.Threads = provider, max(1, cfg.Runtime.Threads)
		return resident.New(rt, f, blobs, cache, o, guard), nil
	}
	onCPU, err := shelf(ort.CPU, "cache")
	if err != nil {
		return nil, err
	}
	m := &Members{Version: rt.Version(), Close: func() error { return nil }}
	m.Open = func(v family.Variant) (engine.Loader, error) {
		if v.Provider == ort.CPU {
			return onCPU.WithThreads(v.Threads), nil
		}
		if err := rt.Provides(v.Provider); err != nil {
			return nil, err
		}
		return shelf(v.Provider, "cache-"+v.Provider)
	}
	return m, nil
}

// cellFilters holds what the broker may have noted down for this device: filters
// of its configuration, now and before. A session keeps those that were taken out,
// and would bring what nobody wants any more, or bring twice what another matches.
const cellFilters = "filters"

// maxFormer bounds how many filters of before are remembered.
const maxFormer = 256

// recallFilters finds out which filters the session may hold from before, and
// remembers those of now.
func recallFilters(st *store.Store, cfg Config) (former []string, err error) {
	link, err := cfg.link()
	if err != nil {
		return nil, nil // New tells of it
	}
	var known, all []string
	if b, err := st.Cell(cellFilters); err == nil && json.Unmarshal(b, &known) != nil {
		known = nil // unreadable: as on a new device
	}
	for _, s := range link.Subscriptions {
		all = append(all, s.Filter)
	}
	for _, filter := range known {
		if !slices.Contains(all, filter) && len(former) < maxFormer {
			former = append(former, filter)
		}
	}
	if all = append(all, former...); slices.Equal(all, known) {
		return former, nil
	}
	b, err := json.Marshal(all)
	if err == nil {
		err = st.SetCell(cellFilters, b)
	}
	if err != nil {
		return former, fmt.Errorf("remember the filters subscribed to: %w", err)
	}
	return former, nil
}
