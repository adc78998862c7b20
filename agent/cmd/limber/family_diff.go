package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/family"
)

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
