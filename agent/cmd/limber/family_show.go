package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
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
	c.Flags().StringVar(&plot, "plot", "", "also write the front as a picture, .svg")
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

func newFamilyDiff() *cobra.Command {
	return &cobra.Command{
		Use:   "diff OLD NEW",
		Short: "Say how two families differ",
		Long: `Say how two families differ, each a folder or a file of "family pack": member by
member, and what a device with the old one must be sent for the new one. Members
with a model of their own instead of a supernet are told apart by its digest.`,
		Example: `  limber family diff ./mine ./better`,
		Args:    exactly(2, "two families"),
		RunE: func(c *cobra.Command, args []string) error {
			old, err := family.Open(args[0])
			if err != nil {
				return err
			}
			defer old.Close()
			now, err := family.Open(args[1])
			if err != nil {
				return err
			}
			defer now.Close()
			return printDiff(c.OutOrStdout(), old, now)
		},
	}
}

func printDiff(w io.Writer, old, now *family.Folder) error {
	head, row := "member\tchange\tMMACs\ttop-1 %", ofSupernet
	if old.Foreign() || now.Foreign() {
		head, row = "member\tchange\ttop-1 %\tpixels\tmodel", ofModels
	}
	err := printList(w, false, family.Diff(&old.Family, &now.Family), 0, head, func(c family.Change) string {
		return c.Name + "\t" + change(c) + "\t" + row(c)
	})
	if err != nil {
		return err
	}
	missing, size := family.Missing(&old.Family, &now.Family), 0
	for _, d := range missing {
		b, err := now.Blob(d)
		if err != nil {
			return err
		}
		size += len(b)
	}
	_, err = fmt.Fprintf(w, "\n%s; a device with the old family needs %d blobs, %d kB\n",
		whatTheyAre(&old.Family, &now.Family), len(missing), size/1000)
	return err
}

// change is one word for what became of a member.
func change(c family.Change) string {
	switch {
	case c.Old == nil:
		return "new"
	case c.New == nil:
		return "gone"
	case c.Same():
		return "same"
	}
	return "other"
}

// ofSupernet is the rest of the row of a member that is a sub-network.
func ofSupernet(c family.Change) string {
	return oldToNew(c, func(m *family.Member) string { return fmt.Sprintf("%.2f", m.MMACs) }) + "\t" + oldToNew(c, top1)
}

// ofModels is that of one which may be a model of somebody else's.
func ofModels(c family.Change) string {
	pixels := func(m *family.Member) string { return fmt.Sprint(m.Arch.R) }
	model := func(m *family.Member) string {
		if m.Model == "" {
			return "of the supernet"
		}
		return m.Model.Short()
	}
	return oldToNew(c, top1) + "\t" + oldToNew(c, pixels) + "\t" + oldToNew(c, model)
}

func top1(m *family.Member) string { return fmt.Sprintf("%.2f", 100*m.Top1) }

// oldToNew says something of a member once where it did not change.
func oldToNew(c family.Change, what func(*family.Member) string) string {
	switch {
	case c.Old == nil:
		return what(c.New)
	case c.New == nil || what(c.Old) == what(c.New):
		return what(c.Old)
	}
	return what(c.Old) + " -> " + what(c.New)
}

// whatTheyAre says what two families have in common beside their members.
func whatTheyAre(old, now *family.Family) string {
	said := []string{"another supernet"}
	switch {
	case old.Foreign() && now.Foreign():
		said[0] = "both of foreign models, without a supernet"
	case now.Foreign():
		said[0] = "the new one is of foreign models, without a supernet"
	case old.Foreign():
		said[0] = "the old one was of foreign models, without a supernet"
	case old.Supernet == now.Supernet:
		said[0] = "the same supernet"
	}
	if !slices.Equal(old.Classes, now.Classes) {
		said = append(said, "other classes")
	}
	if !sameJSON(old.Describe, now.Describe) {
		said = append(said, "another description")
	}
	return strings.Join(said, ", ")
}

// sameJSON compares what was read as JSON, but for the space in it.
func sameJSON(a, b json.RawMessage) bool {
	var x, y bytes.Buffer
	return errors.Join(json.Compact(&x, a), json.Compact(&y, b)) == nil && bytes.Equal(x.Bytes(), y.Bytes())
}
