package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/chart"
	"github.com/limber-edge/limber/store"
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
	const head = "member\tMMACs\tpixels\tdepth\ttop-1 %\ttop-5 %\ttest images\tcalibrated on\tstatistics"
	return printList(w, false, f.Members, 0, head, func(m family.Member) string {
		return fmt.Sprintf("%s\t%.2f\t%d\t%s\t%.2f\t%.2f\t%d\t%d\t%s", m.Name, m.MMACs, m.Arch.R, digits(m.Arch.D),
			100*m.Top1, 100*m.Top5, m.Images, m.CalibratedOn.Images, m.Stats.Short())
	})
}

// showForeign prints what is known of a family without a supernet.
func showForeign(w io.Writer, f *family.Family) error {
	fmt.Fprintf(w, "family %s (%s), foreign models, %d classes: %s\n\n", f.Name, f.Digest().Short(), len(f.Classes),
		f.Labels())
	return printList(w, false, f.Members, 0, "member\tpixels\ttop-1 %\tgives\tmodel", func(m family.Member) string {
		return fmt.Sprintf("%s\t%d\t%.2f\t%s\t%s", m.Name, m.Arch.R, 100*m.Top1, cmp.Or(m.Outputs, "logits"), m.Model.Short())
	})
}

func digits(v []int) string { return strings.Trim(fmt.Sprint(v), "[]") }

// The size of the front on a terminal, in characters.
const (
	frontWidth  = 60
	frontHeight = 12
)

// drawFront draws the members in the plane of cost and accuracy, for a terminal.
// The cost is on a logarithmic scale: members lie evenly on it.
func drawFront(w io.Writer, f *family.Family) {
	if f.Foreign() {
		return // what its members cost is known on a device only
	}
	first, last := f.Members[0], f.Members[len(f.Members)-1]
	span := max(last.Top1-first.Top1, 1e-9)
	least, most := first.MMACs, first.MMACs // the more accurate need not have more: it may be the faster all the same
	for _, m := range f.Members {
		least, most = min(least, m.MMACs), max(most, m.MMACs)
	}
	decades := max(math.Log(most/least), 1e-9)
	grid := make([][]rune, frontHeight)
	for y := range grid {
		grid[y] = []rune(strings.Repeat(" ", frontWidth+8))
	}
	for _, m := range f.Members {
		x := int(math.Log(m.MMACs/least) / decades * (frontWidth - 1))
		y := frontHeight - 1 - int((m.Top1-first.Top1)/span*(frontHeight-1))
		copy(grid[y][x:], []rune("● "+m.Name))
	}
	for y, row := range grid {
		label := "       "
		switch y {
		case 0:
			label = fmt.Sprintf("%6.2f%%", 100*last.Top1)
		case frontHeight - 1:
			label = fmt.Sprintf("%6.2f%%", 100*first.Top1)
		}
		fmt.Fprintf(w, "%s │%s\n", label, strings.TrimRight(string(row), " "))
	}
	fmt.Fprintf(w, "  top-1 └%s\n", strings.Repeat("─", frontWidth))
	fmt.Fprintf(w, "         %-*s%s MMACs (log)\n\n", frontWidth-12, fmt.Sprintf("%.1f", least), fmt.Sprintf("%.1f", most))
}

// plotFront writes the same as a picture.
func plotFront(name string, f *family.Family) error {
	if f.Foreign() {
		return errors.New("plot: what the members of a foreign family cost is known on a device only")
	}
	s := chart.Series{Name: f.Name}
	for _, m := range f.Members {
		s.Points = append(s.Points, chart.Point{X: m.MMACs, Y: 100 * m.Top1, Label: m.Name})
	}
	axes := chart.Axes{Title: "Family " + f.Name, X: "cost, million multiply-accumulates", Y: "top-1, %"}
	err := store.FillFile(name, func(w io.Writer) error { return chart.Draw(w, name, axes, s) })
	if err != nil {
		return fmt.Errorf("plot: %w", err)
	}
	return nil
}
