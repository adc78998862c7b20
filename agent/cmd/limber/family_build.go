package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ofa"
	"github.com/limber-edge/limber/family/resident"
	"github.com/limber-edge/limber/family/search"
)

// buildArgs are the flags of `family build`.
type buildArgs struct {
	supernet, name, out       string
	train, test               string
	size, random, rough       int
	calibrationN, validationN int
	seed                      uint64
	threads                   int
}

func newFamilyBuild() *cobra.Command {
	var a buildArgs
	c := &cobra.Command{
		Use:   "build",
		Short: "Search a supernet for its Pareto front and write a family",
		Long: `Cut candidates out of a supernet, compute each one's BN statistics, measure it,
and keep the members that no other one beats in cost and accuracy.

The last images of the training set are set aside for choices, the ones before
them for BN statistics; the test images are only used for the figures reported.`,
		Example: `  limber family build --supernet supernet.pth --train ./train --test ./test --size 6 --out ./mine`,
		Args:    exactly(0, "no arguments"),
		RunE:    func(c *cobra.Command, _ []string) error { return a.run(c) },
	}
	f := c.Flags()
	f.StringVar(&a.supernet, "supernet", "", "PyTorch checkpoint, with its description X.json beside X.pth")
	f.StringVar(&a.name, "name", "family", "name of the family")
	f.StringVar(&a.train, "train", "", "folder of labelled training images, or a pattern of sheets in it (dir/train_*)")
	f.StringVar(&a.test, "test", "", "folder of labelled test images, or a pattern of sheets in it (dir/test)")
	f.StringVar(&a.out, "out", "", "folder to write the family to; must not exist")
	f.IntVar(&a.size, "size", 6, "members wanted")
	f.IntVar(&a.random, "random", 40, "candidates drawn at random, beside the uniform ones")
	f.IntVar(&a.rough, "rough", 1000, "validation images for the first look at a candidate")
	f.IntVar(&a.calibrationN, "calibration-images", 2000, "training images for BN statistics")
	f.IntVar(&a.validationN, "validation-images", 5000, "training images set aside for choices")
	f.Uint64Var(&a.seed, "seed", 1, "of the random candidates")
	f.IntVar(&a.threads, "threads", 2, "threads to measure with")
	return c
}

func (a *buildArgs) run(c *cobra.Command) error {
	if err := needed("limber family build", "supernet", a.supernet, "train", a.train, "test", a.test, "out", a.out); err != nil {
		return err
	}
	if _, err := os.Stat(a.out); err == nil {
		return fmt.Errorf("%s exists: name a folder that does not", a.out)
	}
	net, err := ofa.Load(a.supernet)
	if err != nil {
		return err
	}
	sets, err := a.sets(net.Description())
	if err != nil {
		return err
	}
	progress := newProgress(c.ErrOrStderr())
	err = a.build(c.Context(), net, sets, progress.tell)
	progress.end()
	if err != nil {
		return err
	}
	f, err := openFamily(a.out)
	if err != nil {
		return err
	}
	return showFamily(c.OutOrStdout(), f)
}

// build searches the supernet and writes what it found.
func (a *buildArgs) build(ctx context.Context, net *ofa.Supernet, sets search.Sets, tell search.Progress) error {
	rt, err := openRuntime()
	if err != nil {
		return err
	}
	defer rt.Close()
	load := loader(rt, a.threads)
	plan := search.Plan{Size: a.size, Random: a.random, Rough: a.rough, Seed: a.seed}
	found, err := search.Search(ctx, net, load, sets, plan, tell)
	if err != nil {
		return err
	}
	w := familyWriter{dir: a.out + ".part", net: net, load: load, sets: sets, tell: tell}
	if err := w.write(ctx, a, found); err != nil {
		return errors.Join(err, os.RemoveAll(w.dir))
	}
	if err := os.Rename(w.dir, a.out); err != nil {
		return fmt.Errorf("family: %w", err)
	}
	return nil
}

// sets opens the images and divides the training set.
func (a *buildArgs) sets(d ofa.Description) (search.Sets, error) {
	open := func(path string) (search.Images, error) {
		dir, pattern := path, "*"
		if info, err := os.Stat(path); err != nil || !info.IsDir() {
			dir, pattern = filepath.Split(path)
		}
		p, err := openImages(dir, pattern, d.Classes)
		if err != nil {
			return nil, err
		}
		return preprocessed(p, d.Preprocess)
	}
	train, err := open(a.train)
	if err != nil {
		return search.Sets{}, err
	}
	test, err := open(a.test)
	if err != nil {
		return search.Sets{}, err
	}
	choices, stats := train.Len()-a.validationN, train.Len()-a.validationN-a.calibrationN
	if stats < 0 || a.validationN < 1 || a.calibrationN < 1 {
		return search.Sets{}, fmt.Errorf("%d training images cannot be divided into %d for statistics and %d for choices",
			train.Len(), a.calibrationN, a.validationN)
	}
	return search.Sets{
		Calibration: search.Part(train, stats, a.calibrationN),
		Validation:  search.Part(train, choices, a.validationN),
		Test:        test,
	}, nil
}

// familyWriter writes a family into a folder that becomes real only when all of
// it is there.
type familyWriter struct {
	dir  string
	net  *ofa.Supernet
	load ofa.Loader
	sets search.Sets
	tell search.Progress
}

func (w *familyWriter) write(ctx context.Context, a *buildArgs, found []search.Found) error {
	checkpoint, err := os.ReadFile(a.supernet)
	if err != nil {
		return fmt.Errorf("supernet: %w", err)
	}
	desc, err := w.net.Description().Marshal()
	if err != nil {
		return err
	}
	f := family.Family{Schema: family.Schema, Name: a.name, Supernet: family.DigestOf(checkpoint), Describe: desc,
		Classes: w.net.Description().Classes}
	if err := os.MkdirAll(filepath.Join(w.dir, family.BlobFolder), 0o755); err != nil {
		return fmt.Errorf("family: %w", err)
	}
	if f.Members, err = w.members(ctx, found); err != nil {
		return err
	}
	if err := f.Validate(); err != nil {
		return fmt.Errorf("family %s: %w", f.Name, err)
	}
	manifest, err := f.Marshal()
	if err != nil {
		return err
	}
	return errors.Join(w.file(family.SupernetFile, checkpoint), w.file(family.DescriptionFile, append(desc, '\n')),
		w.file(family.ManifestFile, manifest))
}

// members measures what was found, the cheapest first.
func (w *familyWriter) members(ctx context.Context, found []search.Found) ([]family.Member, error) {
	source, err := pixels(w.sets.Calibration, w.net.Largest().R)
	if err != nil {
		return nil, err
	}
	from := family.Calibration{Images: w.sets.Calibration.Len(), Batch: search.BatchSize, Digest: source}
	var members []family.Member
	for i, sub := range found {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		w.tell("test", i, len(found))
		m, err := w.member(sub, from)
		if err != nil {
			return nil, err
		}
		// A member that the test images put behind a cheaper one is of no use.
		if n := len(members); n == 0 || m.Top1 > members[n-1].Top1 {
			members = append(members, m)
		}
	}
	return members, nil
}

// member measures a sub-network on the test images and files its blobs.
func (w *familyWriter) member(found search.Found, from family.Calibration) (family.Member, error) {
	score, err := search.Evaluate(found.Net, w.load, w.sets.Test)
	if err != nil {
		return family.Member{}, err
	}
	arch := found.Net.Arch()
	input := make([]float32, 3*arch.R*arch.R)
	if err := w.sets.Validation.Tensor(input, 0, arch.R); err != nil {
		return family.Member{}, err
	}
	logits, err := infer(found.Net, w.load, input)
	if err != nil {
		return family.Member{}, err
	}
	m := family.Member{
		Name: strings.TrimSuffix(fmt.Sprintf("%.1f", found.Cost), ".0") + "M", Arch: arch, MMACs: found.Cost,
		Top1: score.Top1, Top5: score.Top5, Images: score.Images, CalibratedOn: from,
	}
	m.Stats, err = w.blob(family.FloatBytes(found.Net.Stats()))
	if err != nil {
		return family.Member{}, err
	}
	m.Canary, err = w.blob(resident.Canary(input, logits))
	return m, err
}

func (w *familyWriter) blob(b []byte) (family.Digest, error) {
	d := family.DigestOf(b)
	return d, w.file(family.BlobFile(d), b)
}

func (w *familyWriter) file(name string, b []byte) error {
	if err := os.WriteFile(filepath.Join(w.dir, name), b, 0o644); err != nil {
		return fmt.Errorf("family: %w", err)
	}
	return nil
}

// pixels is the digest of images as a network of resolution r sees them.
func pixels(set search.Images, r int) (family.Digest, error) {
	all := make([]float32, 0, set.Len()*3*r*r)
	one := make([]float32, 3*r*r)
	for i := range set.Len() {
		if err := set.Tensor(one, i, r); err != nil {
			return "", err
		}
		all = append(all, one...)
	}
	return family.DigestOf(family.FloatBytes(all)), nil
}
