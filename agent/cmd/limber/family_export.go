package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/workshop"
)

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
