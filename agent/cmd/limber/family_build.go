package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/search"
	"github.com/limber-edge/limber/family/workshop"
)

// buildClimbs is fewer than search.DefaultClimbs: a fitted predictor is a sum,
// whose front is found sooner than a perceptron's.
const buildClimbs = 40

func newFamilyBuild() *cobra.Command {
	r := workshop.Recipe{Plan: search.Plan{Climbs: buildClimbs}}
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
		RunE: func(c *cobra.Command, _ []string) error { return build(c, r) },
	}
	f := c.Flags()
	f.StringVar(&r.Supernet, "supernet", "", "PyTorch checkpoint, with its description X.json beside X.pth (required)")
	f.StringVar(&r.Name, "name", "family", "name of the family")
	f.StringVar(&r.Calibration, "calibration", "",
		"folder of training images, or a pattern of sheets in it (dir/train_*) (required)")
	f.StringVar(&r.Validation, "validation", "", "folder of labelled images to choose by, likewise (required)")
	f.StringVar(&r.Test, "test", "", "folder of labelled images to report on, likewise (default: those of --validation)")
	f.StringVar(&r.Out, "out", "", "file to write (required)")
	f.IntVar(&r.Plan.Size, "size", 6, "members wanted")
	f.StringVar(&r.Cost, "cost", workshop.CostLatency,
		"what accuracy is weighed against: latency on this machine, or mmacs for a family of many kinds of device")
	f.IntVar(&r.Plan.Samples, "samples", 120, "sub-networks to measure before the search")
	f.IntVar(&r.Plan.Rough, "sample-images", 1000, "validation images for each of these")
	f.IntVar(&r.Plan.Finalists, "finalists", 24,
		"sub-networks to measure on all validation images, beside the best samples, the smallest and the largest")
	f.IntVar(&r.CalibrationImages, "calibration-images", 2000, "images for BN statistics")
	f.BoolVar(&r.Augment, "augment", false,
		"compute BN statistics on random crops, mirror images and colours, as OFA's own for ImageNet are")
	f.IntVar(&r.Batch, "calibration-batch", 200,
		"images of a batch of these; fewer take less memory and give other statistics")
	f.IntVar(&r.ValidationImages, "validation-images", 5000, "images to choose by")
	f.Uint64Var(&r.Plan.Seed, "seed", 1, "of everything that is drawn")
	f.IntVar(&r.Threads, "threads", 1, "threads of an inference whose latency is measured")
	return c
}

func checkRecipe(r workshop.Recipe) error {
	if err := needed("limber family build", "supernet", r.Supernet, "calibration", r.Calibration,
		"validation", r.Validation, "out", r.Out); err != nil {
		return err
	}
	if r.Cost != workshop.CostLatency && r.Cost != workshop.CostMMACs {
		return usagef("limber family build: --cost %s: known are latency and mmacs", r.Cost)
	}
	for _, n := range []struct {
		flag         string
		value, least int
	}{
		{"size", r.Plan.Size, 2}, {"samples", r.Plan.Samples, 10}, {"sample-images", r.Plan.Rough, 1},
		{"finalists", r.Plan.Finalists, 2}, {"calibration-images", r.CalibrationImages, 1},
		{"calibration-batch", r.Batch, 1}, {"validation-images", r.ValidationImages, 1}, {"threads", r.Threads, 1},
	} {
		if n.value < n.least {
			return usagef("limber family build: --%s %d: wants at least %d", n.flag, n.value, n.least)
		}
	}
	if r.Plan.Size > family.MaxMembers {
		return usagef("limber family build: --size %d: a family has at most %d members", r.Plan.Size, family.MaxMembers)
	}
	if err := family.CheckName(r.Name); err != nil {
		return usagef("limber family build: --name: %w", err)
	}
	if _, err := os.Stat(r.Out); err == nil {
		return fmt.Errorf("%s exists: name a file that does not", r.Out)
	}
	return nil
}

func build(c *cobra.Command, r workshop.Recipe) error {
	if err := checkRecipe(r); err != nil {
		return err
	}
	shop, progress := newShop(c)
	err := shop.Build(c.Context(), r)
	progress.End()
	if err != nil {
		return err
	}
	f, err := openFamily(r.Out)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := verifyFamily(c, f); err != nil {
		return fmt.Errorf("%s: %w", r.Out, err)
	}
	if n := len(f.Members); n < r.Plan.Size {
		fmt.Fprintf(c.ErrOrStderr(), "limber: %s: %d members, --size asked for %d: "+
			"whatever else was measured costs more than one of them and is not more accurate; "+
			"more --samples, --finalists and --validation-images may find others\n", r.Out, n, r.Plan.Size)
	}
	return showFamily(c.OutOrStdout(), f)
}
