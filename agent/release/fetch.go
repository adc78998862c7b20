package release

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/limber-edge/limber/agent/blob"
	"github.com/limber-edge/limber/agent/engine"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/firmware/repo"
	"github.com/limber-edge/limber/firmware/slot"
	"github.com/limber-edge/limber/store"
)

const (
	spare       = 64 << 20  // bytes that must be left on the file system
	maxManifest = 512 << 10 // bytes
	maxCommand  = 60 << 10  // bytes of a command, which are recorded with the phase
)

// digestPrefix is before the digits of a digest on the wire and in slots.
const digestPrefix = "sha256:"

func digestOf(d string) family.Digest { return family.Digest(strings.TrimPrefix(d, digestPrefix)) }

// bring has the release lie in the slot that does not run.
func (t *task) bring(ctx context.Context, p *slot.Phase) error {
	t.enter(wire.UpdateFetching, "the repository is asked who signed it") // which may be out of reach for days
	if err := t.signed(ctx); err != nil {
		return err
	}
	t.enter(wire.UpdateFetching, "")
	if !t.staged(p) {
		if err := t.begin(); err != nil {
			return noSpace(err)
		}
		m, err := t.manifest(ctx)
		if err != nil {
			return noSpace(err)
		}
		if err := beside(func() error { return t.stage(ctx, m) }); err != nil {
			return noSpace(err)
		}
	}
	t.enter(wire.UpdateVerified, "")
	return nil
}

// signed says why the release may not be taken now: the configuration may have changed since
// the command came, and the release may have been withdrawn.
func (t *task) signed(ctx context.Context) error {
	if t.deps.Signer == nil {
		return noSigner()
	}
	err := t.deps.Signer.Signed(ctx, t.asked.Version, digestOf(t.asked.Digest))
	if errors.Is(err, repo.ErrRefused) {
		return &wire.Refusal{Reason: wire.Unauthorized, Err: err}
	}
	return err
}

// staged tells whether an earlier run has brought it, for this command: the phase names whose
// release is tried.
func (t *task) staged(p *slot.Phase) bool {
	if p.Phase != slot.Stage || p.Digest != t.asked.Digest || p.Command == nil || p.Command.ID != t.order.ID {
		return false
	}
	return slices.ContainsFunc([]slot.Name{slot.A, slot.B}, func(n slot.Name) bool {
		r, err := t.deps.Slots.Release(n)
		return err == nil && n != t.deps.Slots.Running() && r.Digest == t.asked.Digest
	})
}

// begin records what is to be brought, and for which command.
func (t *task) begin() error {
	if len(t.order.Payload) > maxCommand {
		return wire.Refuse(wire.Invalid, "the command has %d bytes, more than %d", len(t.order.Payload), maxCommand)
	}
	s := t.deps.Slots
	if err := dropKept(t.cfg.Folder); err != nil { // it would come back in the phases of the next one
		return err
	}
	if last, c, ok := s.Untold(); ok { // which the last run did not get to note
		if err := t.settle(c, last); err != nil {
			return err
		}
		if err := s.Told(); err != nil {
			return err
		}
	}
	if t.order.Retry {
		if err := s.Allow(t.asked.Digest); err != nil {
			return err
		}
	}
	// As a string: JSON in JSON would be written in another form, and the ledger knows it by its bytes.
	c := slot.Command{ID: t.order.ID, Payload: encode(string(t.order.Payload))}
	return s.Fetch(t.asked.Version, t.asked.Digest, &c)
}

// manifest brings that of the release, and judges it.
func (t *task) manifest(ctx context.Context) (*repo.Manifest, error) {
	if err := t.room(0); err != nil {
		return nil, err
	}
	b, err := t.deps.Carrier.Fetch(ctx, t.wanted(digestOf(t.asked.Digest), maxManifest), func(int64) {})
	if err != nil {
		return nil, err
	}
	m, err := repo.ParseManifest(b)
	if err != nil {
		return nil, &wire.Refusal{Reason: wire.Invalid, Err: err}
	}
	return m, t.judgeManifest(m)
}

func (t *task) wanted(d family.Digest, most int64) blob.Wanted {
	return blob.Wanted{Digest: d, Sources: slices.Concat(t.order.Sources, t.cfg.Sources), Max: most}
}

// judgeManifest says why a release may not take the place of this program.
func (t *task) judgeManifest(m *repo.Manifest) error {
	here := t.Status().Running.Version // as it was signed, whatever the program was linked with
	if m.Version != t.asked.Version {
		return wire.Refuse(wire.Invalid, "manifest %s is that of release %s, the command names %s",
			digestOf(t.asked.Digest).Short(), m.Version, t.asked.Version)
	}
	if err := m.Fits(t.cfg.Arch, t.cfg.Model); err != nil {
		return &wire.Refusal{Reason: wire.Unsupported, Err: err}
	}
	if err := m.MayReplace(here); err != nil {
		return &wire.Refusal{Reason: wire.Precondition, Err: err}
	}
	if !t.cfg.Runtime && !m.HasRuntime() {
		return wire.Refuse(wire.Precondition, "release %s brings no ONNX Runtime, and from a slot that of the package is not "+
			"found; add libonnxruntime.so.* to its folder, beside limber", m.Version)
	}
	switch older := repo.ValidVersion(here) && repo.CompareVersions(m.Version, here) < 0; {
	case older && !t.order.Downgrade:
		return wire.Refuse(wire.Precondition, "release %s is older than this one, %s; take it with downgrade", m.Version,
			here)
	case m.State == repo.OneWay && !t.order.OneWay:
		return wire.Refuse(wire.Precondition, "release %s leaves a state that this one, %s, cannot read; take it with "+
			"one_way", m.Version, here)
	}
	return nil
}

// beside does what takes long where the jobs that are answered meanwhile leave a processor.
func beside(do func() error) error {
	done := make(chan error, 1)
	go func() {
		engine.LowerPriority()
		done <- do()
	}()
	return <-done
}

// stage brings the files that are not here yet, and fills the slot. What the slot of this
// release has may have been damaged since: then all of them are brought.
func (t *task) stage(ctx context.Context, m *repo.Manifest) error {
	r, err := releaseOf(m, t.asked.Digest)
	if err != nil {
		return err
	}
	err = t.fill(ctx, r, t.deps.Slots.Held)
	if errors.Is(err, slot.ErrSource) {
		t.log.Warn("a file of this release is damaged", "err", err)
		err = t.fill(ctx, r, func(string) (string, bool) { return "", false })
	}
	return err
}

// releaseOf is a manifest as slots have it.
func releaseOf(m *repo.Manifest, digest string) (slot.Release, error) {
	r := slot.Release{Version: m.Version, Digest: digest}
	for _, f := range m.Files {
		mode, err := strconv.ParseUint(f.Mode, 8, 32)
		if err != nil {
			return r, fmt.Errorf("mode of %s: %w", f.Path, err)
		}
		r.Files = append(r.Files, slot.File{Path: f.Path, Digest: digestPrefix + string(f.Digest), Bytes: f.Bytes,
			Mode: fs.FileMode(mode)})
	}
	return r, nil
}

// fill fills the slot with files of which some are held, and fetches the others.
func (t *task) fill(ctx context.Context, r slot.Release, held func(digest string) (path string, ok bool)) error {
	paths, err := t.fetchFiles(ctx, r, held)
	if err != nil {
		return err
	}
	err = t.deps.Slots.Stage(ctx, r, func(f slot.File) (io.ReadCloser, error) { return os.Open(paths[f.Digest]) })
	if err != nil {
		return err
	}
	return t.deps.Carrier.Forget(func(family.Digest) bool { return false }) // else it would take its room twice
}

// fetchFiles brings the files that are not held, if there is room for all of them and for
// the slot. It returns where each lies, by digest.
func (t *task) fetchFiles(ctx context.Context, r slot.Release, held func(digest string) (path string, ok bool)) (
	paths map[string]string, err error) {
	paths = map[string]string{}
	var missing []slot.File
	of, room := int64(0), int64(0)
	for _, f := range r.Files {
		room += f.Bytes
		if _, ok := paths[f.Digest]; ok {
			continue
		}
		path, ok := held(f.Digest)
		if paths[f.Digest] = path; !ok {
			missing, of = append(missing, f), of+f.Bytes
		}
	}
	if err := t.room(room + of); err != nil {
		return nil, err
	}
	t.done = 0
	for _, f := range missing {
		paths[f.Digest], err = t.deps.Carrier.FetchFile(ctx, t.wanted(digestOf(f.Digest), f.Bytes), func(n int64) {
			t.course.Tell(wire.Progress{Step: wire.UpdateFetching, Done: t.done + n, Of: of}, nil)
		})
		if err != nil {
			return nil, err
		}
		t.done += f.Bytes
	}
	return paths, nil
}

// room refuses a release that would fill the file system, with the copy of the state that
// one is kept of.
func (t *task) room(bytes int64) error {
	free, err := t.deps.Free()
	if err != nil {
		return err
	}
	what := "the release takes"
	if t.order.OneWay {
		state, err := store.Size(t.cfg.Folder)
		if err != nil {
			return err
		}
		bytes, what = bytes+state, "the release and a copy of the state take"
	}
	if free < bytes+spare {
		return wire.Refuse(wire.NoSpace, "%d MiB are left on the file system of the state, %s %d KiB and %d MiB must stay "+
			"free; make room", free>>20, what, bytes>>10, spare>>20)
	}
	return nil
}

// noSpace gives an error of a full disk its reason, and one of slots that of who asked.
func noSpace(err error) error {
	_, refused := errors.AsType[*wire.Refusal](err)
	switch {
	case refused:
		return err
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return &wire.Refusal{Reason: wire.NoSpace, Err: err}
	case errors.Is(err, slot.ErrRefused):
		return &wire.Refusal{Reason: wire.Precondition, Err: err}
	}
	return err
}
