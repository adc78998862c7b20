package library

import (
	"errors"
	"slices"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/store"
)

// A step is at most one write. It may be repeated.
type step func() error

// do takes steps one after the other. After a cut the same steps, worked out anew
// of what is on the disk, end in the same state.
func do(steps []step) error {
	for _, s := range steps {
		if err := s(); err != nil {
			return err
		}
	}
	return nil
}

// restocking makes the stock family the current one. What was before goes if it is
// an older stock family, which no start would keep.
func (l *Library) restocking() []step {
	f := &l.carried.Family
	forget := func() error {
		before, err := l.named(cellBefore)
		if err != nil || before == nil || !l.outdated(before) {
			return err
		}
		return l.clear(cellBefore)()
	}
	return append(l.storing(f, l.carried), forget, l.use(f), l.Prune)
}

// installation makes f the current family and the only one. It must come with its
// blobs, or find them in the store: what the program carries does not count, so that
// a damaged file is not taken for a sound one.
func (l *Library) installation(f *family.Folder) []step {
	return append(l.storing(&f.Family, f), l.use(&f.Family), l.clear(cellStaged), l.clear(cellBefore), l.Prune)
}

func (l *Library) staging(f *family.Family, blobs family.Blobs) []step {
	return append(l.storing(f, l.carried, blobs), l.name(cellStaged, f))
}

func (l *Library) unstaging() []step { return []step{l.clear(cellStaged), l.Prune} }

// activation begins where a cut may have ended it: if what was staged is in use
// already, only its old name is left.
func (l *Library) activation(n Names) []step {
	if n.Staged == nil {
		return []step{l.clear(cellStaged)}
	}
	return []step{l.name(cellBefore, n.Current), l.use(n.Staged), l.clear(cellStaged)}
}

func (l *Library) commitment(n Names) []step {
	steps := []step{l.clear(cellBefore), l.Prune}
	if n.Staged == nil { // what a cut in Activate left must not count once another family is in use
		steps = append([]step{l.clear(cellStaged)}, steps...)
	}
	return steps
}

func (l *Library) reversal(n Names) []step {
	steps := l.commitment(n)
	if n.Before != nil {
		steps = slices.Insert(steps, len(steps)-2, l.use(n.Before))
	}
	return steps
}

// storing stores the blobs of a family that are not in the store, a step each, from
// the first of the sources that has them.
func (l *Library) storing(f *family.Family, sources ...family.Blobs) []step {
	var steps []step
	for _, d := range f.Digests() {
		steps = append(steps, func() error { return l.keep(d, sources) })
	}
	return steps
}

func (l *Library) keep(d family.Digest, sources []family.Blobs) error {
	digest, err := store.ParseDigest(string(d))
	if err != nil {
		return err
	}
	if _, err := l.store.Blob(digest); err == nil {
		return nil
	}
	for _, from := range sources {
		var b []byte
		if b, err = from.Blob(d); err == nil {
			_, err = l.store.PutBlob(b)
			return err
		}
	}
	return err
}

// use makes f the current family.
func (l *Library) use(f *family.Family) step {
	return func() error {
		manifest, err := encode(f)
		if err != nil {
			return err
		}
		if err := l.store.SetFamily(manifest); err != nil {
			return err
		}
		l.current = f
		return nil
	}
}

// name puts a family's manifest in a cell.
func (l *Library) name(cell string, f *family.Family) step {
	return func() error {
		manifest, err := encode(f)
		if err != nil {
			return err
		}
		return l.store.SetCell(cell, manifest)
	}
}

// clear empties a cell that is not empty.
func (l *Library) clear(cell string) step {
	return func() error {
		b, err := l.store.Cell(cell)
		if errors.Is(err, store.ErrNotFound) || err == nil && len(b) == 0 {
			return nil
		} else if err != nil {
			return err
		}
		return l.store.SetCell(cell, nil)
	}
}
