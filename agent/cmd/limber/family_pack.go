package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/workshop"
)

func newFamilyPack() *cobra.Command {
	var dir, out string
	var small bool
	c := &cobra.Command{
		Use:   "pack",
		Short: "Make one file of a family",
		Long: `Make one file of a family: a ZIP archive, not compressed, of its manifest and
blobs. Every command that takes --family takes such a file. With
--without-supernet it holds only what a device needs that has the supernet
already, some tens of kilobytes a member.`,
		Example: `  limber family pack --family ./mine --out mine.family
  limber family pack --family ./mine --without-supernet --out mine-small.family`,
		PreRunE: func(*cobra.Command, []string) error { return needed("limber family pack", "out", out) },
		RunE: onFamily(&dir, func(c *cobra.Command, f *family.Folder) error {
			omit := func(d family.Digest) bool { return small && d == f.Supernet }
			if err := workshop.Pack(out, &f.Family, f, omit); err != nil {
				return err
			}
			return printPacked(c.OutOrStdout(), out, &f.Family)
		}),
	}
	familyFlag(c, &dir)
	c.Flags().StringVar(&out, "out", "", "file to write (required)")
	c.Flags().BoolVar(&small, "without-supernet", false, "leave the supernet out")
	return c
}

func printPacked(w io.Writer, path string, f *family.Family) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s: family %s (%s), %d members, %d kB\n", path, f.Name, f.Digest().Short(), len(f.Members),
		info.Size()/1000)
	return err
}

func newFamilyVerify() *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use:   "verify",
		Short: "Check every blob of a family and run every canary",
		Long: `Check that every blob has the bytes its SHA-256 names, that every member can be
cut from the supernet, and that its canary, a stored input, gives the stored
logits on this machine.`,
		Example: `  limber family verify
  limber family verify --family mine.family`,
		RunE: onFamily(&dir, verifyFamily),
	}
	familyFlag(c, &dir)
	return c
}

func verifyFamily(c *cobra.Command, f *family.Folder) error {
	shop, progress := newShop(c)
	err := shop.Verify(c.Context(), f)
	progress.End()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), "family %s (%s): %d blobs have their bytes, %d members pass their canaries\n",
		f.Name, f.Digest().Short(), len(f.Digests()), len(f.Members))
	return err
}
