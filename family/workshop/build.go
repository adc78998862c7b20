package workshop

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/limber-edge/limber/agent/frame"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ofa"
	"github.com/limber-edge/limber/family/search"
)

// What accuracy is weighed against in a search.
const (
	CostLatency = "latency" // on this machine
	CostMMACs   = "mmacs"   // for a family of many kinds of device
)

// A Recipe says what a family is built of, and how.
type Recipe struct {
	Supernet    string // checkpoint, with its description beside it
	Name        string // of the family
	Calibration string // images for BN statistics: a folder, or a pattern of sheets in it
	Validation  string // labelled images to choose by, likewise
	Test        string // labelled images to report on, likewise; none: those of Validation
	Out         string // file to be written
	Cost        string // CostLatency or CostMMACs
	Augment     bool   // draw the calibration images as in training
	Plan        search.Plan

	CalibrationImages, ValidationImages int // at most
	Batch                               int // calibration images of a batch
	Threads                             int // of an inference whose latency is measured
}

// Build searches a supernet and packs the family that it found. What was measured is
// kept beside the file until that is written.
func (s Shop) Build(ctx context.Context, r Recipe) error {
	net, err := s.LoadSupernet(r.Supernet)
	if err != nil {
		return err
	}
	images, err := r.images(net.Description())
	if err != nil {
		return err
	}
	if len(images.classes) != net.Classes() {
		return fmt.Errorf("%s: %d classes, and the supernet tells %d apart; "+
			"name them in the supernet's description, or keep a folder for each",
			r.Validation, len(images.classes), net.Classes())
	}
	s.warnShort(r, images.Sets)
	s.Progress.Say("reading the images")
	begun, err := r.begun(net, images.Sets)
	if err != nil {
		return err
	}
	return s.search(ctx, r, net, images, begun)
}

func (s Shop) search(ctx context.Context, r Recipe, net *ofa.Supernet, images buildImages,
	begun search.Begun) (err error) {
	rt, err := OpenRuntime()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rt.Close()) }()
	journal, err := search.OpenJournal(r.workFolder(), begun)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, journal.Close()) }()
	bench := &search.Bench{Net: net, Load: Loader(rt, runtime.NumCPU()), Sets: images.Sets, Batch: r.Batch,
		Journal: journal, Tell: s.Progress.Tell}
	if r.Cost == CostLatency {
		bench.Clock = search.Timer{Net: net, Probe: prober(rt, r.Threads), Runs: 20}
	}
	if journal.Len() > 0 {
		s.Progress.Note(fmt.Sprintf("%s: %d measurements taken over", r.workFolder(), journal.Len()))
	}
	built, err := search.Build(ctx, bench, r.Plan)
	if err != nil {
		return r.resumable(ctx, journal.Len(), err)
	}
	s.Progress.Note(account(built))
	w := writer{recipe: r, images: images, bench: bench}
	if err := w.write(ctx, built); err != nil {
		return r.resumable(ctx, journal.Len(), err)
	}
	return os.RemoveAll(r.workFolder())
}

// warnShort says where there are fewer images than asked for.
func (s Shop) warnShort(r Recipe, sets search.Sets) {
	for _, set := range []struct {
		path, flag  string
		found, want int
	}{
		{r.Calibration, "calibration-images", sets.Calibration.Len(), r.CalibrationImages},
		{r.Validation, "validation-images", sets.Validation.Len(), r.ValidationImages},
	} {
		if set.found < set.want {
			s.Progress.Warn(fmt.Sprintf("%s: all of its %d images are used, fewer than --%s %d",
				set.path, set.found, set.flag, set.want))
		}
	}
}

// workFolder is where measurements are kept until the family is written.
func (r Recipe) workFolder() string { return r.Out + ".work" }

// resumable says what to do after an interruption.
func (r Recipe) resumable(ctx context.Context, kept int, err error) error {
	if ctx.Err() == nil {
		return err
	}
	return fmt.Errorf("interrupted: %d measurements are kept in %s; the same command goes on from there",
		kept, r.workFolder())
}

// account says how good the estimates were.
func account(b *search.Built) string {
	if b.Accuracy == nil {
		return fmt.Sprintf("%d samples; estimators do not know this kind of supernet, so the family is the best of them",
			b.Samples)
	}
	told := fmt.Sprintf("%d samples; on %d that a first fit did not see, "+
		"predicted top-1 is off by %.2f points on average (rank correlation %.2f)",
		b.Samples, b.Accuracy.HeldOut, 100*b.Accuracy.Error, b.Accuracy.Tau)
	if b.Latency != nil {
		told += fmt.Sprintf(", latency by %.3g ms (%.2f)", b.Latency.Error, b.Latency.Tau)
	}
	return told
}

// begun says what measurements will depend on.
func (r Recipe) begun(net *ofa.Supernet, sets search.Sets) (search.Begun, error) {
	checkpoint, err := os.ReadFile(r.Supernet)
	if err != nil {
		return search.Begun{}, fmt.Errorf("supernet: %w", err)
	}
	desc, err := net.Description().Marshal()
	if err != nil {
		return search.Begun{}, err
	}
	side := slices.Max(net.Description().Resolutions)
	calibration, err := search.Fingerprint(sets.Calibration, side)
	if err != nil {
		return search.Begun{}, err
	}
	validation, err := search.Fingerprint(sets.Validation, side)
	if err != nil {
		return search.Begun{}, err
	}
	return search.Begun{Supernet: family.DigestOf(checkpoint), Description: family.DigestOf(desc),
		Calibration: calibration, Validation: validation,
		Revision: ofa.Revision, Batch: r.Batch, Cost: r.Cost, Threads: r.Threads}, nil
}

// buildImages are the three sets of a build.
type buildImages struct {
	search.Sets
	test    search.Images // nil: reports are on the validation images
	classes []string      // of the validation images
}

func (r Recipe) images(d ofa.Description) (buildImages, error) {
	// Labels of these do not matter.
	calibration, _, err := openSet(r.Calibration, nil, d.Preprocess)
	if err != nil {
		return buildImages{}, err
	}
	if r.Augment {
		calibration.drawn = &r.Plan.Seed
	}
	validation, classes, err := openSet(r.Validation, d.Classes, d.Preprocess)
	if err != nil {
		return buildImages{}, err
	}
	rng := rand.New(rand.NewPCG(r.Plan.Seed, 1))
	first, second := rng.Perm(calibration.Len()), rng.Perm(validation.Len())
	if filepath.Clean(r.Calibration) == filepath.Clean(r.Validation) {
		if len(first) <= r.CalibrationImages {
			return buildImages{}, fmt.Errorf("%s has %d images; after %d for BN statistics none is left to choose by",
				r.Calibration, len(first), r.CalibrationImages)
		}
		second = first[r.CalibrationImages:]
	}
	some := func(all search.Images, at []int, n int) search.Images {
		return search.Pick(all, at[:min(n, len(at))])
	}
	sets := search.Sets{Calibration: some(calibration, first, r.CalibrationImages),
		Validation: some(validation, second, r.ValidationImages)}
	all := buildImages{Sets: sets, classes: classes}
	if r.Test == "" {
		return all, nil
	}
	all.test, _, err = openSet(r.Test, classes, d.Preprocess)
	return all, err
}

// openSet opens images and names their classes: a tree does where nothing else
// has.
func openSet(path string, classes []string, how family.Preprocess) (Set, []string, error) {
	p, err := OpenPictures(path, classes)
	if err != nil {
		return Set{}, nil, err
	}
	if folder, ok := p.(*frame.Folder); ok && len(classes) == 0 {
		classes = folder.Classes()
	}
	set, err := Preprocessed(p, how)
	return set, classes, err
}
