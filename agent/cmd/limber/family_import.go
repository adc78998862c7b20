package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/family/workshop"
)

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
