package update

import (
	"context"
	"errors"
	"strings"
	"syscall"

	"github.com/limber-edge/limber/agent/blob"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/firmware/repo"
)

// spare is how much must be left on the file system, in bytes.
const spare = 64 << 20

// fetch brings what is missing of the family, if it is signed, and stages it.
func (t *task) fetch(ctx context.Context) (*family.Family, error) {
	n, err := t.deps.Library.Names()
	if err != nil {
		return nil, err
	}
	if n.Staged != nil && n.Staged.Digest() == t.digest {
		return n.Staged, t.signed(ctx)
	}
	if err := t.enter(wire.UpdateFetching); err != nil {
		return nil, err
	}
	if err := t.signed(ctx); err != nil {
		return nil, err
	}
	f, err := t.manifest(ctx)
	if err != nil {
		return nil, err
	}
	if err := t.deps.Library.Judge(f); err != nil {
		return nil, &wire.Refusal{Reason: wire.Invalid, Err: err}
	}
	if err := t.fetchBlobs(ctx, t.deps.Library.Missing(f)); err != nil {
		return nil, err
	}
	if err := t.deps.Library.Stage(f, t.deps.Library); err != nil {
		return nil, noSpace(err)
	}
	return f, t.enter(wire.UpdateVerified)
}

// signed returns nil if the family may be taken.
func (t *task) signed(ctx context.Context) error {
	if t.deps.Signer == nil {
		return nil
	}
	err := t.deps.Signer.May(ctx, t.digest)
	if errors.Is(err, repo.ErrRefused) {
		return &wire.Refusal{Reason: wire.Unauthorized, Err: err}
	}
	return noSpace(err)
}

// manifest brings the manifest, which is the blob of the family's digest.
func (t *task) manifest(ctx context.Context) (*family.Family, error) {
	if err := t.room(0); err != nil {
		return nil, err
	}
	b, err := t.blob(ctx, blob.Wanted{Digest: t.digest, Sources: t.update.Sources, Max: family.MaxManifest}, func(int64) {})
	if err != nil {
		return nil, err
	}
	f, err := family.Parse(b)
	switch {
	case err != nil:
		return nil, &wire.Refusal{Reason: wire.Invalid, Err: err}
	case f.Digest() != t.digest:
		return nil, wire.Refuse(wire.Invalid, "family manifest %s: its bytes are not in the compact form, of which a "+
			"family's digest is", t.digest.Short())
	case f.Name != t.Family.Name:
		return nil, wire.Refuse(wire.Invalid, "family manifest %s is that of %s, the command names %s",
			t.digest.Short(), f.Name, t.Family.Name)
	}
	return f, nil
}

// fetchBlobs brings blobs, if there is room for all of them.
func (t *task) fetchBlobs(ctx context.Context, missing []family.Digest) error {
	sizes, sum := make([]int64, len(missing)), int64(0)
	for i, d := range missing {
		var err error
		sizes[i], err = t.deps.Carrier.Size(ctx, blob.Wanted{Digest: d, Sources: t.update.Sources, Max: family.MaxBlob})
		if err != nil {
			return noSpace(err)
		}
		sum += sizes[i]
	}
	if err := t.room(sum); err != nil {
		return err
	}
	done := int64(0)
	for i, d := range missing {
		b, err := t.blob(ctx, blob.Wanted{Digest: d, Sources: t.update.Sources, Max: sizes[i]}, func(n int64) {
			t.tell(wire.Progress{Step: wire.UpdateFetching, Done: done + n, Of: max(sum, done+n)})
		})
		if err != nil {
			return err
		}
		done, sum = done+int64(len(b)), sum-sizes[i]+int64(len(b)) // a size may have been too much
	}
	t.done = done
	return nil
}

// blob returns one that is in the library, or brings it into the store.
func (t *task) blob(ctx context.Context, w blob.Wanted, progress func(int64)) ([]byte, error) {
	if b, err := t.deps.Library.Blob(w.Digest); err == nil {
		return b, nil
	}
	b, err := t.deps.Carrier.Fetch(ctx, w, progress)
	if err == nil {
		_, err = t.deps.State.PutBlob(b)
	}
	if err == nil { // else it would take its room twice
		err = t.deps.Carrier.Forget(func(d family.Digest) bool { return d != w.Digest })
	}
	return b, noSpace(err)
}

// room refuses an update that would fill the file system.
func (t *task) room(bytes int64) error {
	free, err := t.deps.Free()
	if err != nil {
		return err
	}
	if free < bytes+spare {
		return wire.Refuse(wire.NoSpace, "%d MiB are left on the file system of the state, the family takes %d KiB and %d "+
			"MiB must stay free; make room", free>>20, bytes>>10, spare>>20)
	}
	return nil
}

// noSpace gives an error of a full disk its reason. bbolt does not wrap all errors of
// the system; their text is always at the end.
func noSpace(err error) error {
	if _, refused := errors.AsType[*wire.Refusal](err); err == nil || refused {
		return err
	}
	for _, full := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT} {
		if errors.Is(err, full) || strings.HasSuffix(err.Error(), full.Error()) {
			return &wire.Refusal{Reason: wire.NoSpace, Err: err}
		}
	}
	return err
}
