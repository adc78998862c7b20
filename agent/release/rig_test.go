package release

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limber-edge/limber/agent/blob"
	"github.com/limber-edge/limber/agent/control/controltest"
	"github.com/limber-edge/limber/agent/engine"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/firmware/repo"
	"github.com/limber-edge/limber/firmware/slot"
	"github.com/limber-edge/limber/store"
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// fakeCarrier has blobs, and signs some of them. Its files are in a folder.
type fakeCarrier struct {
	dir   string
	blobs family.MemoryBlobs

	mu      sync.Mutex
	signed  map[family.Digest]string // versions
	fetched []family.Digest
	hold    chan struct{} // not nil: nobody has a blob until it is closed
	away    chan struct{} // not nil: nobody knows who signed what until it is closed
}

func (c *fakeCarrier) Signed(_ context.Context, version string, d family.Digest) error {
	if c.away != nil {
		<-c.away
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.signed[d] != version {
		return fmt.Errorf("release %s is not signed: %w", version, repo.ErrRefused)
	}
	return nil
}

// withdraw has a manifest not be signed any more.
func (c *fakeCarrier) withdraw(d family.Digest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.signed, d)
}

func (c *fakeCarrier) Fetch(ctx context.Context, w blob.Wanted, progress func(int64)) ([]byte, error) {
	c.mu.Lock()
	hold := c.hold
	c.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fetched = append(c.fetched, w.Digest)
	b, err := c.blobs.Blob(w.Digest)
	progress(int64(len(b)))
	return b, err
}

func (c *fakeCarrier) FetchFile(ctx context.Context, w blob.Wanted, progress func(int64)) (string, error) {
	b, err := c.Fetch(ctx, w, progress)
	path := filepath.Join(c.dir, string(w.Digest))
	if err == nil {
		err = os.WriteFile(path, b, 0o600)
	}
	return path, err
}

func (c *fakeCarrier) Forget(func(family.Digest) bool) error { return nil }

// device is a state folder, and runs of an agent on it under a launcher that a test plays.
type device struct {
	*testing.T
	dir     string
	carrier *fakeCarrier
	signer  Signer
	free    int64
	cfg     Config
	used    atomic.Int64 // of what is free
	sync    bool         // what is written is on the disk
	full    bool         // from a start on the ledger takes nothing
	shown   *fakeDevice  // by the run that is

	st    *store.Store
	box   *store.Outbox
	slots *slot.Agent
	left  Left
	ended chan error // why the run ended by itself
	stop  func()
	*Updater
	*controltest.Device
}

// bubble runs a test in one, with a device whose package's program is 1.4.0.
func bubble(t *testing.T, test func(*device)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		d := newDevice(t, dir)
		d.starts(slot.Package)
		t.Cleanup(func() { d.stop() })
		test(d)
	})
}

func newDevice(t *testing.T, dir string) *device {
	c := &fakeCarrier{dir: t.TempDir(), blobs: family.MemoryBlobs{}, signed: map[family.Digest]string{}}
	return &device{T: t, dir: dir, carrier: c, signer: c, free: 1 << 40, shown: sound(), cfg: Config{Folder: dir,
		Trial: 5 * time.Minute, Version: "1.4.0", Arch: "arm64", Model: "Board X"}}
}

// open opens the state.
func (d *device) open() {
	d.Helper()
	var err error
	if d.st, err = store.Open(d.dir, store.Options{NoSync: !d.sync}, discard()); err == nil {
		d.box, err = store.OpenOutbox(d.dir, store.OutboxOptions{NoSync: !d.sync}, discard())
	}
	if err != nil {
		d.Fatal(err)
	}
	d.stop = sync.OnceFunc(func() { d.box.Close(); d.st.Close() })
}

// start is one of the program in a slot. Its error is that it ended at once.
func (d *device) start(n slot.Name) (err error) {
	d.Helper()
	d.open()
	if d.full {
		d.ledger(false)
	}
	d.slots = slot.Open(d.dir).Agent(n)
	d.ended = make(chan error, 1)
	if d.left, err = Settle(d.st, d.slots); err != nil {
		return err
	}
	d.run()
	return nil
}

// run has the parts of an agent work.
func (d *device) run() {
	stopping := make(chan struct{})
	ended := d.ended
	cfg := d.cfg
	cfg.Started = time.Now()
	var signer Signer
	if d.signer != nil {
		signer = d.signer
	}
	d.Updater = New(cfg, Deps{State: d.st, Slots: d.slots, Engine: d.shown, Canaries: &d.shown.canaries,
		Link: fakeLink{d.shown}, Carrier: d.carrier, Signer: signer,
		Free: func() (int64, error) { return d.free - d.used.Load(), nil }, Changed: func() {}, Clock: time.Now,
		End: func(why error) { ended <- why }, Stopping: stopping}, discard())
	if err := d.Begin(context.Background()); err != nil && !d.shown.lost && !d.full {
		d.Error(err)
	}
	d.Device = controltest.Start(d, d.st, d.box, d.Updater.Verb(), d.left.ID, d.left.Payload)
	closed := d.stop
	d.stop = sync.OnceFunc(func() {
		close(stopping)
		d.Cease()
		closed()
	})
}

// starts is start of a program that goes on.
func (d *device) starts(n slot.Name) {
	d.Helper()
	if err := d.start(n); err != nil {
		d.Fatal(err)
	}
	synctest.Wait()
}

// restart ends the run in order, and starts the program that is to run.
func (d *device) restart() {
	d.Helper()
	d.stop()
	d.starts(d.phase().Slot)
}

// switched wants the run to have ended for another release, and starts that as the
// launcher does.
func (d *device) switched(shown *fakeDevice) {
	d.Helper()
	d.shown = shown
	select {
	case err := <-d.ended:
		if err != ErrSwitch {
			d.Fatalf("it ended: %v", err)
		}
	default:
		d.Fatalf("it goes on, %+v", d.Updater.Status().Step)
	}
	d.stop()
	if err := slot.Open(d.dir).Launcher().Count(""); err != nil {
		d.Fatal(err)
	}
	d.starts(d.phase().Slot)
}

// back has the launcher go back, and starts the program before.
func (d *device) back(r slot.Reason, tail string, shown *fakeDevice) {
	d.Helper()
	d.stop()
	p, err := slot.Open(d.dir).Launcher().Back(r, tail)
	if err != nil {
		d.Fatal(err)
	}
	d.shown = shown
	d.starts(p.Slot)
}

func (d *device) phase() slot.Phase {
	d.Helper()
	p, err := slot.Open(d.dir).Phase()
	if err != nil {
		d.Fatal(err)
	}
	return p
}

// pass lets time pass.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// library is a file that all releases have in common.
const library = "a large library"

// offer has a release in the repository.
func (d *device) offer(version string, change ...func(*repo.Manifest)) *repo.Manifest {
	d.Helper()
	program := "#! program " + version
	m := &repo.Manifest{Schema: 1, Version: version, Arch: "arm64", State: repo.TwoWay, Files: []repo.File{
		{Path: "libonnxruntime.so", Digest: d.carrier.blobs.Add([]byte(library)), Bytes: int64(len(library)), Mode: repo.ModePlain},
		{Path: repo.Program, Digest: d.carrier.blobs.Add([]byte(program)), Bytes: int64(len(program)), Mode: repo.ModeProgram},
	}}
	for _, c := range change {
		c(m)
	}
	d.carrier.blobs[m.Digest()] = m.Compact()
	d.carrier.signed[m.Digest()] = m.Version
	return m
}

// asked is a command for a release, with more of its fields as JSON.
func asked(m *repo.Manifest, more string) string {
	return fmt.Sprintf(`{"version":%q,"digest":"sha256:%s","ttl_ms":3600000%s}`, m.Version, m.Digest(), more)
}

// send hands a command on, and lets it work.
func (d *device) send(verb, id, payload string) {
	synctest.Wait()
	d.Receive(verb, id, payload)
	pass(1100 * time.Millisecond)
}

// ends fails unless a command for a release ended so.
func (d *device) ends(id string, step wire.Step, reason wire.Reason, detail string, rolledBack bool) {
	d.Helper()
	if a := d.Acked(wire.VerbRelease, id, step, reason, detail); a.RolledBack != rolledBack {
		d.Errorf("got %+v, want rolled back: %t", a, rolledBack)
	}
	if s := d.Updater.Status(); s.Step != nil || s.Last == nil || s.Last.ID != id || s.Last.State != step ||
		s.Last.Reason != reason || s.Last.RolledBack != rolledBack || s.Last.Release == nil {
		d.Errorf("got the status %+v, last %+v; want the same end", s.Step, s.Last)
	}
}

// stands fails unless a command is at a step.
func (d *device) stands(step wire.UpdatePhase, detail string) {
	d.Helper()
	synctest.Wait()
	if s := d.Updater.Status().Step; s == nil || s.Step != step || !strings.Contains(s.Detail, detail) {
		d.Errorf("got %+v, want %s with %q", s, step, detail)
	}
}

// told are the reasons of the events of updates of a run.
func told(shown *fakeDevice) (reasons []string) {
	for _, e := range shown.events {
		reasons = append(reasons, e.Reason)
	}
	return reasons
}

// wants fails unless the phase, what runs and the number of refused digests are these.
func (d *device) wants(phase string, n slot.Name, refused int) {
	d.Helper()
	if p := d.phase(); p.Phase != phase || p.Slot != n || len(p.Refused) != refused {
		d.Errorf("got %s in slot %s, refused %q; want %s in %s, %d refused", p.Phase, p.Slot, p.Refused, phase, n, refused)
	}
}

// dark is a device that has no link.
func dark() *fakeDevice { return &fakeDevice{state: engine.Ready} }

// block has the phase not be recorded, as a full disk does, until it is called with false.
func (d *device) block(on bool) {
	d.Helper()
	path := filepath.Join(d.dir, "slots", "phase.json.new")
	do := func() error { return os.Remove(path) }
	if on {
		do = func() error { return os.MkdirAll(path, 0o700) }
	}
	if err := do(); err != nil {
		d.Fatal(err)
	}
}

// ledger has it take nothing, as on a full disk, or all again.
func (d *device) ledger(takes bool) {
	d.Helper()
	from, to := filepath.Join(d.dir, "limber.db"), filepath.Join(d.dir, "away")
	if takes {
		from, to = to, from
	}
	if err := os.Rename(from, to); err != nil {
		d.Fatal(err)
	}
}
