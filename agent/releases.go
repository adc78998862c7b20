package agent

import (
	"bytes"
	"context"
	"errors"
	"image"
	"image/png"
	"math"
	"os"
	"runtime"
	"strings"
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
		Sources: blobsBelow(u.Repository), Version: d.Version, Arch: runtime.GOARCH, Model: boardModel(), Started: time.Now()}
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

func (t *tried) Canary() error { return t.deps.canaries.failed() }

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

// canaries hold the first canary that a member failed.
type canaries struct{ first atomic.Pointer[error] }

func (c *canaries) failed() error {
	if err := c.first.Load(); err != nil {
		return *err
	}
	return nil
}

// watched are members whose canaries are watched.
type watched struct {
	engine.Loader
	canaries *canaries
}

// Session implements engine.Loader.
func (w watched) Session(i int) (family.Session, error) {
	s, err := w.Loader.Session(i)
	if errors.Is(err, family.ErrCanary) {
		w.canaries.first.CompareAndSwap(nil, &err)
	}
	return s, err
}

// watch is open with the canaries of what it opens watched.
func (c *canaries) watch(open Members) Members {
	return func(v family.Variant) (engine.Loader, error) {
		l, err := open(v)
		if err != nil {
			return nil, err
		}
		return watched{l, c}, nil
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
