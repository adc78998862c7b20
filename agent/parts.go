package agent

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"github.com/limber-edge/limber/agent/monitor"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/resident"
	"github.com/limber-edge/limber/family/stock"
	"github.com/limber-edge/limber/firmware/power"
	"github.com/limber-edge/limber/store"
)

// Parts are what an agent is put together from.
type Parts struct {
	Version    string // of the program
	Family     *family.Family
	Preprocess family.Preprocess
	Shelf      Shelf        // nil: no ONNX Runtime, see Fault
	Runtime    *ort.Runtime // nil likewise
	// On makes a shelf on another execution provider than the CPU. Its error
	// wraps ort.ErrNoProvider when the runtime cannot use it.
	On      func(provider string) (Shelf, error)
	Threads func(n int) Shelf // makes one on the CPU whose sessions run on n threads
	Cores   int               // processors that this process may use
	Machine *monitor.Machine  // shared by all who look at it
	Board   *power.Board      // likewise
	Fault   error             // why there is no Shelf
	Unsaved error             // why the family could not be stored; it is served from the program's copy
	Store   *store.Store
	Outbox  *store.Outbox
	Former  []string // filters that the broker may hold from before

	guard   resident.Guard
	blobs   storedBlobs
	closers []func() error
}

// Open opens state, family and runtime. A missing runtime is no error: the
// device stays up and says so. Foreign models are tried by guard; nil refuses
// them. The error is store.ErrLocked when another process uses the state folder.
func Open(cfg Config, version string, guard resident.Guard, log *slog.Logger) (*Parts, error) {
	p := &Parts{Version: version, Machine: monitor.New("/"), Board: power.New("/"), Cores: runtime.GOMAXPROCS(0), guard: guard}
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
	if p.Store, err = store.Open(cfg.State, store.Options{}, log); err != nil {
		return err
	}
	p.closers = append(p.closers, p.Store.Close)
	if err := p.openOutbox(cfg, log); err != nil {
		return err
	}
	if err := p.recallFilters(cfg); err != nil {
		log.Warn("filters not remembered, those taken out later will still be served", "err", err)
	}
	carried, err := stock.Family()
	if err != nil {
		return err
	}
	if p.Family, p.Unsaved, err = installed(p.Store, carried); err != nil {
		return err
	}
	p.blobs = storedBlobs{p.Store, carried}
	if p.Preprocess, err = p.Family.Preprocessing(); err != nil {
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

// installed returns the device's family. A new device, or one whose program
// brought a newer stock family, gets the stock family. Where it cannot be
// stored, such as on a full disk, unsaved says why; the program's copy serves.
func installed(st *store.Store, carried *family.Folder) (f *family.Family, unsaved, err error) {
	manifest, err := st.Family()
	switch {
	case err == nil:
		current, err := family.Parse(manifest)
		if err == nil && (current.Name != carried.Name || current.Digest() == carried.Digest()) {
			return current, nil, nil
		}
	case !errors.Is(err, store.ErrNotFound):
		return nil, nil, err
	}
	if err := install(st, carried); err != nil {
		unsaved = fmt.Errorf("store the stock family: %w", err)
	}
	return &carried.Family, unsaved, nil
}

// Install makes f the family of the device whose state is in dir, from its next
// start on. Blobs that are there already need not come with it. The error is
// store.ErrLocked while the device runs.
func Install(dir string, f *family.Folder, log *slog.Logger) (err error) {
	carried, err := stock.Family()
	if err != nil {
		return err
	}
	if f.Name == carried.Name && f.Digest() != carried.Digest() {
		return fmt.Errorf("install family %s: the name is that of the stock family, which the next start would put back; choose another", f.Name)
	}
	st, err := store.Open(dir, store.Options{}, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	if err := install(st, f); err != nil {
		return fmt.Errorf("install family %s: %w", f.Name, err)
	}
	return nil
}

// install stores a family: blobs, then the manifest that names them. Until that
// is written the family before stays.
func install(st *store.Store, f *family.Folder) error {
	for _, d := range f.Digests() {
		digest, err := store.ParseDigest(string(d))
		if err != nil {
			return err
		}
		if _, err := st.Blob(digest); err == nil {
			continue
		}
		b, err := f.Blob(d)
		if err != nil {
			return err
		}
		if _, err := st.PutBlob(b); err != nil {
			return err
		}
	}
	manifest, err := f.Marshal()
	if err != nil {
		return err
	}
	if err := st.SetFamily(bytes.TrimSpace(manifest)); err != nil {
		return err
	}
	return prune(st, &f.Family)
}

// prune removes the blobs of families that were here before.
func prune(st *store.Store, current *family.Family) error {
	needed := map[string]bool{}
	for _, d := range current.Digests() {
		needed[string(d)] = true
	}
	_, err := st.Prune(func(d store.Digest) bool { return needed[d.String()] })
	return err
}

// storedBlobs reads a family's blobs from the store. What is lost or damaged
// there and part of the program is taken from the program, and stored anew.
type storedBlobs struct {
	store   *store.Store
	carried *family.Folder
}

func (s storedBlobs) Blob(d family.Digest) ([]byte, error) {
	digest, err := store.ParseDigest(string(d))
	if err != nil {
		return nil, err
	}
	b, err := s.store.Blob(digest)
	if err == nil {
		return b, nil
	}
	if b, e := s.carried.Blob(d); e == nil {
		// A store that cannot be written is told of elsewhere; the blob is good.
		_, _ = s.store.PutBlob(b)
		return b, nil
	}
	return nil, err
}
