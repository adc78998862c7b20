package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent/frame"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ofa"
	"github.com/limber-edge/limber/family/search"
)

// buildArgs are the flags of `family build`.
type buildArgs struct {
	supernet, name, out           string
	calibration, validation, test string
	cost                          string
	augment                       bool
	plan                          search.Plan
	calibrationN, validationN     int
	batch, threads                int
}

// buildClimbs is fewer than search.DefaultClimbs: a fitted predictor is a sum,
// whose front is found sooner than a perceptron's.
const buildClimbs = 40

func newFamilyBuild() *cobra.Command {
	a := buildArgs{plan: search.Plan{Climbs: buildClimbs}}
	c := &cobra.Command{
		Use:   "build",
		Short: "Search a supernet for its best sub-networks and make a family of them",
		Long: `Measure samples of a supernet's sub-networks, fit predictors of accuracy and cost on
them, search the whole space with these, measure what was found, and write the
members that no other one beats to one file, which is then verified.

What was measured is kept in OUT.work until the file is written: the same command
goes on there after Ctrl-C or a power cut.

Of a checkpoint with several state_dicts the first of these is taken, and said:
state_dict, model_state_dict, model, net, ema (also one in another); "module." and
"_orig_mod." before the names go.

BN statistics are computed on images of --calibration, choices are made on images
of --validation; both draw from the folder by the seed, and no image twice if the
folders are one. Figures reported are those of --test, or without it those that
the choices were made on, which flatter a little.`,
		Example: `  limber family build --supernet ofa.pth --calibration ./train --validation ./val --size 7 --out mine.family
  limber family build --supernet ofa.pth --calibration './sheets/train_*' --validation './sheets/train_*' \
      --test ./sheets/test --cost mmacs --out mine.family`,
		Args: exactly(0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) error { return a.run(c) },
	}
	f := c.Flags()
	f.StringVar(&a.supernet, "supernet", "", "PyTorch checkpoint, with its description X.json beside X.pth (required)")
	f.StringVar(&a.name, "name", "family", "name of the family")
	f.StringVar(&a.calibration, "calibration", "", "folder of training images, or a pattern of sheets in it (dir/train_*) (required)")
	f.StringVar(&a.validation, "validation", "", "folder of labelled images to choose by, likewise (required)")
	f.StringVar(&a.test, "test", "", "folder of labelled images to report on, likewise (default: those of --validation)")
	f.StringVar(&a.out, "out", "", "file to write (required)")
	f.IntVar(&a.plan.Size, "size", 6, "members wanted")
	f.StringVar(&a.cost, "cost", "latency", "what accuracy is weighed against: latency on this machine, or mmacs for a family of many kinds of device")
	f.IntVar(&a.plan.Samples, "samples", 120, "sub-networks to measure before the search")
	f.IntVar(&a.plan.Rough, "sample-images", 1000, "validation images for each of these")
	f.IntVar(&a.plan.Finalists, "finalists", 24, "sub-networks to measure on all validation images, beside the best samples, the smallest and the largest")
	f.IntVar(&a.calibrationN, "calibration-images", 2000, "images for BN statistics")
	f.BoolVar(&a.augment, "augment", false, "compute BN statistics on random crops, mirror images and colours, as OFA's own for ImageNet are")
	f.IntVar(&a.batch, "calibration-batch", 200, "images of a batch of these; fewer take less memory and give other statistics")
	f.IntVar(&a.validationN, "validation-images", 5000, "images to choose by")
	f.Uint64Var(&a.plan.Seed, "seed", 1, "of everything that is drawn")
	f.IntVar(&a.threads, "threads", 1, "threads of an inference whose latency is measured")
	return c
}

func (a *buildArgs) check() error {
	if err := needed("limber family build", "supernet", a.supernet, "calibration", a.calibration, "validation", a.validation, "out", a.out); err != nil {
		return err
	}
	if a.cost != "latency" && a.cost != "mmacs" {
		return usageError{fmt.Errorf("limber family build: --cost %s: known are latency and mmacs", a.cost)}
	}
	for _, n := range []struct {
		flag         string
		value, least int
	}{
		{"size", a.plan.Size, 2}, {"samples", a.plan.Samples, 10}, {"sample-images", a.plan.Rough, 1}, {"finalists", a.plan.Finalists, 2},
		{"calibration-images", a.calibrationN, 1}, {"calibration-batch", a.batch, 1}, {"validation-images", a.validationN, 1}, {"threads", a.threads, 1},
	} {
		if n.value < n.least {
			return usageError{fmt.Errorf("limber family build: --%s %d: wants at least %d", n.flag, n.value, n.least)}
		}
	}
	if a.plan.Size > family.MaxMembers {
		return usageError{fmt.Errorf("limber family build: --size %d: a family has at most %d members", a.plan.Size, family.MaxMembers)}
	}
	if err := family.CheckName(a.name); err != nil {
		return usageError{fmt.Errorf("limber family build: --name: %w", err)}
	}
	if _, err := os.Stat(a.out); err == nil {
		return fmt.Errorf("%s exists: name a file that does not", a.out)
	}
	return nil
}

func (a *buildArgs) run(c *cobra.Command) error {
	if err := a.check(); err != nil {
		return err
	}
	net, err := loadSupernet(c.ErrOrStderr(), a.supernet)
	if err != nil {
		return err
	}
	progress := newProgress(c.ErrOrStderr())
	err = a.build(c, net, progress)
	progress.End()
	if err != nil {
		return err
	}
	f, err := openFamily(a.out)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := verifyFamily(c, f); err != nil {
		return fmt.Errorf("%s: %w", a.out, err)
	}
	if n := len(f.Members); n < a.plan.Size {
		fmt.Fprintf(c.ErrOrStderr(), "limber: %s: %d members, --size asked for %d: whatever else was measured costs more than one of them and is not more accurate; more --samples, --finalists and --validation-images may find others\n",
			a.out, n, a.plan.Size)
	}
	return showFamily(c.OutOrStdout(), f)
}

// build searches the supernet and writes what it found.
func (a *buildArgs) build(c *cobra.Command, net *ofa.Supernet, progress *progress) (err error) {
	ctx, out := c.Context(), c.OutOrStdout()
	images, err := a.images(net.Description())
	if err != nil {
		return err
	}
	if len(images.classes) != net.Classes() {
		return fmt.Errorf("%s: %d classes, and the supernet tells %d apart; name them in the supernet's description, or keep a folder for each", a.validation, len(images.classes), net.Classes())
	}
	a.tellShort(c.ErrOrStderr(), images.Sets)
	progress.Say("reading the images")
	begun, err := a.begun(net, images.Sets)
	if err != nil {
		return err
	}
	rt, err := openRuntime()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rt.Close()) }()
	journal, err := search.OpenJournal(a.workFolder(), begun)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, journal.Close()) }()
	bench := &search.Bench{Net: net, Load: loader(rt, runtime.NumCPU()), Sets: images.Sets, Batch: a.batch, Journal: journal, Tell: progress.Tell}
	if a.cost == "latency" {
		bench.Clock = search.Timer{Net: net, Probe: prober(rt, a.threads), Runs: 20}
	}
	if journal.Len() > 0 {
		progress.Note(out, fmt.Sprintf("%s: %d measurements taken over", a.workFolder(), journal.Len()))
	}
	built, err := search.Build(ctx, bench, a.plan)
	if err != nil {
		return a.resumable(ctx, journal.Len(), err)
	}
	progress.Note(out, account(built))
	w := familyWriter{args: a, images: images, bench: bench}
	if err := w.write(ctx, built); err != nil {
		return a.resumable(ctx, journal.Len(), err)
	}
	return os.RemoveAll(a.workFolder())
}

// tellShort says where there are fewer images than asked for.
func (a *buildArgs) tellShort(w io.Writer, sets search.Sets) {
	for _, s := range []struct {
		path, flag  string
		found, want int
	}{
		{a.calibration, "calibration-images", sets.Calibration.Len(), a.calibrationN},
		{a.validation, "validation-images", sets.Validation.Len(), a.validationN},
	} {
		if s.found < s.want {
			fmt.Fprintf(w, "limber: %s: all of its %d images are used, fewer than --%s %d\n", s.path, s.found, s.flag, s.want)
		}
	}
}

// workFolder is where measurements are kept until the family is written.
func (a *buildArgs) workFolder() string { return a.out + ".work" }

// resumable says what to do after an interruption.
func (a *buildArgs) resumable(ctx context.Context, kept int, err error) error {
	if ctx.Err() == nil {
		return err
	}
	return fmt.Errorf("interrupted: %d measurements are kept in %s; the same command goes on from there", kept, a.workFolder())
}

// account says how good the estimates were.
func account(b *search.Built) string {
	if b.Accuracy == nil {
		return fmt.Sprintf("%d samples; estimators do not know this kind of supernet, so the family is the best of them", b.Samples)
	}
	told := fmt.Sprintf("%d samples; on %d that a first fit did not see, predicted top-1 is off by %.2f points on average (rank correlation %.2f)",
		b.Samples, b.Accuracy.HeldOut, 100*b.Accuracy.Error, b.Accuracy.Tau)
	if b.Latency != nil {
		told += fmt.Sprintf(", latency by %.3g ms (%.2f)", b.Latency.Error, b.Latency.Tau)
	}
	return told
}

// buildImages are the three sets of a build.
type buildImages struct {
	search.Sets
	test    search.Images // nil: reports are on the validation images
	classes []string      // of the validation images
}

func (a *buildArgs) images(d ofa.Description) (buildImages, error) {
	// Labels of these do not matter.
	opened, _, err := openSet(a.calibration, nil, d.Preprocess)
	if err != nil {
		return buildImages{}, err
	}
	calibration := search.Images(opened)
	if a.augment {
		calibration = augmented{opened, a.plan.Seed}
	}
	validation, classes, err := openSet(a.validation, d.Classes, d.Preprocess)
	if err != nil {
		return buildImages{}, err
	}
	rng := rand.New(rand.NewPCG(a.plan.Seed, 1))
	first, second := rng.Perm(calibration.Len()), rng.Perm(validation.Len())
	if filepath.Clean(a.calibration) == filepath.Clean(a.validation) {
		if len(first) <= a.calibrationN {
			return buildImages{}, fmt.Errorf("%s has %d images; after %d for BN statistics none is left to choose by", a.calibration, len(first), a.calibrationN)
		}
		second = first[a.calibrationN:]
	}
	some := func(images search.Images, at []int, n int) search.Images {
		return search.Pick(images, at[:min(n, len(at))])
	}
	sets := search.Sets{Calibration: some(calibration, first, a.calibrationN), Validation: some(validation, second, a.validationN)}
	all := buildImages{Sets: sets, classes: classes}
	if a.test == "" {
		return all, nil
	}
	all.test, _, err = openSet(a.test, classes, d.Preprocess)
	return all, err
}

// openSet opens images and names their classes: a tree does where nothing else
// has.
func openSet(path string, classes []string, how family.Preprocess) (images, []string, error) {
	p, err := openPictures(path, classes)
	if err != nil {
		return images{}, nil, err
	}
	if folder, ok := p.(*frame.Folder); ok && len(classes) == 0 {
		classes = folder.Classes()
	}
	set, err := preprocessed(p, how)
	return set, classes, err
}

// begun says what measurements will depend on.
func (a *buildArgs) begun(net *ofa.Supernet, sets search.Sets) (search.Begun, error) {
	checkpoint, err := os.ReadFile(a.supernet)
	if err != nil {
		return search.Begun{}, fmt.Errorf("supernet: %w", err)
	}
	desc, err := net.Description().Marshal()
	if err != nil {
		return search.Begun{}, err
	}
	r := slices.Max(net.Description().Resolutions)
	calibration, err := search.Fingerprint(sets.Calibration, r)
	if err != nil {
		return search.Begun{}, err
	}
	validation, err := search.Fingerprint(sets.Validation, r)
	if err != nil {
		return search.Begun{}, err
	}
	return search.Begun{Supernet: family.DigestOf(checkpoint), Description: family.DigestOf(desc),
		Calibration: calibration, Validation: validation, Revision: ofa.Revision, Batch: a.batch, Cost: a.cost, Threads: a.threads}, nil
}
