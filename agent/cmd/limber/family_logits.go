package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ofa"
)

// logitsArgs are the flags of `family logits`; every one but calibrate is
// needed.
type logitsArgs struct {
	supernet, arch, input, out string
	calibrate                  []string
}

func newFamilyLogits() *cobra.Command {
	var a logitsArgs
	c := &cobra.Command{
		Use:   "logits",
		Short: "Run one sub-network of a checkpoint on raw input, to compare with PyTorch",
		Long: `Cut one sub-network out of an OFA checkpoint and write the logits it gives.

Input and output are raw little-endian float32: N images of 3×R×R (red green
blue, preprocessed), N rows of logits. X.json beside X.pth describes the
supernet; without it, it is taken for a published ImageNet one. With --calibrate
the BN statistics are recomputed first, each file being one batch.`,
		Example: `  limber family logits --supernet ofa_mbv3_w1.0.pth --arch a.json --input x.f32 --out y.f32
  limber family logits --supernet s.pth --arch a.json --input x.f32 --calibrate b0.f32,b1.f32 --out y.f32`,
		Args: exactly(0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) error { return a.run(c.ErrOrStderr()) },
	}
	f := c.Flags()
	f.StringVar(&a.supernet, "supernet", "", "PyTorch checkpoint of the supernet (required)")
	f.StringVar(&a.arch, "arch", "", `JSON file {"ks":[...],"e":[...],"d":[...],"r":N} (required)`)
	f.StringVar(&a.input, "input", "", "raw float32 input (required)")
	f.StringSliceVar(&a.calibrate, "calibrate", nil, "raw float32 batches to compute BN statistics from")
	f.StringVar(&a.out, "out", "", "file for the logits (required)")
	return c
}

func (a *logitsArgs) run(w io.Writer) error {
	if err := needed("limber family logits", "supernet", a.supernet, "arch", a.arch, "input", a.input, "out", a.out); err != nil {
		return err
	}
	sub, err := a.cut(w)
	if err != nil {
		return err
	}
	in, err := readImages(a.input, sub.Arch().R)
	if err != nil {
		return err
	}
	rt, err := openRuntime()
	if err != nil {
		return err
	}
	defer rt.Close()
	load := loader(rt, 2)
	if len(a.calibrate) > 0 {
		if err := sub.Calibrate(load, a.batches(sub.Arch().R)); err != nil {
			return err
		}
	}
	logits, err := infer(sub, load, in)
	if err != nil {
		return err
	}
	return writeWhole(a.out, family.FloatBytes(logits))
}

func (a *logitsArgs) cut(w io.Writer) (*ofa.Subnet, error) {
	b, err := os.ReadFile(a.arch)
	if err != nil {
		return nil, fmt.Errorf("architecture: %w", err)
	}
	arch, err := family.ParseArch(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", a.arch, err)
	}
	net, err := loadSupernet(w, a.supernet)
	if err != nil {
		return nil, err
	}
	return net.Cut(arch)
}

func (a *logitsArgs) batches(r int) ofa.Batches {
	return func(i int) ([]float32, error) {
		if i == len(a.calibrate) {
			return nil, nil
		}
		return readImages(strings.TrimSpace(a.calibrate[i]), r)
	}
}

// readImages reads raw images of 3×r×r.
func readImages(path string, r int) ([]float32, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("images: %w", err)
	}
	v, err := family.Floats(b)
	if err == nil && (len(v) == 0 || len(v)%(3*r*r) != 0) {
		err = fmt.Errorf("%d bytes are not a whole number of images of 3×%d×%d float32 (%d bytes each)", len(b), r, r, 4*3*r*r)
	}
	if err != nil {
		return nil, fmt.Errorf("images %s: %w", path, err)
	}
	return v, nil
}

// infer runs the folded sub-network on a batch and wants numbers for logits.
func infer(sub *ofa.Subnet, load ofa.Loader, in []float32) (logits []float32, err error) {
	model, err := sub.Model(0)
	if err != nil {
		return nil, err
	}
	run, err := load(model, ofa.InputName, []string{ofa.OutputName})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, run.Close()) }()
	r := sub.Arch().R
	out, err := run.Run(in, len(in)/(3*r*r), r)
	if err != nil {
		return nil, err
	}
	for i, v := range out[0] {
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return nil, fmt.Errorf("logit %d of image %d is %v: the image or the weights are out of the range of a float32", i%sub.Classes(), i/sub.Classes(), v)
		}
	}
	return out[0], nil
}

// writeWhole writes a file that is there whole or not at all.
func writeWhole(path string, b []byte) error {
	part := path + ".part"
	if err := os.WriteFile(part, b, 0o644); err != nil {
		os.Remove(part) // what there is of it; the write's error says why
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(part, path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
