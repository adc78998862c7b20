// Package ofa turns a Once-for-All checkpoint into sub-networks that ONNX
// Runtime can run.
//
//	checkpoint ──ReadCheckpoint──▶ tensors ──New──▶ Supernet ──Cut──▶ Subnet ──Model──▶ ONNX
//	                                                                  │   ▲
//	                                                          Calibrate   SetStats
//
// Three kinds are known: OFA-MobileNetV3 and OFA-ProxylessNASNets (mobile.go), and
// OFA-ResNet50 (resnet.go). What a checkpoint's shapes can tell is inferred from them and checked; the
// rest (strides, activations, resolutions, preprocessing) comes from a small
// Description. The rules are those of the original code (Cai et al., "Once for
// All: Train One Network and Specialize it for Efficient Deployment", ICLR
// 2020): a narrower layer takes the first channels of the wide one, a smaller
// kernel is the centre of the larger one times a learned matrix, a shallower
// stage drops its last blocks. Batch normalisation (BN) is folded into the
// convolutions last, after the statistics of this very sub-network were put in:
// the supernet's own statistics are wrong for every other sub-network.
package ofa

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"slices"
	"strings"

	"github.com/limber-edge/limber/family"
)

// Supernet is one set of elastic weights. It is read-only and safe for
// concurrent use.
type Supernet struct {
	desc    Description
	tensors map[string]Tensor // by the current code's names, see normalize
	taken   string
}

// Taken says what was taken of the checkpoint, see Checkpoint.Taken.
func (s *Supernet) Taken() string { return s.taken }

// New checks that the checkpoint holds a supernet that the description
// fits. Every tensor that sub-networks need is there with the shape it must
// have, and holds finite numbers, no variance under zero; what is missing or
// does not fit is named.
func New(checkpoint *Checkpoint, desc Description) (*Supernet, error) {
	s := &Supernet{desc: desc, tensors: make(map[string]Tensor), taken: checkpoint.Taken()}
	for _, name := range checkpoint.Names() {
		t, _ := checkpoint.Tensor(name)
		s.tensors[normalize(name)] = t
	}
	c := s.cutter(s.Largest())
	c.judging = true
	if _, err := c.cut(); err != nil {
		return nil, fmt.Errorf("supernet: %w", err)
	}
	for _, extra := range []string{
		fmt.Sprintf("blocks.%d.conv.point_linear.conv.weight", 1+s.desc.slots()), // block 0 is no elastic one
		fmt.Sprintf("blocks.%d.conv3.conv.weight", s.desc.slots()),
	} {
		if s.has(extra) {
			return nil, fmt.Errorf("supernet: the checkpoint has more blocks than the description, whose stages have up to %v",
				s.desc.lengths())
		}
	}
	return s, nil
}

// Description returns what the supernet was described with.
func (s *Supernet) Description() Description { return s.desc }

// Largest is the architecture that uses every weight, at the highest
// resolution.
func (s *Supernet) Largest() family.Arch {
	return s.desc.Uniform(slices.Max(s.desc.KS), slices.Max(s.desc.E), s.desc.maxDepth(), slices.Max(s.desc.Resolutions))
}

// Classes is the number of logits.
func (s *Supernet) Classes() int { return s.tensors["classifier.linear.weight"].Shape[0] }

// normalize maps the names of published checkpoints, old and new, to one form:
// the elastic wrappers' doubled parts go, and the old block attribute gets its
// new name.
func normalize(name string) string {
	name = strings.Replace(name, ".mobile_inverted_conv.", ".conv.", 1)
	name = strings.Replace(name, ".bn.bn.", ".bn.", 1)
	name = strings.Replace(name, ".linear.linear.", ".linear.", 1)
	return strings.Replace(name, ".conv.conv.weight", ".conv.weight", 1)
}

func (s *Supernet) has(name string) bool {
	_, ok := s.tensors[name]
	return ok
}

// anySize stands for a dimension that the tensor itself decides.
const anySize = -1

// tensor returns the named tensor if its shape is the given one.
func (s *Supernet) tensor(name string, shape ...int) (Tensor, error) {
	t, ok := s.tensors[name]
	if !ok {
		return Tensor{}, fmt.Errorf("the checkpoint has no tensor %s; is it an %s?", name, s.desc.title())
	}
	fits := len(t.Shape) == len(shape)
	for i := 0; fits && i < len(shape); i++ {
		fits = shape[i] == anySize && t.Shape[i] > 0 || shape[i] == t.Shape[i]
	}
	if !fits {
		return Tensor{}, fmt.Errorf("tensor %s has shape %v, want %s", name, t.Shape, shapeString(shape))
	}
	return t, nil
}

// checkNumbers tells which number of a tensor no network can have.
func checkNumbers(name string, numbers []float32) error {
	least := float32(-math.MaxFloat32)
	if strings.HasSuffix(name, ".running_var") {
		least = 0
	}
	for i, v := range numbers {
		if v >= least && v <= math.MaxFloat32 {
			continue
		}
		if v < 0 && least == 0 {
			return fmt.Errorf("tensor %s: number %d is %v, and a variance is at least 0", name, i, v)
		}
		return fmt.Errorf("tensor %s: number %d is %v, and weights are finite", name, i, v)
	}
	return nil
}

func shapeString(shape []int) string {
	return strings.ReplaceAll(fmt.Sprint(shape), "-1", "any")
}

// Divisible rounds a width to a multiple of 8 as the original code does:
// to the nearest, but never more than a tenth down.
func Divisible(v float64) int {
	n := max(8, int(v+4)/8*8)
	if float64(n) < 0.9*v {
		n += 8
	}
	return n
}

// Expanded is the width of a block's middle for an expand ratio.
func Expanded(in int, ratio float64) int {
	return Divisible(math.RoundToEven(float64(in) * ratio))
}

// Revision changes whenever the same weights would be cut into another model,
// so that models kept from before are built again.
const Revision = "2"

// Load reads the checkpoint at path and the description beside it: X.json for
// X.pth. Without one it is taken for a published ImageNet supernet.
func Load(path string) (*Supernet, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("supernet: %w", err)
	}
	c, err := ReadCheckpoint(b)
	if err != nil {
		return nil, fmt.Errorf("supernet %s: %w", path, err)
	}
	desc, err := descriptionBeside(path, c)
	if err != nil {
		return nil, err
	}
	net, err := New(c, desc)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return net, nil
}

// descriptionBeside reads the description; where there is none, the tensors tell
// which of the published structures it is.
func descriptionBeside(checkpoint string, c *Checkpoint) (Description, error) {
	path := strings.TrimSuffix(checkpoint, ".pth") + ".json"
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return recognised(c), nil
	}
	if err != nil {
		return Description{}, fmt.Errorf("supernet description: %w", err)
	}
	d, err := ParseDescription(b)
	if err != nil {
		return Description{}, fmt.Errorf("%s: %w", path, err)
	}
	return d, nil
}

// recognised is the published description that fits the names of the tensors.
func recognised(c *Checkpoint) Description {
	for _, name := range c.Names() {
		switch {
		case strings.HasPrefix(name, "input_stem."):
			return PublishedResNet50()
		case strings.HasPrefix(name, "feature_mix_layer.bn."):
			return PublishedProxylessNAS()
		}
	}
	return Published()
}

// Parse reads a checkpoint that is in memory.
func Parse(checkpoint []byte, desc Description) (*Supernet, error) {
	c, err := ReadCheckpoint(checkpoint)
	if err != nil {
		return nil, fmt.Errorf("supernet: %w", err)
	}
	return New(c, desc)
}

// Member cuts a family's member and puts its own BN statistics in.
func (s *Supernet) Member(m family.Member, blobs family.Blobs) (*Subnet, error) {
	sub, err := s.Cut(m.Arch)
	if err != nil {
		return nil, fmt.Errorf("member %s: %w", m.Name, err)
	}
	b, err := blobs.Blob(m.Stats)
	if err != nil {
		return nil, fmt.Errorf("member %s: %w", m.Name, err)
	}
	stats, err := family.Floats(b)
	if err != nil {
		return nil, fmt.Errorf("member %s: BN statistics: %w", m.Name, err)
	}
	if err := sub.SetStats(stats); err != nil {
		return nil, fmt.Errorf("member %s: %w", m.Name, err)
	}
	return sub, nil
}
