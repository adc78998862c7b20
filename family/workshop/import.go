package workshop

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strings"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/onnx"
	"github.com/limber-edge/limber/family/resident"
)

// A Model is an ONNX file that becomes a member.
type Model struct {
	Name string
	File string
	Top1 float64 // as its maker measured it, in (0, 1]
}

// Import makes a family of ONNX models, from the cheapest to the most accurate, and
// packs it. The file describe holds its preprocessing and its classes.
func (s Shop) Import(ctx context.Context, name, describe string, models []Model, out string) (*family.Family, error) {
	f, err := described(name, describe)
	if err != nil {
		return nil, err
	}
	blobs := family.MemoryBlobs{}
	for _, m := range models {
		member, err := s.importMember(ctx, f, blobs, m)
		if err != nil {
			return nil, fmt.Errorf("member %s=%s: %w", m.Name, m.File, err)
		}
		f.Members = append(f.Members, member)
	}
	if err := f.Validate(); err != nil {
		return nil, err
	}
	return f, Pack(out, f, blobs, whole)
}

// described is a manifest without its members.
func described(name, path string) (*family.Family, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("description: %w", err)
	}
	var labels struct {
		Classes []string `json:"classes"`
	}
	if err := json.Unmarshal(b, &labels); err != nil {
		return nil, fmt.Errorf("description %s: %w", path, err)
	}
	f := &family.Family{Schema: family.Schema, Name: name, Describe: b, Classes: labels.Classes}
	if _, err := f.Preprocessing(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

// importMember makes a model plain, tries it on a fixed input, and keeps both with
// what it gave.
func (s Shop) importMember(ctx context.Context, f *family.Family, blobs family.MemoryBlobs,
	from Model) (family.Member, error) {
	model, err := os.ReadFile(from.File)
	if err != nil {
		return family.Member{}, err
	}
	model, info, changed, err := onnx.Plain(model, len(f.Classes))
	if err != nil {
		return family.Member{}, err
	}
	m := family.Member{Name: from.Name, Top1: from.Top1, Top5: from.Top1, Model: blobs.Add(model),
		Input: info.Input.Name, Output: info.Output.Name}
	if m.Arch.R, err = info.Side(); err != nil {
		return family.Member{}, err
	}
	if err := resident.Fits(info, &m, len(f.Classes)); err != nil {
		return family.Member{}, err
	}
	input := Noise(3 * m.Arch.R * m.Arch.R)
	numbers, err := s.Guard.Try(ctx, model, resident.ShapeOf(&m, len(f.Classes)), input)
	if err != nil {
		return family.Member{}, err
	}
	var said string
	m.Outputs, said = outputsOf(info, numbers)
	if len(changed) > 0 {
		said = strings.TrimPrefix(said+"; the model is kept with changes: "+strings.Join(changed, "; "), "; ")
	}
	if said != "" {
		s.Progress.Warn(fmt.Sprintf("member %s: %s", m.Name, said))
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
		return family.Probabilities, fmt.Sprintf("ends in %s, and what it gives is none negative "+
			"and adds up to 1: taken as probabilities, which answers hold as they are", info.Ends)
	case info.Ends == "LogSoftmax":
		return "", "ends in LogSoftmax: taken as logits, of which a softmax makes the same probabilities"
	case info.Ends == "Sigmoid":
		return "", "ends in Sigmoid, which judges each class alone: taken as logits, " +
			"so that classes are right and their probabilities are not; export it without its last Sigmoid"
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
