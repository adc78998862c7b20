package ofa

import (
	"fmt"

	"github.com/limber-edge/limber/family/onnx"
)

// Section is a stretch of a sub-network that is measured as one: the stem, a
// block, one of the layers behind the blocks, or the classifier.
type Section struct {
	In, Out Map
	// Of a block, the static first one or an elastic one; Kernel is 0 for
	// everything else.
	Middle   int // channels between expansion and projection
	Kernel   int // of the depthwise convolution
	Stride   int
	Shortcut bool // adds its input
	SE       bool // has squeeze-and-excite
	HSwish   bool // activates with h_swish

	Pool       bool // is the mean over all pixels
	Classifier bool // gives logits, of 1×Out.Channels

	net      *Subnet
	from, to int // layers
}

// Map is the shape of a feature map, of one image: Channels×Side×Side.
type Map struct{ Side, Channels int }

// String is the shape as latency tables name it, such as 80x80x24.
func (m Map) String() string { return fmt.Sprintf("%dx%dx%d", m.Side, m.Side, m.Channels) }

// Sections lists what a sub-network consists of, front to back. That of an
// OFA-ResNet50 is not divided.
func (n *Subnet) Sections() []Section {
	if len(n.begins) == 0 {
		return nil
	}
	var all []Section
	in := Map{n.arch.R, 3}
	sides, channels := n.sides(), n.channels()
	for i, from := range n.begins {
		to := len(n.layers)
		if i+1 < len(n.begins) {
			to = n.begins[i+1]
		}
		s := Section{In: in, Out: Map{sides[to-1], channels[to-1]}, net: n, from: from, to: to}
		s.describe()
		all, in = append(all, s), s.Out
	}
	return append(all, Section{In: in, Out: Map{1, n.classes}, Classifier: true, net: n, from: len(n.layers),
		to: len(n.layers)})
}

func (n *Subnet) channels() []int {
	all := make([]int, len(n.layers))
	for i, l := range n.layers {
		switch {
		case l.kind == conv:
			all[i] = l.conv.out
		case l.in == image:
			all[i] = 3
		default:
			all[i] = all[l.in]
		}
	}
	return all
}

// describe reads off the layers what kind of section it is.
func (s *Section) describe() {
	for _, l := range s.net.layers[s.from:s.to] {
		switch {
		case l.kind == conv && l.conv.group > 1: // depthwise
			s.Middle, s.Kernel, s.Stride, s.HSwish = l.conv.out, l.conv.k, l.conv.stride, l.conv.act == hSwish
		case l.kind == squeezeExcite:
			s.SE = true
		case l.kind == shortcut:
			s.Shortcut = true
		case l.kind == globalPool:
			s.Pool = true
		}
	}
}

// MMACs counts the section's share of its sub-network's.
func (s Section) MMACs() float64 {
	if s.Classifier {
		return float64(s.net.classes*s.net.width) / 1e6
	}
	return float64(s.net.macs(s.from, s.to)) / 1e6
}

// Model writes the section alone as an ONNX model of one image: InputName, of
// 1×In.Channels×In.Side×In.Side, to the output named. BN is folded in.
func (s Section) Model() (model []byte, output string, err error) {
	in := onnx.Value{Name: InputName, Dims: []int{1, s.In.Channels, s.In.Side, s.In.Side}}
	w := &writer{net: s.net, graph: onnx.New("section", in)}
	w.norm = w.fold
	for range s.from {
		w.outs = append(w.outs, InputName) // whatever came before is what enters
	}
	for i := s.from; i < s.to; i++ {
		w.outs = append(w.outs, w.layer(fmt.Sprintf("l%d", i), s.net.layers[i]))
	}
	out := onnx.Value{Name: OutputName, Dims: []int{1, s.Out.Channels}}
	if s.Classifier {
		w.classifier(InputName)
	} else {
		out = onnx.Value{Name: w.outs[s.to-1], Dims: []int{1, s.Out.Channels, s.Out.Side, s.Out.Side}}
	}
	w.graph.Output(out)
	model, err = w.graph.Marshal()
	return model, out.Name, err
}

// MMACs counts the multiply-accumulates of one inference, in millions: the
// convolutions and the classifier, as OFA's own exact counter does (BN,
// activations and pooling are left out).
func (n *Subnet) MMACs() float64 {
	return float64(n.macs(0, len(n.layers))+n.classes*n.width) / 1e6
}

// macs counts those of layers from one up to another.
func (n *Subnet) macs(from, to int) int {
	macs := 0
	sides := n.sides()
	for i := from; i < to; i++ {
		switch l := n.layers[i]; l.kind {
		case conv:
			macs += len(l.conv.weight) * sides[i] * sides[i]
		case squeezeExcite:
			macs += len(l.reduce.weight) + len(l.expand.weight)
		}
	}
	return macs
}

// sides is how many pixels a side each layer gives.
func (n *Subnet) sides() []int {
	sides := make([]int, len(n.layers))
	for i, l := range n.layers {
		side := n.arch.R
		if l.in != image {
			side = sides[l.in]
		}
		switch l.kind {
		case conv:
			side = (side-1)/l.conv.stride + 1
		case maxPool, meanPool:
			side = (side-1)/2 + 1
		case globalPool:
			side = 1
		}
		sides[i] = side
	}
	return sides
}

// Params counts the weights that inference reads once BN is folded: weights
// and biases of the convolutions and the classifier.
func (n *Subnet) Params() int {
	params := len(n.weight) + len(n.bias)
	for _, l := range n.layers {
		for _, c := range []convolution{l.conv, l.reduce, l.expand} {
			params += len(c.weight) + len(c.bias)
			if c.bn != nil {
				params += c.out
			}
		}
	}
	return params
}
