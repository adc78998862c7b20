package main

import (
	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/stock"
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
	p := newProgress(c.ErrOrStderr())
	return workshop.Shop{Guard: newTrial(), Progress: shopProgress{p, c.OutOrStdout(), c.ErrOrStderr()}}, p
}

func familyFlag(c *cobra.Command, dir *string) {
	c.Flags().StringVar(dir, "family", "", "the family's folder, or file of \"family pack\" (default: the stock family)")
}
