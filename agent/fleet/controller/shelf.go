package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/limber-edge/limber/agent/blob"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/store"
)

const (
	cacheBytes    = 64 << 20         // of blobs that are served again and again
	fetchPatience = 20 * time.Second // without a byte, after which nobody has a blob
	progressEvery = time.Second
	familiesMost  = 8 // that may wait to be fetched
)

// shelf has the blobs of families, and knows who may have them. Its methods may be called
// from any goroutine.
type shelf struct {
	store   Store
	fetcher *blob.Fetcher
	cache   *blob.Cache
	wanted  chan wanted
	brought chan wanted

	mu       sync.Mutex
	families map[string]map[family.Digest]bool // guarded by mu: blobs of those that are here, by wire.Family.Digest
	devices  map[string][]string               // guarded by mu: families that a device may have
	live     map[string]bool                   // guarded by mu: families of rollouts that live
}

// wanted is a family that a command waits for.
type wanted struct {
	command command
	asked   wire.RolloutCommand
	err     error // why it did not come
}

// asker asks who has a blob, at the controller's own address.
type asker struct{ c *Controller }

// Fetch implements blob.Link.
func (a asker) Fetch(digest string, f wire.Fetch) error {
	b, err := json.Marshal(f)
	if err == nil && !a.c.client.Offer(mqtt.Message{Topic: a.c.at.Fetch(digest), Payload: b}) {
		err = errors.New("the link is busy")
	}
	return err
}

func newShelf(s Store, f *blob.Fetcher) *shelf {
	h := &shelf{store: s, fetcher: f, wanted: make(chan wanted, familiesMost), brought: make(chan wanted),
		families: map[string]map[family.Digest]bool{}}
	h.cache = blob.NewCache(h, cacheBytes)
	return h
}

// Blob implements family.Blobs.
func (h *shelf) Blob(d family.Digest) ([]byte, error) {
	b, err := h.store.Document(keyBlob + string(d))
	if err == nil && family.DigestOf(b) != d {
		err = fmt.Errorf("blob %s is damaged", d.Short())
	}
	return b, err
}

// digestOf is the manifest's as a blob.
func digestOf(name string) family.Digest { return family.Digest(strings.TrimPrefix(name, "sha256:")) }

// open finds the families of rollouts that are here.
func (h *shelf) open(entries []*entry) {
	for _, e := range entries {
		for _, name := range e.families() {
			h.place(name)
		}
	}
	h.allow(entries)
}

// families are those that a rollout has to do with, those that devices go back to
// included.
func (e *entry) families() (names []string) {
	if e.Spec.Family == nil {
		return nil
	}
	names = append(names, e.Spec.Family.Digest)
	for _, b := range e.Before {
		if b.Family != nil {
			names = append(names, b.Family.Digest)
		}
	}
	return names
}

// place notes a family that is here, and tells whether it is, whole.
func (h *shelf) place(name string) bool {
	manifest, err := h.Blob(digestOf(name))
	if err != nil {
		return false
	}
	f, err := family.Parse(manifest)
	if err != nil {
		return false
	}
	blobs := map[family.Digest]bool{digestOf(name): true}
	for _, d := range f.Digests() {
		if _, err := h.Blob(d); err != nil {
			return false
		}
		blobs[d] = true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.families[name] = blobs
	return true
}

// has tells whether a family is here.
func (h *shelf) has(name string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.families[name] != nil
}

// allow notes who may have what.
func (h *shelf) allow(entries []*entry) {
	devices, live := map[string][]string{}, map[string]bool{}
	for _, e := range entries {
		if e.Final() || e.Spec.Family == nil {
			continue
		}
		for _, name := range e.families() {
			live[name] = true
		}
		for i := range e.Devices {
			device := e.Devices[i].Name
			for _, f := range e.Families(device) {
				devices[device] = append(devices[device], f.Digest)
			}
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.devices, h.live = devices, live
}

// may tells whether a device may have a blob.
func (h *shelf) may(device string, d family.Digest) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, name := range h.devices[device] {
		if h.families[name][d] {
			return true
		}
	}
	return false
}

// alive tells whether a rollout that lives needs a blob.
func (h *shelf) alive(d family.Digest) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for name := range h.live {
		if h.families[name][d] {
			return true
		}
	}
	return false
}

// thin has the blobs removed that no rollout needs.
func (h *shelf) thin(b *book) error {
	needed := h.needed(b.entries)
	keys, err := h.store.Keys(keyBlob)
	for _, key := range keys {
		if !needed[key] {
			b.change(key, nil)
		}
	}
	return err
}

// needed are the keys of the blobs that rollouts need. It forgets the families that none
// does.
func (h *shelf) needed(entries []*entry) map[string]bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	families, keys := map[string]map[family.Digest]bool{}, map[string]bool{}
	for _, e := range entries {
		for _, name := range e.families() {
			if h.families[name] != nil {
				families[name] = h.families[name]
			}
			for d := range h.families[name] {
				keys[keyBlob+string(d)] = true
			}
		}
	}
	h.families = families
	return keys
}

// await has the family of a start fetched from who asked for it, if it is not here and
// no other place is named, and tells whether the command has to wait for that.
func (c *Controller) await(cmd command, asked wire.RolloutCommand) (wait bool, err error) {
	f := asked.Spec.Family
	if f == nil || len(asked.Spec.Sources) > 0 || c.shelf.has(f.Digest) || c.shelf.place(f.Digest) {
		return false, nil
	}
	select {
	case c.shelf.wanted <- wanted{command: cmd, asked: asked}:
	default:
		return false, wire.Refuse(wire.Busy, "%d families are being fetched: try again later", familiesMost)
	}
	c.ledger.begin(cmd)
	c.answer(wire.Ack{ID: cmd.id, Verb: wire.VerbRollout, State: wire.CommandAccepted, TS: wire.At(time.Now())})
	return true, nil
}

// brought goes on with a command whose family came, or did not.
func (c *Controller) brought(w wanted) {
	delete(c.ledger.open, w.command.id)
	detail, err := "", w.err
	if err == nil {
		detail, err = c.act(w.asked, time.Now())
	}
	c.finish(w.command, detail, err)
}

// bring fetches the families that commands wait for, one after the other.
func (c *Controller) bring(ctx context.Context) error {
	for {
		select {
		case w := <-c.shelf.wanted:
			w.err = c.fetch(ctx, w)
			select {
			case c.shelf.brought <- w:
			case <-ctx.Done():
				return nil
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// fetch brings a family. Its error says that nobody has it, or why it is none.
func (c *Controller) fetch(ctx context.Context, w wanted) error {
	name := w.asked.Spec.Family.Digest
	f := fetching{c: c, id: w.command.id}
	manifest, err := f.blob(ctx, digestOf(name), family.MaxManifest)
	if err != nil {
		return err
	}
	is, err := family.Parse(manifest)
	if err != nil {
		return &wire.Refusal{Reason: wire.Invalid, Err: err}
	}
	for _, d := range is.Digests() {
		if _, err := f.blob(ctx, d, family.MaxBlob); err != nil {
			return err
		}
	}
	if !c.shelf.place(name) {
		return wire.Refuse(wire.Internal, "family %s does not stay in the state", is.Name)
	}
	return c.shelf.fetcher.Forget(func(family.Digest) bool { return false })
}

// fetching is a family on its way.
type fetching struct {
	c    *Controller
	id   string // of the command
	done int64  // bytes of blobs that came before
	told time.Time
}

// blob brings a blob, if it is not here, and stores it.
func (f *fetching) blob(ctx context.Context, d family.Digest, most int64) ([]byte, error) {
	if b, err := f.c.shelf.Blob(d); err == nil || !errors.Is(err, store.ErrNotFound) {
		return b, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	nobody := wire.Refuse(wire.Precondition, "nobody has blob %s: start it by `limber fleet rollout start "+
		"--family FILE`, or name its sources", d.Short())
	silence := time.AfterFunc(fetchPatience, func() { cancel(nobody) })
	defer silence.Stop()
	b, err := f.c.shelf.fetcher.Fetch(ctx, blob.Wanted{Digest: d, Max: most}, func(done int64) {
		silence.Reset(fetchPatience)
		f.tell(ctx, f.done+done)
	})
	if err != nil && context.Cause(ctx) == error(nobody) {
		return nil, nobody
	} else if err != nil {
		return nil, err
	}
	f.done += int64(len(b))
	if err := f.c.shelf.store.Commit(map[string][]byte{keyBlob + string(d): b}); err != nil {
		return nil, err
	}
	return b, f.c.shelf.fetcher.Forget(func(other family.Digest) bool { return other != d })
}

// tell says how far it is, to who asked.
func (f *fetching) tell(ctx context.Context, done int64) {
	now := time.Now()
	if now.Sub(f.told) < progressEvery {
		return
	}
	f.told = now
	f.c.client.Send(ctx, f.c.answerOf(wire.Ack{ID: f.id, Verb: wire.VerbRollout, State: wire.CommandExecuting,
		TS: wire.At(now), Progress: &wire.Progress{Step: wire.UpdateFetching, Done: done}}))
}
