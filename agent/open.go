package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
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

// Open opens state, family and runtime. A missing runtime is no error: the device
// stays up and says so. Foreign models are tried by guard; nil refuses them. The
// error is store.ErrLocked when another process uses the state folder.
func Open(cfg Config, version string, guard resident.Guard, log *slog.Logger) (*Deps, error) {
	d := &Deps{Version: version, Cores: runtime.GOMAXPROCS(0), Machine: monitor.New("/"), Board: power.New("/"), Trim: debug.FreeOSMemory}
	if err := d.open(cfg, guard, log); err != nil {
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

func (d *Deps) open(cfg Config, guard resident.Guard, log *slog.Logger) (err error) {
	if d.Store, err = store.Open(cfg.State, store.Options{}, log); err != nil {
		return err
	}
	d.closers = append(d.closers, d.Store.Close)
	if err := d.openOutbox(cfg, log); err != nil {
		return err
	}
	if d.Former, err = recallFilters(d.Store, cfg); err != nil {
		log.Warn("filters not remembered, those taken out later will still be served", "err", err)
	}
	lib, err := library.Open(d.Store)
	if err != nil {
		return err
	}
	d.Family, d.Unsaved = lib.Current(), lib.Unsaved()
	return d.openRuntime(cfg, lib, guard)
}

// cellHorizon holds a number that the outbox's will not reach, in the other file:
// should the outbox be damaged, its numbers go on from there.
const cellHorizon = "horizon"

func (d *Deps) openOutbox(cfg Config, log *slog.Logger) error {
	o := store.OutboxOptions{Quota: cfg.Outbox.bytes(), Alias: uplink.Alias}
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

// openRuntime makes members available, or notes why there are none.
func (d *Deps) openRuntime(cfg Config, blobs family.Blobs, guard resident.Guard) error {
	path, err := ort.Find()
	var rt *ort.Runtime
	if err == nil {
		rt, err = ort.Open(path)
	}
	if err != nil {
		d.Fault = err
		return nil
	}
	d.closers = append(d.closers, rt.Close)
	d.Runtime = rt.Version()
	onCPU, err := newShelf(cfg, rt, d.Family, blobs, guard, ort.CPU)
	if err != nil {
		return err
	}
	d.Open = func(v family.Variant) (engine.Loader, error) {
		if v.Provider == ort.CPU {
			return onCPU.WithThreads(v.Threads), nil
		}
		if err := rt.Provides(v.Provider); err != nil {
			return nil, err
		}
		return newShelf(cfg, rt, d.Family, blobs, guard, v.Provider)
	}
	return nil
}

// newShelf makes the shelf of an execution provider. Each has a folder of its own,
// for it sweeps what it does not know.
func newShelf(cfg Config, rt *ort.Runtime, f *family.Family, blobs family.Blobs, guard resident.Guard, provider string) (*resident.Shelf, error) {
	name := "cache"
	if provider != ort.CPU {
		name += "-" + provider
	}
	cache := filepath.Join(cfg.State, name)
	if err := os.MkdirAll(cache, 0o700); err != nil {
		return nil, fmt.Errorf("model cache: %w", err)
	}
	o := ort.DefaultOptions()
	o.Provider, o.Threads = provider, max(1, cfg.Runtime.Threads)
	return resident.New(rt, f, blobs, cache, o, guard), nil
}
