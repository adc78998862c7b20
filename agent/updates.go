package agent

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/limber-edge/limber/agent/blob"
	"github.com/limber-edge/limber/agent/engine"
	"github.com/limber-edge/limber/agent/pipeline"
	"github.com/limber-edge/limber/agent/release"
	"github.com/limber-edge/limber/agent/update"
	"github.com/limber-edge/limber/agent/uplink"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/firmware/repo"
	"github.com/limber-edge/limber/store"
)

// settle decides about an update that an earlier run left, before its family is loaded.
func (a *Agent) settle() (err error) {
	lib := a.deps.library
	if lib == nil {
		return nil
	}
	if a.left, err = update.Settle(a.deps.Store, lib, time.Now()); err != nil {
		a.left.Told = append(a.left.Told, err) // the family in use is a whole one all the same
	}
	if lib.Current() == a.deps.Family {
		return nil
	}
	a.deps.Source, err = a.deps.SourceOf(lib.Current())
	return err
}

// settleRelease decides about a release that an earlier run left, of which this program
// may be one.
func (a *Agent) settleRelease() (err error) {
	if a.deps.Slots == nil {
		return nil
	}
	a.leftRelease, err = release.Settle(a.deps.Store, a.deps.Slots)
	if err != nil && !errors.Is(err, release.ErrUnproved) {
		a.left.Told = append(a.left.Told, err)
		return nil
	}
	return err
}

// partialBlobs is the folder of blobs that are on their way, in that of the state.
const partialBlobs = "fetch"

func (a *Agent) makeUpdater() error {
	d, u := a.deps, a.cfg.Updates
	if d.library == nil {
		return nil
	}
	carrier := d.Carrier
	if carrier == nil {
		allowed, err := blob.ParseAllowed(slices.Concat(u.Sources, repo.BlobsBelow(u.Repository...)))
		if err != nil {
			return err
		}
		a.fetcher = blob.New(blob.Config{Dir: filepath.Join(a.cfg.State, partialBlobs), Allowed: allowed,
			KiBPerSecond: u.KiBS}, a.uplink, a.log)
		carrier = a.fetcher
	}
	trusted, err := a.openRepository()
	if err != nil {
		return err
	}
	var signed update.Signer // else families need not be
	if trusted != nil {
		signed = trusted
	}
	a.makeReleaser(trusted, carrier)
	a.updater = update.New(update.Config{Folder: a.cfg.State, Window: u.Window, AllowForce: u.AllowForce}, update.Deps{
		State: d.Store, Library: d.library, Engine: serving{a}, Carrier: carrier, Source: d.SourceOf,
		Free:    func() (int64, error) { return store.FreeBytes(a.cfg.State) },
		Changed: func() { a.uplink.Changed(uplink.Caps) }, Clock: time.Now, Signer: signed,
	}, a.log)
	return nil
}

// makeReleaser makes what carries out commands for releases, where a launcher started
// this program.
func (a *Agent) makeReleaser(trusted *repo.Client, carrier update.Carrier) {
	d, u := a.deps, a.cfg.Updates
	files, ok := carrier.(release.Carrier)
	if d.Slots == nil || !ok {
		return
	}
	cfg := release.Config{Folder: a.cfg.State, Window: u.Window, Trial: u.Trial.Duration,
		Sources: repo.BlobsBelow(u.Repository...), Version: d.Version, Arch: runtime.GOARCH, Model: d.Machine.Model(),
		Runtime: d.inference != nil && d.inference.Shared(), Started: time.Now()}
	deps := release.Deps{State: d.Store, Slots: d.Slots, Engine: serving{a}, Canaries: &d.canaries,
		Link: a.uplink, Carrier: files,
		Free:    func() (int64, error) { return store.FreeBytes(a.cfg.State) },
		Changed: func() { a.uplink.Changed(uplink.Caps) }, Clock: time.Now, End: a.end, Stopping: a.stopping}
	if trusted != nil {
		deps.Signer = trusted
	}
	a.releaser = release.New(cfg, deps, a.log)
}

// repository is the folder of what is known of signed families, in that of the state.
const repository = "repo"

// openRepository opens what is known of what is signed, where the configuration says who
// may sign; else it is nil.
func (a *Agent) openRepository() (*repo.Client, error) {
	u := a.cfg.Updates
	if u.RootFile == "" {
		return nil, nil
	}
	root, err := repo.ReadRoot(u.RootFile)
	if err != nil {
		return nil, err
	}
	allowed, err := blob.ParseAllowed(u.Repository)
	if err != nil {
		return nil, err
	}
	mirrors := blob.New(blob.Config{Allowed: allowed}, a.uplink, a.log)
	return repo.NewClient(
		repo.Config{Dir: filepath.Join(a.cfg.State, repository), Root: root, Sources: u.Repository, Built: uplink.BuiltAt()},
		repo.Deps{Getter: mirrors, Clock: time.Now, Confirmed: a.confirmed}, a.log)
}

// confirmed is what time it is, as an operator said; zero if none did.
func (a *Agent) confirmed() time.Time {
	behind, ok := a.uplink.Offset()
	if !ok {
		return time.Time{}
	}
	return time.Now().Add(behind)
}

// serving is what an update and a release see of an agent, whose engine is made after them:
// an update.Engine, and a release.Engine.
type serving struct{ *Agent }

func (s serving) Replace(ctx context.Context, next engine.Source) error {
	return s.engine.Replace(ctx, next)
}
func (s serving) Shadow(ctx context.Context, next engine.Source, how engine.Comparison, told func(engine.Compared)) (
	engine.Compared, error) {
	return s.engine.Shadow(ctx, next, how, told)
}
func (s serving) Status() engine.Status { return s.engine.Status() }
func (s serving) Answered() uint64      { return s.engine.Answered() }
func (s serving) Submit(j pipeline.Job, answer func(*engine.Answer)) {
	s.engine.Submit(j, answer)
}
func (s serving) Tally() update.Tally {
	return update.Tally{Tally: s.engine.Tally(), TurnedAway: s.jobs.refused[wire.Busy].Load()}
}

// cellMachine holds what names a machine that has no name of its own.
const cellMachine = "machine"

// machineID names the machine, whatever the device is called.
func (d *Deps) machineID() string {
	if id := d.Machine.ID(); id != "" {
		return id
	}
	if b, err := d.Store.Cell(cellMachine); err == nil {
		return string(b)
	}
	random := make([]byte, 8)
	rand.Read(random) // never fails, since Go 1.24
	id := hex.EncodeToString(random)
	if err := d.Store.SetCell(cellMachine, []byte(id)); err != nil {
		return "" // better none than another with every start
	}
	return id
}
