package main

import (
	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/family/workshop"
)

func newFamilyLogits() *cobra.Command {
	var l workshop.Logits
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
		RunE: func(c *cobra.Command, _ []string) error {
			if err := needed("limber family logits", "supernet", l.Supernet, "arch", l.Arch, "input", l.Input,
				"out", l.Out); err != nil {
				return err
			}
			shop, progress := newShop(c)
			defer progress.End()
			return shop.Logits(l)
		},
	}
	f := c.Flags()
	f.StringVar(&l.Supernet, "supernet", "", "PyTorch checkpoint of the supernet (required)")
	f.StringVar(&l.Arch, "arch", "", `JSON file {"ks":[...],"e":[...],"d":[...],"r":N} (required)`)
	f.StringVar(&l.Input, "input", "", "raw float32 input (required)")
	f.StringSliceVar(&l.Calibrate, "calibrate", nil, "raw float32 batches to compute BN statistics from")
	f.StringVar(&l.Out, "out", "", "file for the logits (required)")
	return c
}
