package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/resident"
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
		Args: exactly(0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := needed("limber family pack", "out", out); err != nil {
				return err
			}
			f, err := openFamily(dir)
			if err != nil {
				return err
			}
			defer f.Close()
			omit := func(d family.Digest) bool { return small && d == f.Supernet }
			return packFamily(c.OutOrStdout(), &f.Family, f, out, omit)
		},
	}
	familyFlag(c, &dir)
	c.Flags().StringVar(&out, "out", "", "file to write (required)")
	c.Flags().BoolVar(&small, "without-supernet", false, "leave the supernet out")
	return c
}

// packFamily writes the file under another name first: a half-written family
// must not lie where a whole one is looked for.
func packFamily(w io.Writer, f *family.Family, blobs family.Blobs, out string, omit func(family.Digest) bool) error {
	part, err := os.OpenFile(out+".part", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return fmt.Errorf("pack: %w", err)
	}
	err = family.Pack(part, f, blobs, omit)
	err = errors.Join(err, part.Sync(), part.Close())
	if err == nil {
		err = os.Rename(out+".part", out)
	}
	if err != nil {
		return errors.Join(err, os.Remove(out+".part"))
	}
	info, err := os.Stat(out)
	if err != nil {
		return fmt.Errorf("pack: %w", err)
	}
	_, err = fmt.Fprintf(w, "%s: family %s (%s), %d members, %d kB\n", out, f.Name, f.Digest().Short(), len(f.Members), info.Size()/1000)
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
		Args: exactly(0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) error {
			f, err := openFamily(dir)
			if err != nil {
				return err
			}
			defer f.Close()
			return verifyFamily(c, f)
		},
	}
	familyFlag(c, &dir)
	return c
}

func verifyFamily(c *cobra.Command, f *family.Folder) (err error) {
	for _, d := range f.Digests() {
		if _, err := f.Blob(d); err != nil {
			return err
		}
	}
	rt, err := openRuntime()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rt.Close()) }()
	cache, err := os.MkdirTemp("", "limber-verify-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(cache)) }()
	shelf := resident.New(rt, &f.Family, f, cache, ort.DefaultOptions(), newTrial())
	progress := newProgress(c.ErrOrStderr())
	defer progress.End()
	for i := range f.Members {
		if err := c.Context().Err(); err != nil {
			return err
		}
		progress.Tell("canaries", i, len(f.Members))
		s, err := shelf.Session(i)
		if err != nil {
			return err
		}
		if err := s.Close(); err != nil {
			return err
		}
	}
	progress.End()
	_, err = fmt.Fprintf(c.OutOrStdout(), "family %s (%s): %d blobs have their bytes, %d members pass their canaries\n",
		f.Name, f.Digest().Short(), len(f.Digests()), len(f.Members))
	return err
}
