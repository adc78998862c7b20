package update

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
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
	"github.com/limber-edge/limber/family/library"
	"github.com/limber-edge/limber/store"
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// variant makes a family that shares all but its canary with the one that devices start with.
func variant(name string) (*family.Family, family.MemoryBlobs) {
	blobs := family.MemoryBlobs{}
	f := family.Family{Schema: family.Schema, Name: name, Classes: []string{"a", "b"}}
	for i, b := range []string{"common", "of " + name} {
		top1 := 0.5 + 0.1*float64(i)
		m := family.Member{Name: fmt.Sprint(i), Top1: top1, Top5: top1, Model: blobs.Add([]byte(b)),
			Canary: blobs.Add([]byte("canary")), Input: "x", Output: "y"}
		m.Arch.R = 1
		f.Members = append(f.Members, m)
	}
	return &f, blobs
}

// carrier has blobs, and counts what it was asked for.
type carrier struct {
	mu      sync.Mutex
	blobs   family.MemoryBlobs
	fetched []family.Digest
	sized   int
	hold    chan struct{} // not nil: nobody has a blob until it is closed
	fault   error
}

func (c *carrier) Fetch(ctx context.Context, w blob.Wanted, progress func(int64)) ([]byte, error) {
	c.mu.Lock()
	hold, fault := c.hold, c.fault
	c.mu.Unlock()
	if fault != nil {
		return nil, fault
	}
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	b, err := c.blobs.Blob(w.Digest)
	if err == nil {
		progress(int64(len(b)))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fetched = append(c.fetched, w.Digest)
	return b, err
}

func (c *carrier) Size(_ context.Context, w blob.Wanted) (int64, error) {
	b, err := c.blobs.Blob(w.Digest)
	c.sized++
	return int64(len(b)), err
}

func (c *carrier) Forget(func(family.Digest) bool) error { return nil }

// fakeEngine runs families by name.
type fakeEngine struct {
	mu      sync.Mutex
	running *family.Family
	ran     []string                // the families that took over
	faults  map[string]error        // by family
	hold    chan struct{}           // not nil: Replace waits for it, and the end of Shadow
	answers map[string]engine.Tally // by family: what it answers at once when it takes over
	tally   engine.Tally
	away    uint64
	agrees  map[string]engine.Compared // by family: what comes of comparing it at once
	so      engine.Compared            // far
	how     []engine.Comparison        // that were asked for
	state   engine.State
}

func (e *fakeEngine) Replace(ctx context.Context, s engine.Source) error {
	e.mu.Lock()
	hold, err := e.hold, e.faults[s.Family.Name]
	e.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.running, e.ran = s.Family, append(e.ran, s.Family.Name)
	e.serve(s.Family)
	return nil
}

// serve begins a tally; mu is held.
func (e *fakeEngine) serve(f *family.Family) {
	e.tally = e.answers[f.Name]
	e.tally.Family = f
}

func (e *fakeEngine) Tally() Tally {
	e.mu.Lock()
	defer e.mu.Unlock()
	return Tally{e.tally, e.away}
}

func (e *fakeEngine) Shadow(ctx context.Context, s engine.Source, how engine.Comparison, told func(engine.Compared)) (
	last engine.Compared, err error) {
	e.mu.Lock()
	e.so, e.how = e.agrees[s.Family.Name], append(e.how, how)
	e.mu.Unlock()
	for {
		e.mu.Lock()
		so, hold, err := e.so, e.hold, e.faults[s.Family.Name]
		e.mu.Unlock()
		if so != last {
			last = so
			told(so)
		}
		if err != nil || so.Frames >= how.Frames {
			if hold != nil {
				<-hold
			}
			return so, err
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return last, ctx.Err()
		}
	}
}

// compare has frames compared, of which some agree.
func (e *fakeEngine) compare(frames, agreed int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.so.Frames += frames
	e.so.Agreed += agreed
	e.so.Missed, e.so.P95 = frames-agreed, 8*time.Millisecond
}

// waits has a comparison wait for something.
func (e *fakeEngine) waits(what string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.so.Waits = what
}

func (e *fakeEngine) Status() engine.Status {
	e.mu.Lock()
	defer e.mu.Unlock()
	return engine.Status{State: e.state, Family: e.running, Detail: "no member passed"}
}

// set gives it a state, and has it refuse jobs as busy.
func (e *fakeEngine) set(state engine.State, away uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.state = state
	e.away += away
}

// refuse has a family not take over, or do so again.
func (e *fakeEngine) refuse(name string, why error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.faults[name] = why
}

// answer has frames answered, of which some missed their deadline.
func (e *fakeEngine) answer(answered, missed uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.tally.Answered += answered
	e.tally.Missed += missed
	e.tally.P95 = 8 * time.Millisecond
}

// device is a state folder, and a run of an agent on it whose link does not come up.
type device struct {
	tb      testing.TB
	dir     string
	st      *store.Store
	box     *store.Outbox
	lib     *library.Library
	carrier *carrier
	engine  *fakeEngine
	free    int64
	ahead   atomic.Int64 // nanoseconds by which the clock on the wall was set
	cfg     Config
	sync    bool // limber.db is
	signer  Signer
	first   Left // that the first start is to take for what an earlier run left
	left    Left
	*Updater
	*controltest.Device
	halt func() // at once
	stop func() // in order
}

func newDevice(tb testing.TB, dir string) *device {
	tb.Helper()
	d := &device{tb: tb, dir: dir, free: 1 << 40, carrier: &carrier{blobs: family.MemoryBlobs{}},
		engine: &fakeEngine{faults: map[string]error{}, state: engine.Ready}, cfg: Config{Folder: dir}}
	d.start()
	tb.Cleanup(func() { d.stop() })
	return d
}

func (d *device) now() time.Time { return time.Now().Add(time.Duration(d.ahead.Load())) }

// start is one of the agent.
func (d *device) start() {
	d.tb.Helper()
	d.open()
	var err error
	if d.left, err = Settle(d.st, d.lib, d.now()); err != nil {
		d.tb.Fatal(err)
	}
	d.engine.running = d.lib.Current()
	d.engine.serve(d.engine.running)
	d.Updater = New(d.cfg, Deps{State: d.st, Library: d.lib, Engine: d.engine, Carrier: d.carrier,
		Source: func(f *family.Family) (engine.Source, error) { return engine.Source{Family: f}, nil },
		Free:   func() (int64, error) { return d.free, nil }, Changed: func() {}, Clock: d.now, Signer: d.signer,
	}, discard())
	if d.first.ID != "" {
		d.left, d.first = d.first, Left{}
	}
	d.Device = controltest.Start(d.tb, d.st, d.box, d.Updater.Verb(), d.left.ID, d.left.Payload)
	end := func(inOrder bool) {
		d.Cease()
		if inOrder {
			d.EndInOrder()
		}
		d.box.Close()
		d.st.Close()
	}
	var once sync.Once
	d.halt, d.stop = func() { once.Do(func() { end(false) }) }, func() { once.Do(func() { end(true) }) }
}

// open opens the state.
func (d *device) open() {
	d.tb.Helper()
	var err error
	if d.st, err = store.Open(d.dir, store.Options{NoSync: !d.sync}, discard()); err == nil {
		d.box, err = store.OpenOutbox(d.dir, store.OutboxOptions{NoSync: true}, discard())
	}
	if err == nil {
		d.lib, err = library.Open(d.st, nil)
	}
	if err != nil {
		d.tb.Fatal(err)
	}
}

// cut copies the state as a kill now would leave it, ends the run, and starts another
// one from the copy.
func (d *device) cut() {
	d.tb.Helper()
	synctest.Wait()
	dir := d.tb.TempDir()
	for _, name := range []string{"limber.db"} {
		b, err := os.ReadFile(filepath.Join(d.dir, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), b, 0o600)
		}
		if err != nil {
			d.tb.Fatal(err)
		}
	}
	d.stop()
	d.dir, d.cfg.Folder = dir, dir
	d.start()
	synctest.Wait()
}

// restart ends the run in order, and starts another one.
func (d *device) restart() {
	d.tb.Helper()
	d.stop()
	d.start()
	synctest.Wait()
}

// pace is how long a command may wait that follows another one.
const pace = 250 * time.Millisecond

// send hands a command on.
func (d *device) send(verb, id, payload string) {
	synctest.Wait()
	d.Receive(verb, id, payload)
	pass(pace)
}

// ends fails unless a command for a family ended so.
func (d *device) ends(id string, step wire.Step, reason wire.Reason, detail string, rolledBack bool) {
	d.tb.Helper()
	if a := d.Acked(wire.VerbFamily, id, step, reason, detail); a.RolledBack != rolledBack {
		d.tb.Errorf("got %+v, want rolled back: %t", a, rolledBack)
	}
	if s := d.Updater.Status(); step != wire.CommandRejected && (s.Step != nil || s.Last == nil || s.Last.ID != id ||
		s.Last.State != step || s.Last.Reason != reason || s.Last.RolledBack != rolledBack) {
		d.tb.Errorf("got the status %+v, last %+v; want the same end", s.Step, s.Last)
	}
}

// stands fails unless an update is in a phase.
func (d *device) stands(phase wire.UpdatePhase, detail string) {
	d.tb.Helper()
	synctest.Wait()
	if s := d.Updater.Status().Step; s == nil || s.Step != phase || s.Detail != detail {
		d.tb.Errorf("got %+v, want %s with %q", s, phase, detail)
	}
}

// pass lets time pass.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// offer has the controller know a family.
func (d *device) offer(name string) *family.Family {
	f, blobs := variant(name)
	maps.Copy(d.carrier.blobs, blobs)
	d.carrier.blobs[f.Digest()] = f.Compact()
	return f
}

// asked is a command for a family, with more of its fields as JSON.
func asked(f *family.Family, more string) string {
	return fmt.Sprintf(`{"family":{"name":%q,"digest":"sha256:%s"},"ttl_ms":3600000%s}`, f.Name, f.Digest(), more)
}

// wants fails unless these families are in use, staged and kept, "" for none, and all
// blobs of those are there.
func (d *device) wants(current, staged, before string) {
	d.tb.Helper()
	n, err := d.lib.Names()
	if err != nil {
		d.tb.Fatal(err)
	}
	got := [3]string{}
	for i, f := range []*family.Family{n.Current, n.Staged, n.Before} {
		if f == nil {
			continue
		}
		got[i] = f.Name
		if missing := d.lib.Missing(f); len(missing) > 0 {
			d.tb.Errorf("family %s lacks %q", f.Name, missing)
		}
	}
	if want := [3]string{current, staged, before}; got != want {
		d.tb.Errorf("got current, staged, before %q, want %q", got, want)
	}
}

const stockName = "cifar10"

// stocked is the state of a device that has started once: to store the family that it
// carries takes longer than most tests.
var stocked = sync.OnceValues(func() (state []byte, err error) {
	dir, err := os.MkdirTemp("", "limber-update-test-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	st, err := store.Open(dir, store.Options{NoSync: true}, discard())
	if err != nil {
		return nil, err
	}
	_, err = library.Open(st, nil)
	if err = errors.Join(err, st.Close()); err != nil {
		return nil, err
	}
	return os.ReadFile(filepath.Join(dir, "limber.db"))
})

// bubble runs a test in one, with a device.
func bubble(t *testing.T, f func(t *testing.T, d *device)) {
	t.Helper()
	dir := t.TempDir()
	state, err := stocked()
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "limber.db"), state, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) { f(t, newDevice(t, dir)) })
}
