package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/png"
	"maps"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/limber-edge/limber/agent/engine"
	"github.com/limber-edge/limber/agent/pipeline"
	"github.com/limber-edge/limber/agent/release"
	"github.com/limber-edge/limber/agent/update"
	"github.com/limber-edge/limber/agent/uplink"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/firmware/repo"
	"github.com/limber-edge/limber/store"
)

// ErrSwitch ends Run when another release of the program is to take over.
var ErrSwitch = errors.New("another release takes over")

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

// makeReleaser makes what carries out commands for releases, where a launcher started
// this program.
func (a *Agent) makeReleaser(trusted *repo.Client, carrier update.Carrier) {
	d, u := a.deps, a.cfg.Updates
	files, ok := carrier.(release.Carrier)
	if d.Slots == nil || !ok {
		return
	}
	cfg := release.Config{Folder: a.cfg.State, Window: u.Window, Trial: u.Trial.Duration,
		Sources: blobsBelow(u.Repository), Version: d.Version, Arch: runtime.GOARCH, Model: boardModel(),
		Runtime: d.inference != nil && d.inference.Shared(), Started: time.Now()}
	shown := &tried{Agent: a}
	deps := release.Deps{State: d.Store, Slots: d.Slots, Engine: shown, Link: shown, Carrier: files,
		Free:    func() (int64, error) { return store.FreeBytes(a.cfg.State) },
		Changed: func() { a.uplink.Changed(uplink.Caps) }, Clock: time.Now, End: a.end, Stopping: a.stopping}
	if trusted != nil {
		deps.Signer = signer{trusted}
	}
	a.releaser = release.New(cfg, deps, a.log)
}

// blobsBelow are the URLs below which the blobs of repositories lie.
func blobsBelow(repositories []string) (urls []string) {
	for _, r := range repositories {
		urls = append(urls, repo.BlobsBelow(r))
	}
	return urls
}

// Signed implements release.Signer.
func (s signer) Signed(ctx context.Context, version string, manifest family.Digest) error {
	return refusedAs(s.Client.Signed(ctx, version, manifest))
}

// boardModel is what the board calls itself; empty where it does not.
func boardModel() string {
	b, _ := os.ReadFile("/proc/device-tree/model") // not there on a PC
	return strings.TrimRight(string(b), "\x00\n")
}

// end has Run end: for another program, or with an error.
func (a *Agent) end(why error) {
	if why == nil {
		why = ErrSwitch
	}
	select {
	case a.ends <- why:
	default: // it ends already
	}
}

// tried is what the trial of a release sees of the agent: a release.Engine and a
// release.Link.
type tried struct {
	*Agent
	asking atomic.Bool
}

func (t *tried) Status() engine.Status { return t.engine.Status() }

func (t *tried) Answered() uint64 {
	s := t.engine.Snapshot()
	return s.Infer.Count()
}

func (t *tried) Canaries() map[string]error { return t.deps.canaries.all() }

// Unfit implements release.Engine. A member that could not be used when the profile was
// taken is not always tried again.
func (t *tried) Unfit() []string {
	unfit := slices.Collect(maps.Keys(t.deps.canaries.all()))
	if s := t.engine.Status(); s.Profile != nil {
		for i, m := range s.Profile.Members {
			if m.Fault != "" {
				unfit = append(unfit, canaryOf(s.Family, i, s.Variant))
			}
		}
	}
	return unfit
}

// askDeadline is that of a picture that nobody waits for: as long as any job may have.
const askDeadline = time.Minute

// Ask implements release.Engine. What the goal in force wants does not bind it.
func (t *tried) Ask() {
	if !t.asking.CompareAndSwap(false, true) {
		return
	}
	t.engine.Submit(pipeline.Job{Body: picture(), Received: time.Now(),
		Deadline: askDeadline, Floor: math.SmallestNonzeroFloat64, Priority: pipeline.Low},
		func(*engine.Answer) { t.asking.Store(false) })
}

// picture is a grey one, in PNG.
func picture() []byte {
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, 32, 32))); err != nil {
		panic("agent: a picture cannot be encoded: " + err.Error())
	}
	return b.Bytes()
}

func (t *tried) Online() bool      { return t.uplink.Status().Online }
func (t *tried) Delivered() uint64 { return t.uplink.Status().Taken }
func (t *tried) Keep(s wire.Severity, e wire.Event) (kept func() bool) {
	return t.uplink.Keep(s, e)
}

// canaries hold those that members failed, each by its family, member and provider.
type canaries struct {
	mu     sync.Mutex
	failed map[string]error
}

func (c *canaries) note(f *family.Family, member int, on family.Variant, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed == nil {
		c.failed = map[string]error{}
	}
	c.failed[canaryOf(f, member, on)] = err
}

func (c *canaries) all() map[string]error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.failed)
}

// canaryOf names one. How many threads there are is not in it: that is another thing from
// one release to the next.
func canaryOf(f *family.Family, member int, on family.Variant) string {
	return fmt.Sprintf("%s/%s of %s on %s", f.Name, f.Members[member].Name, f.Digest().Short(), on.Provider)
}

// watched are members whose canaries are watched.
type watched struct {
	engine.Loader
	family   *family.Family
	canaries *canaries
}

// Session implements engine.Loader.
func (w watched) Session(i int) (family.Session, error) {
	s, err := w.Loader.Session(i)
	if errors.Is(err, family.ErrCanary) {
		w.canaries.note(w.family, i, w.Variant(), err)
	}
	return s, err
}

// watch is open with the canaries of what it opens of a family watched.
func (c *canaries) watch(f *family.Family, open Members) Members {
	return func(v family.Variant) (engine.Loader, error) {
		l, err := open(v)
		if err != nil {
			return nil, err
		}
		return watched{l, f, c}, nil
	}
}

// tellRelease tells how a release ended, which its own run could not.
func (a *Agent) tellRelease(ctx context.Context) {
	if a.releaser == nil {
		return
	}
	if err := a.releaser.Begin(ctx); err != nil {
		a.log.Warn("how the last release ended may be told again", "err", err)
	}
}

// newest is the later of two updates that ended; either may be nil.
func newest(a, b *wire.LastUpdate) *wire.LastUpdate {
	if a == nil || b != nil && b.TS.After(a.TS.Time) {
		return b
	}
	return a
}
