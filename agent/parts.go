package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"github.com/limber-edge/limber/agent/frame"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/library"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/resident"
	"github.com/limber-edge/limber/store"
)

// Parts are what an agent is put together from.
type Parts struct {
	Version    string // of the program
	Family     *family.Family
	Preprocess frame.Preprocess
	Shelf      Shelf        // nil: no ONNX Runtime, see Fault
	Runtime    *ort.Runtime // nil likewise
	// On makes a shelf on another execution provider than the CPU. Its error
	// wraps ort.ErrNoProvider when the runtime cannot use it.
	On      func(provider string) (Shelf, error)
	Threads func(n int) Shelf // makes one on the CPU whose sessions run on n threads
	Cores   int               // processors that this process may use
	Root    string            // where the machine's proc and sys lie: "/", but for a test
	Fault   error             // why there is no Shelf
	Unsaved error             // why the family could not be stored; it is served from the program's copy
	Store   *store.Store
	Outbox  *store.Outbox
	Former  []string // filters that the broker may hold from before

	guard   resident.Guard
	blobs   family.Blobs
	closers []func() error
}

// Open opens state, family and runtime. A missing runtime is no error: the
// device stays up and says so. Foreign models are tried by guard; nil refuses
// them. The error is store.ErrLocked when another process uses the state folder.
func Open(cfg Config, version string, guard resident.Guard, log *slog.Logger) (*Parts, error) {
	p := &Parts{Version: version, Root: "/", Cores: runtime.GOMAXPROCS(0), guard: guard}
	if err := p.open(cfg, log); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// Close closes in the reverse order of opening. No agent may run any more.
func (p *Parts) Close() error {
	var errs []error
	for i := len(p.closers) - 1; i >= 0; i-- {
		errs = append(errs, p.closers[i]())
	}
	return errors.Join(errs...)
}

func (p *Parts) open(cfg Config, log *slog.Logger) (err error) {
	if p.Store, err = store.Open(cfg.State, log); err != nil {
		return err
	}
	p.closers = append(p.closers, p.Store.Close)
	if err := p.openOutbox(cfg, log); err != nil {
		return err
	}
	if err := p.recallFilters(cfg); err != nil {
		log.Warn("filters not remembered, those taken out later will still be served", "err", err)
	}
	families, err := library.Open(p.Store)
	if err != nil {
		return err
	}
	p.Family, p.Unsaved, p.blobs = families.Current(), families.Unsaved(), families
	pre, err := p.Family.Preprocessing()
	if err != nil {
		return err
	}
	if p.Preprocess, err = frame.PreprocessOf(pre); err != nil {
		return err
	}
	return p.openRuntime(cfg)
}

// cellHorizon holds a number that the outbox's will not reach, in the other file:
// should the outbox be damaged, its numbers go on from there.
const cellHorizon = "horizon"

func (p *Parts) openOutbox(cfg Config, log *slog.Logger) error {
	o := store.OutboxOptions{Quota: int64(cfg.Outbox.MiB) << 20, Alias: aliasOf}
	if b, err := p.Store.Cell(cellHorizon); err == nil {
		o.Floor, _ = strconv.ParseUint(string(b), 10, 64) // unreadable: 0, and the clock decides
	}
	var err error
	if p.Outbox, err = store.OpenOutbox(cfg.State, o, log); err != nil {
		return err
	}
	p.closers = append(p.closers, p.Outbox.Close)
	if h := p.Outbox.Horizon(); h != o.Floor {
		if err := p.Store.SetCell(cellHorizon, strconv.AppendUint(nil, h, 10)); err != nil {
			log.Warn("numbers of messages not secured against damage", "err", err)
		}
	}
	return nil
}

// openRuntime puts the shelf of members on the runtime, or notes why there is
// none.
func (p *Parts) openRuntime(cfg Config) error {
	path, err := ort.Find()
	if err == nil {
		p.Runtime, err = ort.Open(path)
	}
	if err != nil {
		p.Fault = err
		return nil
	}
	p.closers = append(p.closers, p.Runtime.Close)
	cache := filepath.Join(cfg.State, "cache")
	if err := os.MkdirAll(cache, 0o700); err != nil {
		return fmt.Errorf("model cache: %w", err)
	}
	o := ort.DefaultOptions()
	o.Threads = max(1, cfg.Runtime.Threads)
	onCPU := p.shelf(cache, o)
	p.Shelf, p.Threads = onCPU, func(n int) Shelf { return onCPU.WithThreads(n) }
	p.On = func(provider string) (Shelf, error) {
		if err := p.Runtime.Provides(provider); err != nil {
			return nil, err
		}
		// A folder of its own: a shelf sweeps what it does not know.
		cache := filepath.Join(cfg.State, "cache-"+provider)
		if err := os.MkdirAll(cache, 0o700); err != nil {
			return nil, fmt.Errorf("model cache: %w", err)
		}
		o := o
		o.Provider = provider
		return p.shelf(cache, o), nil
	}
	return nil
}

func (p *Parts) shelf(cache string, o ort.Options) *resident.Shelf {
	return resident.New(p.Runtime, p.Family, p.blobs, cache, o, p.guard)
}
