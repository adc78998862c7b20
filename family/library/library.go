// Package library keeps the families of a device: the one in use, the one that is
// staged to follow it, and the one before it, until the next has proved itself.
//
//	          Stage            Activate              Commit
//	settled ─────────▶ staged ──────────▶ on trial ──────────▶ settled
//	   ▲                 │                    │
//	   └────Unstage──────┘                    └──Revert──▶ settled, with the one before
//
// A family is blobs and the manifest that names them. Three names hold manifests:
// the current family of the store, and a cell each for what is staged and for what
// was before. What state the library is in follows from what the three hold, so
// that no power cut can part the two.
//
// The rule: blobs are stored before the manifest that names them, a manifest gets
// its new name before it loses its old one, and blobs go last, those that none of
// the three names needs. So every step may be repeated, and a cut between two of
// them leaves a family that is whole in use. The same call then goes on from there.
//
// The program carries a family, the stock one. A new device gets it, and so does one
// whose program brought a newer one; blobs of it that are lost or damaged on the disk are
// taken from the program. A simulator carries others.
package library

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/stock"
	"github.com/limber-edge/limber/store"
)

// The cells that hold manifests beside that of the family in use; empty or absent
// where there is none.
const (
	cellStaged = "family-staged" // of the family that Activate puts in use
	cellBefore = "family-before" // of the one that Revert puts back
)

// ErrName refuses a family that the next start would not keep.
var ErrName = errors.New("the name is that of the stock family, which the next start would put back; choose another")

// A Library is the families in one device's store. Blob and Missing may be called
// from any goroutine, everything else from one at a time.
type Library struct {
	store   *store.Store
	carried *family.Folder // by the program: the stock family, but in a simulator
	current *family.Family
	unsaved error
}

// Open opens the library in st. A new device, or one whose program brought a newer
// carried family, gets that, see Unsaved. The program carries the stock family, unless
// another is given.
func Open(st *store.Store, carried *family.Folder) (*Library, error) {
	if carried == nil {
		var err error
		if carried, err = stock.Family(); err != nil {
			return nil, err
		}
	}
	l := &Library{store: st, carried: carried}
	manifest, err := st.Family()
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	if f, bad := family.Parse(manifest); err == nil && bad == nil && !l.outdated(f) {
		l.current = f
		return l, nil
	}
	if err := do(l.restocking()); err != nil {
		l.unsaved = fmt.Errorf("store the stock family: %w", err)
	}
	l.current = &carried.Family
	return l, nil
}

// outdated tells whether a family has the stock family's name and is another.
func (l *Library) outdated(f *family.Family) bool {
	return f.Name == l.carried.Name && f.Digest() != l.carried.Digest()
}

// Current is the family in use.
func (l *Library) Current() *family.Family { return l.current }

// Unsaved says why Open could not store the stock family, such as on a full disk;
// the program's copy then serves.
func (l *Library) Unsaved() error { return l.unsaved }

// Blob reads a blob from the store. One of the carried family that is lost or damaged
// there is taken from the program, and stored anew; its manifest, the blob of its digest,
// is in no store and always there.
func (l *Library) Blob(d family.Digest) ([]byte, error) {
	digest, err := store.ParseDigest(string(d))
	if err != nil {
		return nil, err
	}
	b, err := l.store.Blob(digest)
	if err == nil {
		return b, nil
	}
	if b, e := l.carried.Blob(d); e == nil {
		// A store that cannot be written is told of elsewhere; the blob is good.
		_, _ = l.store.PutBlob(b)
		return b, nil
	}
	if d == l.carried.Digest() {
		return l.carried.Compact(), nil
	}
	return nil, err
}

// Missing lists the blobs that must come with f: those that are neither in the
// store nor in the program.
func (l *Library) Missing(f *family.Family) []family.Digest {
	var missing []family.Digest
	for _, d := range f.Digests() {
		if _, err := l.Blob(d); err != nil {
			missing = append(missing, d)
		}
	}
	return missing
}

// Names are the families that are named; nil where there is none.
type Names struct {
	Current *family.Family
	Staged  *family.Family // not yet in use
	Before  *family.Family // the one before; Current is on trial as long as it is kept
}

// Names reads them.
func (l *Library) Names() (Names, error) {
	staged, err := l.named(cellStaged)
	if err != nil {
		return Names{}, err
	}
	before, err := l.named(cellBefore)
	return Names{Current: l.current, Staged: staged, Before: before}, err
}

// named is the family in a cell. One that is in use as well is there because of a
// cut between two steps, and is none.
func (l *Library) named(cell string) (*family.Family, error) {
	b, err := l.store.Cell(cell)
	switch {
	case errors.Is(err, store.ErrNotFound) || err == nil && len(b) == 0:
		return nil, nil
	case err != nil:
		return nil, err
	}
	f, err := family.Parse(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; install a family anew", cell, err)
	}
	if l.current != nil && f.Digest() == l.current.Digest() {
		return nil, nil
	}
	return f, nil
}

// Stage stores a family that Activate then puts in use. Blobs that Missing does not
// list need not be in blobs. What was staged before is forgotten.
func (l *Library) Stage(f *family.Family, blobs family.Blobs) error {
	err := l.Judge(f)
	if err == nil {
		err = do(l.staging(f, blobs))
	}
	if err != nil {
		return fmt.Errorf("stage family %s: %w", f.Name, err)
	}
	return nil
}

// Unstage forgets the family that is staged, and removes the blobs that no named
// family needs.
func (l *Library) Unstage() error {
	if err := do(l.unstaging()); err != nil {
		return fmt.Errorf("unstage family: %w", err)
	}
	return nil
}

// Activate puts the staged family in use. The one before is kept whole until Commit
// or Revert, which must come before the next Activate.
func (l *Library) Activate() error {
	n, err := l.Names()
	switch {
	case err != nil:
		return fmt.Errorf("activate family: %w", err)
	case n.Staged == nil && n.Before == nil:
		return errors.New("activate family: none is staged")
	case n.Staged != nil && n.Before != nil:
		return fmt.Errorf("activate family %s: %s has not proved itself yet; commit or revert it first",
			n.Staged.Name, n.Current.Name)
	}
	if err := do(l.activation(n)); err != nil {
		return fmt.Errorf("activate family: %w", err)
	}
	return nil
}

// Commit ends the trial of the current family: the one before it goes.
func (l *Library) Commit() error { return l.endTrial("commit", l.commitment) }

// Revert puts the family before back, if the current one is on trial, and removes
// the current one.
func (l *Library) Revert() error { return l.endTrial("revert", l.reversal) }

func (l *Library) endTrial(how string, steps func(Names) []step) error {
	n, err := l.Names()
	if err == nil {
		err = do(steps(n))
	}
	if err != nil {
		return fmt.Errorf("%s family %s: %w", how, l.current.Name, err)
	}
	return nil
}

// Install makes f the family of the device whose state is in dir, from its next
// start on, whatever was staged or on trial. Blobs that are there already need not
// come with it. The error is store.ErrLocked while the device runs.
func Install(dir string, f *family.Folder, log *slog.Logger) (err error) {
	carried, err := stock.Family()
	if err != nil {
		return err
	}
	l := &Library{carried: carried}
	if err := l.Judge(&f.Family); err != nil {
		return fmt.Errorf("install family %s: %w", f.Name, err)
	}
	if l.store, err = store.Open(dir, store.Options{}, log); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.store.Close()) }()
	if err := do(l.installation(f)); err != nil {
		return fmt.Errorf("install family %s: %w", f.Name, err)
	}
	return nil
}

// Judge refuses a family that the next start would not keep.
func (l *Library) Judge(f *family.Family) error {
	if l.outdated(f) {
		return ErrName
	}
	return f.Validate()
}

// Prune removes the blobs that no named family needs.
func (l *Library) Prune() error {
	n, err := l.Names()
	if err != nil {
		return err
	}
	needed := map[string]bool{}
	for _, f := range []*family.Family{n.Current, n.Staged, n.Before} {
		if f == nil {
			continue
		}
		for _, d := range f.Digests() {
			needed[string(d)] = true
		}
	}
	_, err = l.store.Prune(func(d store.Digest) bool { return needed[d.String()] })
	return err
}

// encode is a family's manifest as it is stored.
func encode(f *family.Family) ([]byte, error) {
	b, err := f.Marshal()
	return bytes.TrimSpace(b), err
}
