package ofa

import (
	"math"
	"slices"
	"strings"
	"testing"
)

// with is a checkpoint with one number of a tensor replaced.
func with(c *Checkpoint, name string, at int, v float32) *Checkpoint {
	changed := &Checkpoint{names: c.names, tensors: map[string]Tensor{}}
	for _, n := range c.names {
		changed.tensors[n] = c.tensors[n]
	}
	t := c.tensors[name]
	t.Data = slices.Clone(t.Data)
	t.Data[at] = v
	changed.tensors[name] = t
	return changed
}

func TestNumbersThatNoNetworkCanHaveAreRefusedAtLoad(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, tt := range []struct {
		fixture, tensor string
		v               float32
		says            string // "" is let in
	}{
		{"imagenet", "classifier.linear.weight", nan, "number 1 is NaN"},
		{"imagenet", "classifier.linear.bias", -inf, "number 1 is -Inf"},
		{"imagenet", "first_conv.bn.running_var", -1, "number 1 is -1, and a variance is at least 0"},
		{"imagenet", "first_conv.bn.running_var", nan, "number 1 is NaN"},
		{"imagenet", "first_conv.bn.running_var", 0, ""},
		{"imagenet", "first_conv.bn.running_mean", -1, ""},
		{"imagenet", "first_conv.bn.weight", inf, "number 1 is +Inf"},
		{"imagenet", "blocks.3.conv.depth_conv.conv.5to3_matrix", nan, "number 1 is NaN"}, // of the smaller kernels only
		{"proxyless", "feature_mix_layer.bn.running_var", -1e-9, "a variance is at least 0"},
		{"resnet", "input_stem.1.conv.conv.weight", nan, "number 1 is NaN"}, // of the deepest stem only
	} {
		t.Run(tt.fixture+" "+tt.tensor, func(t *testing.T) {
			net, c := mustLoad(t, fixture(tt.fixture)), mustReadCheckpoint(t, fixture(tt.fixture))
			name := ""
			for _, n := range c.names {
				if normalize(n) == tt.tensor {
					name = n
				}
			}
			if name == "" {
				t.Fatalf("no tensor %s among %v", tt.tensor, c.names)
			}
			_, err := New(with(c, name, 1, tt.v), net.desc)
			if tt.says == "" {
				if err != nil {
					t.Errorf("got %v, want it let in", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), "tensor "+tt.tensor+": ") || !strings.Contains(err.Error(),
				tt.says) {
				t.Errorf("got %v, want tensor %s: %s", err, tt.tensor, tt.says)
			}
		})
	}
}

// What no sub-network reads may be what it likes.
func TestNumbersOfOtherTensorsDoNotMatter(t *testing.T) {
	net, c := mustLoad(t, fixture("imagenet")), mustReadCheckpoint(t, fixture("imagenet"))
	c.names = append(c.names, "teacher.weight")
	c.tensors["teacher.weight"] = Tensor{Shape: []int{1}, Data: []float32{float32(math.NaN())}}
	if _, err := New(c, net.desc); err != nil {
		t.Error(err)
	}
}
