package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

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

// exportArgs are the flags of `family export`.
type exportArgs struct {
	dir, member, out string
	asJSON           bool
}

func newFamilyExport() *cobra.Command {
	var a exportArgs
	c := &cobra.Command{
		Use:   "export",
		Short: "Write one member as an ONNX file of its own, for other runtimes",
		Long: `Write one member as an ONNX file that needs nothing beside it: its weights are
inside, its batch normalisation folded into them. A sub-network takes any number of
images at once, a foreign model as many as it did. The file is checked by running
it: what it gives for two images differs from what the member gives by at most 1e-5
of the spread (the standard deviation) of that.

How a picture becomes the input, the classes and the accuracy are in the file's
metadata, under "limber.preprocess", "limber.classes" and "limber.top1".`,
		Example: `  limber family export --member 23.1M --out cifar.onnx
  limber family export --family shop.family --member small --out small.onnx --json`,
		PreRunE: func(*cobra.Command, []string) error {
			return needed("limber family export", "member", a.member, "out", a.out)
		},
		RunE: onFamily(&a.dir, a.run),
	}
	familyFlag(c, &a.dir)
	c.Flags().StringVar(&a.member, "member", "", "name of the member, see \"family show\" (required)")
	c.Flags().StringVar(&a.out, "out", "", "file to write (required)")
	c.Flags().BoolVar(&a.asJSON, "json", false, "print one JSON object")
	return c
}

func (a *exportArgs) run(c *cobra.Command, f *family.Folder) error {
	i := f.Index(a.member)
	if i < 0 {
		return usagef("--member %s: family %s has %s", a.member, f.Name, strings.Join(memberNames(&f.Family), ", "))
	}
	shop, progress := newShop(c)
	line, err := shop.Export(f, i, a.out)
	progress.End()
	if err != nil {
		return err
	}
	if a.asJSON {
		return json.NewEncoder(c.OutOrStdout()).Encode(line)
	}
	return printExported(c.OutOrStdout(), f, line)
}

func memberNames(f *family.Family) (names []string) {
	for _, m := range f.Members {
		names = append(names, m.Name)
	}
	return names
}

func printExported(w io.Writer, f *family.Folder, e workshop.Exported) error {
	how, err := f.Preprocessing()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, `%s: member %s of family %s, %d kB
input   %s, float32 Nx3x%dx%d, red green blue: (pixel/255 - mean)/std, mean %v, std %v, resize %s, crop %s
output  %s, float32 Nx%d, %s of %s
checked by running it: the largest difference is %.2g of the spread, at most %g is allowed
`, e.Out, e.Member, f.Name, e.Bytes/1000, e.Input, e.Resolution, e.Resolution, how.Mean, how.Std, how.Resize, how.Crop,
		e.Output, e.Classes, e.Outputs, f.Labels(), e.Difference, workshop.ExportTolerance)
	return err
}

// importArgs are the flags of `family import`.
type importArgs struct {
	name, describe, out string
	members             []string
}

func newFamilyImport() *cobra.Command {
	var a importArgs
	c := &cobra.Command{
		Use:   "import",
		Short: "Make a family of ONNX models that are no sub-networks of a supernet",
		Long: `Make a family of ONNX image classifiers, such as three sizes of one: the agent
chooses among them as among the members of any family. Each takes one image,
float32 1x3xRxR (or any number of them), and gives a number for each of the same
classes, 1xN or 1xNx1x1; its top-1 is what you measured, and "family eval" checks.
With a Softmax at its end it gives probabilities, which answers then hold as they
are; else a softmax makes them of its logits. Weights that are listed as inputs,
batches of -1 and imports that no node uses are written anew, and it is said.

The models are scanned before ONNX Runtime sees them: one graph of ONNX's own
operators, no control flow, every weight in the file. Then each runs in a process
of its own, which may take a gigabyte of memory over four times the model's size,
and half a minute over what its size takes; a device does the same before it uses
a member.

The description says how a picture becomes the input:
{"mean":[..3],"std":[..3],"resize":"bilinear","antialias":true,"crop":"none","classes":[...]}`,
		Example: `  limber family import --name shop --describe shop.json \
    --member small=small.onnx:0.712 --member large=large.onnx:0.781 --out shop.family`,
		RunE: func(c *cobra.Command, _ []string) error { return a.run(c) },
	}
	c.Flags().StringVar(&a.name, "name", "family", "name of the family")
	c.Flags().StringVar(&a.describe, "describe", "", "JSON file with the preprocessing and the classes (required)")
	c.Flags().StringArrayVar(&a.members, "member", nil,
		"NAME=FILE:TOP1, from the cheapest to the most accurate; once for each (required)")
	c.Flags().StringVar(&a.out, "out", "", "file to write (required)")
	return c
}

func (a *importArgs) run(c *cobra.Command) error {
	if err := needed("limber family import", "describe", a.describe, "out", a.out,
		"member", strings.Join(a.members, "")); err != nil {
		return err
	}
	var models []workshop.Model
	for _, text := range a.members {
		m, err := parseMember(text)
		if err != nil {
			return fmt.Errorf("member %s: %w", text, err)
		}
		models = append(models, m)
	}
	shop, progress := newShop(c)
	defer progress.End()
	f, err := shop.Import(c.Context(), a.name, a.describe, models, a.out)
	if err != nil {
		return err
	}
	return printPacked(c.OutOrStdout(), a.out, f)
}

// parseMember reads NAME=FILE:TOP1.
func parseMember(text string) (workshop.Model, error) {
	name, rest, _ := strings.Cut(text, "=")
	at := strings.LastIndex(rest, ":")
	if name == "" || at <= 0 {
		return workshop.Model{}, usagef("wants NAME=FILE:TOP1, such as small=small.onnx:0.712")
	}
	top1, err := strconv.ParseFloat(rest[at+1:], 64)
	if err != nil || !(top1 > 0 && top1 <= 1) {
		return workshop.Model{}, usagef("top-1 %q: wants a fraction, such as 0.712", rest[at+1:])
	}
	return workshop.Model{Name: name, File: rest[:at], Top1: top1}, nil
}
