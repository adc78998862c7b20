package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/library"
	"github.com/limber-edge/limber/family/stock"
	"github.com/limber-edge/limber/family/trial"
	"github.com/limber-edge/limber/family/workshop"
)

func newFamily() *cobra.Command {
	c := group("family", "Make, measure and look at families of sub-networks", `  limber family show
  limber family eval
  limber family build --supernet ofa.pth --calibration ./train --validation ./val --out mine.family`)
	c.Long = c.Short + `. A member is named after
its cost: 23.1M takes 23.1 million multiply-accumulates (MMACs) an image.`
	c.AddCommand(newFamilyShow(), newFamilyEval(), newFamilyLogits(), newFamilySearch(), newFamilyBuild(),
		newFamilyProfile(), newFamilyTable(), newFamilyPack(), newFamilyVerify(), newFamilyDiff(), newFamilyInstall(),
		newFamilyImport(), newFamilyExport(), newFamilyTrial())
	return c
}

// openFamily opens the family in a folder or a file, or the stock family for "".
// The caller closes it.
func openFamily(name string) (*family.Folder, error) {
	if name == "" {
		return stock.Family()
	}
	return family.Open(name)
}

// onFamily is a command's work on the family that its flag names.
func onFamily(name *string, work func(c *cobra.Command, f *family.Folder) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, _ []string) error {
		f, err := openFamily(*name)
		if err != nil {
			return err
		}
		defer f.Close()
		return work(c, f)
	}
}

// newShop is a workshop that tells people how far it is: notes go where results
// are printed, warnings beside them. The caller ends the progress before it prints.
func newShop(c *cobra.Command) (workshop.Shop, *progress) {
	p := newProgress(c)
	return workshop.Shop{Guard: newTrial(), Progress: p}, p
}

func familyFlag(c *cobra.Command, dir *string) {
	c.Flags().StringVar(dir, "family", "", "the family's folder, or file of \"family pack\" (default: the stock family)")
}

func newFamilyInstall() *cobra.Command {
	var dir string
	var state string
	c := &cobra.Command{
		Use:   "install",
		Short: "Give a device on this machine a family",
		Long: `Store a family in the state folder of a device that does not run. From its next
start on the device uses it: the members are cut, checked by their canaries and
measured there. A file made with "family pack --without-supernet" will do if the
device has the supernet.`,
		Example: `  limber family install --family mine.family
  limber family install --family ./mine --state ./state`,
		RunE: onFamily(&dir, func(c *cobra.Command, f *family.Folder) error {
			if err := library.Install(state, f, slog.New(slog.DiscardHandler)); err != nil {
				return err
			}
			_, err := fmt.Fprintf(c.OutOrStdout(), "family %s (%s), %d members, is in %s; the next start of the agent uses it\n",
				f.Name, f.Digest().Short(), len(f.Members), state)
			return err
		}),
	}
	familyFlag(c, &dir)
	stateFlag(c, &state)
	return c
}

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

// trialCommand is the process that newTrial starts.
const trialCommand = "trial"

// newTrial tries foreign models in processes of this very program.
func newTrial() *trial.Trial {
	exe, err := os.Executable()
	if err != nil {
		exe = os.Args[0] // if that is no program either, the trial says so
	}
	return trial.New(trial.LimitsOf, exe, "family", trialCommand)
}

func newFamilyTrial() *cobra.Command {
	return &cobra.Command{
		Use:    trialCommand,
		Short:  "Run the foreign model on standard input once, and say what it gave",
		Hidden: true,
		RunE: func(c *cobra.Command, _ []string) error {
			rt, err := workshop.OpenRuntime()
			if err != nil {
				return err
			}
			return errors.Join(trial.Serve(rt, c.InOrStdin(), c.OutOrStdout()), rt.Close())
		},
	}
}
