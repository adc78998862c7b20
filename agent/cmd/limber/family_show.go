package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/family"
)

func newFamilyShow() *cobra.Command {
	var dir, plot string
	var asJSON bool
	c := &cobra.Command{
		Use:   "show",
		Short: "Print the members of a family, and draw them",
		Example: `  limber family show
  limber family show --family ./mine --json
  limber family show --family mine.family --plot front.svg`,
		Args: exactly(0, "no arguments"),
		RunE: onFamily(&dir, func(c *cobra.Command, f *family.Folder) error {
			if plot != "" {
				if err := plotFront(plot, &f.Family); err != nil {
					return err
				}
			}
			if asJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(f.Family)
			}
			return showFamily(c.OutOrStdout(), f)
		}),
	}
	familyFlag(c, &dir)
	c.Flags().BoolVar(&asJSON, "json", false, "print the manifest as one JSON object")
	c.Flags().StringVar(&plot, "plot", "", "also write the front as a picture, .svg or .png")
	return c
}

func showFamily(w io.Writer, f *family.Folder) error {
	if f.Foreign() {
		return showForeign(w, &f.Family)
	}
	fmt.Fprintf(w, "family %s (%s), supernet %s, %d classes: %s\n\n", f.Name, f.Digest().Short(), f.Supernet.Short(),
		len(f.Classes), f.Labels())
	drawFront(w, &f.Family)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "member\tMMACs\tpixels\tdepth\ttop-1 %\ttop-5 %\ttest images\tcalibrated on\tstatistics")
	for _, m := range f.Members {
		fmt.Fprintf(t, "%s\t%.2f\t%d\t%s\t%.2f\t%.2f\t%d\t%d\t%s\n", m.Name, m.MMACs, m.Arch.R, digits(m.Arch.D),
			100*m.Top1, 100*m.Top5, m.Images, m.CalibratedOn.Images, m.Stats.Short())
	}
	return t.Flush()
}

// showForeign prints what is known of a family without a supernet.
func showForeign(w io.Writer, f *family.Family) error {
	fmt.Fprintf(w, "family %s (%s), foreign models, %d classes: %s\n\n", f.Name, f.Digest().Short(), len(f.Classes),
		f.Labels())
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "member\tpixels\ttop-1 %\tgives\tmodel")
	for _, m := range f.Members {
		fmt.Fprintf(t, "%s\t%d\t%.2f\t%s\t%s\n", m.Name, m.Arch.R, 100*m.Top1, cmp.Or(m.Outputs, "logits"), m.Model.Short())
	}
	return t.Flush()
}

func digits(v []int) string { return strings.Trim(fmt.Sprint(v), "[]") }
