package ofa

import (
	"slices"
	"strings"
	"testing"
)

// reshaped is a checkpoint in which some tensors, by their names in the current
// code, are zeros of other shapes.
func reshaped(c *Checkpoint, shapes map[string][]int) *Checkpoint {
	changed := &Checkpoint{names: c.names, tensors: map[string]Tensor{}}
	for _, name := range c.names {
		changed.tensors[name] = c.tensors[name]
		if shape, ok := shapes[normalize(name)]; ok {
			n := 1
			for _, side := range shape {
				n *= side
			}
			changed.tensors[name] = Tensor{Shape: shape, Data: make([]float32, n)}
		}
	}
	return changed
}

// batchNorms adds shapes for BNs of so many channels.
func batchNorms(shapes map[string][]int, channels int, names ...string) map[string][]int {
	for _, name := range names {
		for _, part := range []string{"weight", "bias", "running_mean", "running_var"} {
			shapes[name+".bn."+part] = []int{channels}
		}
	}
	return shapes
}

// Each checkpoint is consistent in itself: only the widths that are cut out of it
// do not fit.
func TestShapesThatDoNotFitAreNamedAtLoad(t *testing.T) {
	for _, tt := range []struct {
		name, fixture string
		shapes        map[string][]int
		says          string
	}{
		{"stem that rounds up to more than it has", "resnet", batchNorms(map[string][]int{
			"input_stem.2.conv.weight":        {60, 32, 3, 3},
			"blocks.0.conv1.conv.weight":      {16, 60, 1, 1},
			"blocks.0.downsample.conv.weight": {32, 60, 1, 1},
		}, 60, "input_stem.2"),
			"tensor input_stem.2.conv.weight has shape [60 32 3 3], too small for a sub-network of 64×32"},
		{"stem whose middle is narrower than half", "resnet", batchNorms(map[string][]int{
			"input_stem.0.conv.weight":      {24, 3, 3, 3},
			"input_stem.1.conv.conv.weight": {24, 24, 3, 3},
			"input_stem.2.conv.weight":      {64, 24, 3, 3},
		}, 24, "input_stem.0", "input_stem.1.conv"), "tensor input_stem.0.conv.weight has shape [24 3 3 3], too small for " +
			"a sub-network of 32×3"},
		{"stage that rounds up to more than it has", "resnet", batchNorms(map[string][]int{
			"blocks.0.conv3.conv.weight":      {30, 16, 1, 1},
			"blocks.0.downsample.conv.weight": {30, 64, 1, 1},
			"blocks.1.conv1.conv.weight":      {16, 30, 1, 1},
		}, 30, "blocks.0.conv3", "blocks.0.downsample"), "tensor blocks.0.conv3.conv.weight has shape [30 16 1 1], too " +
			"small for a sub-network of 32×16"},
		{"block that gives other channels than its shortcut", "resnet", batchNorms(map[string][]int{
			"blocks.1.conv3.conv.weight": {40, 16, 1, 1},
			"blocks.2.conv1.conv.weight": {16, 40, 1, 1},
		}, 40, "blocks.1.conv3"), "tensor blocks.1.conv3.conv.weight has shape [40 16 1 1], want [32 any 1 1]"},
		{"oblong kernel", "imagenet", map[string][]int{"blocks.0.conv.depth_conv.conv.weight": {8, 1, 3, 5}},
			"tensor blocks.0.conv.depth_conv.conv.weight has shape [8 1 3 5], want a square kernel of odd size"},
		{"even kernel", "proxyless", map[string][]int{"blocks.0.conv.depth_conv.conv.weight": {8, 1, 4, 4}},
			"tensor blocks.0.conv.depth_conv.conv.weight has shape [8 1 4 4], want a square kernel of odd size"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			net, c := mustLoad(t, fixture(tt.fixture)), mustReadCheckpoint(t, fixture(tt.fixture))
			for name := range tt.shapes {
				if !net.has(name) {
					t.Fatalf("the fixture has no tensor %s", name)
				}
			}
			if _, err := New(reshaped(c, tt.shapes), net.desc); err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, want %q", err, tt.says)
			}
		})
	}
}

// What New has let in can be cut, so it must have looked at the widest there is.
func TestLargestIsTheWidestInWhateverOrderWidthsAreListed(t *testing.T) {
	d := PublishedResNet50()
	slices.Reverse(d.W)
	if a := d.Uniform(3, 0.35, 2, 224); slices.ContainsFunc(a.W, func(w int) bool { return d.W[w] != 1 }) {
		t.Errorf("got numbers %v of %v, want those of 1", a.W, d.W)
	}
}
