package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/onnx"
	"github.com/limber-edge/limber/family/resident"
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
		Args: exactly(0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) error { return a.run(c) },
	}
	c.Flags().StringVar(&a.name, "name", "family", "name of the family")
	c.Flags().StringVar(&a.describe, "describe", "", "JSON file with the preprocessing and the classes (required)")
	c.Flags().StringArrayVar(&a.members, "member", nil, "NAME=FILE:TOP1, from the cheapest to the most accurate; once for each (required)")
	c.Flags().StringVar(&a.out, "out", "", "file to write (required)")
	return c
}

func (a *importArgs) run(c *cobra.Command) error {
	if err := needed("limber family import", "describe", a.describe, "out", a.out, "member", strings.Join(a.members, "")); err != nil {
		return err
	}
	f, err := a.family()
	if err != nil {
		return err
	}
	blobs := family.MemoryBlobs{}
	for _, m := range a.members {
		member, err := importMember(c, f, blobs, m)
		if err != nil {
			return fmt.Errorf("member %s: %w", m, err)
		}
		f.Members = append(f.Members, member)
	}
	if err := f.Validate(); err != nil {
		return err
	}
	return packFamily(c.OutOrStdout(), f, blobs, a.out, func(family.Digest) bool { return false })
}

// family is the manifest without its members.
func (a *importArgs) family() (*family.Family, error) {
	b, err := os.ReadFile(a.describe)
	if err != nil {
		return nil, fmt.Errorf("description: %w", err)
	}
	var described struct {
		Classes []string `json:"classes"`
	}
	if err := json.Unmarshal(b, &described); err != nil {
		return nil, fmt.Errorf("description %s: %w", a.describe, err)
	}
	f := &family.Family{Schema: family.Schema, Name: a.name, Describe: b, Classes: described.Classes}
	if _, err := f.Preprocessing(); err != nil {
		return nil, fmt.Errorf("%s: %w", a.describe, err)
	}
	return f, nil
}

// importMember makes a model plain, tries it on a fixed input, and keeps both with
// what it gave.
func importMember(c *cobra.Command, f *family.Family, blobs family.MemoryBlobs, text string) (family.Member, error) {
	name, file, top1, err := parseMember(text)
	if err != nil {
		return family.Member{}, err
	}
	model, err := os.ReadFile(file)
	if err != nil {
		return family.Member{}, err
	}
	model, info, changed, err := onnx.Plain(model, len(f.Classes))
	if err != nil {
		return family.Member{}, err
	}
	m := family.Member{Name: name, Top1: top1, Top5: top1, Model: blobs.Add(model), Input: info.Input.Name, Output: info.Output.Name}
	if m.Arch.R, err = info.Side(); err != nil {
		return family.Member{}, err
	}
	if err := resident.Fits(info, &m, len(f.Classes)); err != nil {
		return family.Member{}, err
	}
	input := noise(3 * m.Arch.R * m.Arch.R)
	numbers, err := newTrial().Try(c.Context(), model, resident.ShapeOf(&m, len(f.Classes)), input)
	if err != nil {
		return family.Member{}, err
	}
	var said string
	m.Outputs, said = outputsOf(info, numbers)
	if len(changed) > 0 {
		said = strings.TrimPrefix(said+"; the model is kept with changes: "+strings.Join(changed, "; "), "; ")
	}
	if said != "" {
		fmt.Fprintf(c.ErrOrStderr(), "limber: member %s: %s\n", name, said)
	}
	m.Canary = blobs.Add(resident.Canary(input, numbers))
	return m, nil
}

// outputsOf tells what the numbers are that a model gives, by the operator that
// makes them and by those that it gave; and what there is to say of that.
func outputsOf(info onnx.Info, numbers []float32) (outputs, said string) {
	switch {
	case info.Ends == "Softmax":
		return family.Probabilities, "ends in Softmax: it gives probabilities, which answers hold as they are"
	case probabilities(numbers):
		return family.Probabilities, fmt.Sprintf("ends in %s, and what it gives is none negative and adds up to 1: taken as probabilities, which answers hold as they are", info.Ends)
	case info.Ends == "LogSoftmax":
		return "", "ends in LogSoftmax: taken as logits, of which a softmax makes the same probabilities"
	case info.Ends == "Sigmoid":
		return "", "ends in Sigmoid, which judges each class alone: taken as logits, so that classes are right and their probabilities are not; export it without its last Sigmoid"
	}
	return "", ""
}

// probabilities tells whether numbers are what a Softmax gives: none negative, and
// 1 together. Logits of noise are neither.
func probabilities(v []float32) bool {
	sum := 0.0
	for _, p := range v {
		if !(p >= 0) {
			return false
		}
		sum += float64(p)
	}
	return math.Abs(sum-1) < 1e-3
}

// parseMember reads NAME=FILE:TOP1.
func parseMember(text string) (name, file string, top1 float64, err error) {
	name, rest, _ := strings.Cut(text, "=")
	at := strings.LastIndex(rest, ":")
	if name == "" || at <= 0 {
		return "", "", 0, usageError{errors.New("wants NAME=FILE:TOP1, such as small=small.onnx:0.712")}
	}
	top1, err = strconv.ParseFloat(rest[at+1:], 64)
	if err != nil || !(top1 > 0 && top1 <= 1) {
		return "", "", 0, usageError{fmt.Errorf("top-1 %q: wants a fraction, such as 0.712", rest[at+1:])}
	}
	return name, rest[:at], top1, nil
}

// noise is a fixed input that is neither constant nor denormal.
func noise(n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(i*7919%1000)/500 - 1
	}
	return v
}
