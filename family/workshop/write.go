package workshop

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ofa"
	"github.com/limber-edge/limber/family/resident"
	"github.com/limber-edge/limber/family/search"
	"github.com/limber-edge/limber/store"
)

// writer makes a family's file of what a search found.
type writer struct {
	recipe Recipe
	images buildImages
	bench  *search.Bench
}

// madeBlobs are blobs that were made here; others are in the journal.
type madeBlobs struct {
	family.MemoryBlobs
	journal *search.Journal
}

func (b madeBlobs) Blob(d family.Digest) ([]byte, error) {
	if made, err := b.MemoryBlobs.Blob(d); err == nil {
		return made, nil
	}
	return b.journal.Blob(d)
}

func (w *writer) write(ctx context.Context, built *search.Built) error {
	checkpoint, err := os.ReadFile(w.recipe.Supernet)
	if err != nil {
		return fmt.Errorf("supernet: %w", err)
	}
	desc, err := w.bench.Net.Description().Marshal()
	if err != nil {
		return err
	}
	blobs := madeBlobs{family.MemoryBlobs{}, w.bench.Journal}
	f := family.Family{Schema: family.Schema, Name: w.recipe.Name, Supernet: blobs.Add(checkpoint), Describe: desc,
		Classes: w.images.classes}
	if f.Members, err = w.members(ctx, built.Members, blobs); err != nil {
		return err
	}
	if err := f.Validate(); err != nil {
		return fmt.Errorf("family %s: %w", f.Name, err)
	}
	return Pack(w.recipe.Out, &f, blobs, whole)
}

// members makes members of what was found, the cheapest first.
func (w *writer) members(ctx context.Context, found []search.Entry, blobs madeBlobs) ([]family.Member, error) {
	source, err := search.Fingerprint(w.bench.Sets.Calibration, w.bench.Net.Largest().R)
	if err != nil {
		return nil, err
	}
	from := family.Calibration{Images: w.bench.Sets.Calibration.Len(), Batch: w.bench.Batch, Digest: source}
	var members []family.Member
	best := 0.0 // so that one that is never right is left out, which no family may have
	for i, e := range found {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		w.bench.Tell("members", i, len(found))
		m, err := w.member(ctx, e, blobs)
		if err != nil {
			return nil, err
		}
		m.CalibratedOn = from
		// A member that the test images put behind a cheaper one is of no use.
		if m.Top1 > best {
			best, m.Name = m.Top1, nameOf(m, members)
			members = append(members, m)
		}
	}
	if len(members) == 0 {
		return nil, fmt.Errorf("%s: of %d sub-networks none classifies a single image right; "+
			"are the labels those that the supernet was trained on, and the images enough?",
			cmp.Or(w.recipe.Test, w.recipe.Validation), len(found))
	}
	return members, nil
}

// nameOf is a member's cost, with a letter behind it if that is taken.
func nameOf(m family.Member, before []family.Member) string {
	name := strings.TrimSuffix(fmt.Sprintf("%.1f", m.MMACs), ".0") + "M"
	taken := 0
	for _, b := range before {
		if strings.TrimRight(b.Name, "bcdefghijklmnop") == name {
			taken++
		}
	}
	if taken == 0 {
		return name
	}
	return name + string(rune('a'+taken))
}

// member measures a sub-network on the test images, if there are any, and makes
// its canary.
func (w *writer) member(ctx context.Context, e search.Entry, blobs madeBlobs) (family.Member, error) {
	m := family.Member{Name: "found", Arch: e.Arch, MMACs: e.MMACs, Top1: e.Top1, Top5: e.Top5, Images: e.Images,
		Stats: e.Stats}
	sub, err := w.bench.Net.Member(m, w.bench.Journal)
	if err != nil {
		return m, err
	}
	if w.images.test != nil {
		score, err := search.Evaluate(ctx, sub, w.bench.Load, w.images.test)
		if err != nil {
			return m, err
		}
		m.Top1, m.Top5, m.Images = score.Top1, score.Top5, score.Images
	}
	m.Canary, err = w.canary(sub, blobs)
	return m, err
}

// canary is the first validation image and the logits it gives.
func (w *writer) canary(sub *ofa.Subnet, blobs madeBlobs) (family.Digest, error) {
	r := sub.Arch().R
	input := make([]float32, 3*r*r)
	if err := w.bench.Sets.Validation.Tensor(input, 0, r); err != nil {
		return "", err
	}
	logits, err := Infer(sub, w.bench.Load, input)
	if err != nil {
		return "", err
	}
	return blobs.Add(resident.Canary(input, logits)), nil
}

// Pack makes one file of a family, without the blobs that omit holds.
func Pack(out string, f *family.Family, blobs family.Blobs, omit func(family.Digest) bool) error {
	err := store.FillFile(out, func(w io.Writer) error { return family.Pack(w, f, blobs, omit) })
	if err != nil {
		return fmt.Errorf("pack family %s: %w", f.Name, err)
	}
	return nil
}
