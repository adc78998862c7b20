package ofa

import (
	"fmt"

	"github.com/limber-edge/limber/family"
)

// activation names the function behind a convolution.
type activation string

const (
	linear activation = ""
	relu   activation = "relu"
	hSwish activation = "h_swish"
)

// convolution with its BN, or with a bias where the network has no BN.
type convolution struct {
	weight           []float32 // out × in/groups × k × k
	in, out          int       // channels
	k, stride, group int
	bias             []float32  // out numbers, or none
	bn               *batchNorm // or nil
	act              activation
}

// batchNorm holds one number per channel in each slice.
type batchNorm struct {
	gamma, beta, mean, variance []float32
}

// kind is what a layer does.
type kind int

const (
	conv          kind = iota // convolution, BN, activation
	squeezeExcite             // channel weights from the global mean (Hu et al. 2018)
	shortcut                  // adds the output of an earlier layer
	globalPool                // mean over height and width, which become 1×1
)

// layer is one step; it reads the layer before it.
type layer struct {
	kind           kind
	conv           convolution // conv
	reduce, expand convolution // squeezeExcite
	from           int         // shortcut: index of the other layer
}

// Subnet is one static sub-network: its own copy of the sliced and transformed
// weights, with the statistics the supernet had for them.
type Subnet struct {
	arch    family.Arch
	eps     float64
	layers  []layer
	weight  []float32 // classifier, classes × width
	bias    []float32 // classifier
	classes int
	width   int // channels that the classifier reads
}

// Arch is the architecture the sub-network was cut by.
func (n *Subnet) Arch() family.Arch { return n.arch }

// Classes is the number of logits.
func (n *Subnet) Classes() int { return n.classes }

// Cut copies one sub-network out of the supernet.
func (s *Supernet) Cut(a family.Arch) (*Subnet, error) {
	if err := s.desc.Check(a); err != nil {
		return nil, err
	}
	c := cutter{Supernet: s, net: &Subnet{arch: a, eps: s.desc.BNEps}, width: 3}
	c.plain("first_conv", 3, s.desc.StemStride, hSwish)
	c.firstBlock()
	for stage, depth := range a.D {
		for i := range depth {
			c.block(stage, stage*s.desc.maxDepth()+i, i == 0)
		}
	}
	c.plain("final_expand_layer", 1, 1, hSwish)
	c.add(layer{kind: globalPool})
	c.featureMix()
	c.classifier()
	if c.err != nil {
		return nil, c.err
	}
	return c.net, nil
}

// cutter walks the network front to back. The first error ends it: every step
// after that does nothing.
type cutter struct {
	*Supernet
	net   *Subnet
	width int // channels that the last layer gives
	err   error
}

func (c *cutter) add(l layer) { c.net.layers = append(c.net.layers, l) }

// convolve adds a convolution of the first out×in channels of a weight.
func (c *cutter) convolve(v convolution) {
	c.add(layer{kind: conv, conv: v})
	c.width = v.out
}

// load returns the named tensor, or nothing once an error has happened.
func (c *cutter) load(name string, shape ...int) (t Tensor, ok bool) {
	if c.err != nil {
		return Tensor{}, false
	}
	t, c.err = c.tensor(name, shape...)
	return t, c.err == nil
}

// plain adds a static convolution with BN whose width the tensor decides.
func (c *cutter) plain(name string, k, stride int, act activation) {
	if w, ok := c.load(name+".conv.weight", anySize, c.width, k, k); ok {
		c.convolve(convolution{weight: w.Data, in: c.width, out: w.Shape[0], k: k, stride: stride, group: 1,
			bn: c.norm(name+".bn", w.Shape[0], w.Shape[0]), act: act})
	}
}

// firstBlock adds block 0: depthwise and pointwise, no expansion.
func (c *cutter) firstBlock() {
	const name = "blocks.0.conv."
	in, d := c.width, c.desc
	w, ok := c.load(name+"depth_conv.conv.weight", in, 1, anySize, anySize)
	if !ok {
		return
	}
	entry := len(c.net.layers) - 1
	c.convolve(convolution{weight: w.Data, in: in, out: in, k: w.Shape[2], stride: d.Strides[0], group: in,
		bn: c.norm(name+"depth_conv.bn", in, in), act: activation(d.Acts[0])})
	if d.SE[0] {
		c.squeezeExcite(name+"depth_conv.se.fc.", in, in)
	}
	c.plain(name+"point_linear", 1, 1, linear)
	c.shortcut(entry, in, d.Strides[0])
}

// block adds the elastic block of a slot: expand, depthwise, squeeze-and-excite,
// project, shortcut.
func (c *cutter) block(stage, slot int, first bool) {
	name, in, d := fmt.Sprintf("blocks.%d.conv.", slot+1), c.width, c.desc
	stride, act := 1, activation(d.Acts[stage+1])
	if first {
		stride = d.Strides[stage+1]
	}
	widest, mid := expanded(in, maxOf(d.E)), expanded(in, c.net.arch.E[slot])
	up, ok := c.load(name+"inverted_bottleneck.conv.weight", widest, in, 1, 1)
	down, ok2 := c.load(name+"point_linear.conv.weight", anySize, widest, 1, 1)
	if !ok || !ok2 {
		return
	}
	entry, out := len(c.net.layers)-1, down.Shape[0]
	c.convolve(convolution{weight: slice(up, mid, in), in: in, out: mid, k: 1, stride: 1, group: 1,
		bn: c.norm(name+"inverted_bottleneck.bn", widest, mid), act: act})
	c.convolve(convolution{weight: c.kernel(name+"depth_conv.conv.", widest, mid, c.net.arch.KS[slot]), in: mid, out: mid,
		k: c.net.arch.KS[slot], stride: stride, group: mid, bn: c.norm(name+"depth_conv.bn", widest, mid), act: act})
	if d.SE[stage+1] {
		c.squeezeExcite(name+"depth_conv.se.fc.", widest, mid)
	}
	c.convolve(convolution{weight: slice(down, out, mid), in: mid, out: out, k: 1, stride: 1, group: 1,
		bn: c.norm(name+"point_linear.bn", out, out)})
	c.shortcut(entry, in, stride)
}

// shortcut adds the block's input to its output if, and only if, they have the
// same shape.
func (c *cutter) shortcut(entry, in, stride int) {
	if stride == 1 && in == c.width {
		c.add(layer{kind: shortcut, from: entry})
	}
}

// squeezeExcite adds the two 1×1 convolutions of a squeeze-and-excite module,
// whose middle is a quarter of the block's.
func (c *cutter) squeezeExcite(name string, widest, mid int) {
	most, m := makeDivisible(float64(widest/4)), makeDivisible(float64(mid/4))
	rw, ok := c.load(name+"reduce.weight", most, widest, 1, 1)
	rb, ok2 := c.load(name+"reduce.bias", most)
	ew, ok3 := c.load(name+"expand.weight", widest, most, 1, 1)
	eb, ok4 := c.load(name+"expand.bias", widest)
	if ok && ok2 && ok3 && ok4 {
		c.add(layer{kind: squeezeExcite,
			reduce: convolution{weight: slice(rw, m, mid), bias: rb.Data[:m], in: mid, out: m, k: 1, stride: 1, group: 1, act: relu},
			expand: convolution{weight: slice(ew, mid, m), bias: eb.Data[:mid], in: m, out: mid, k: 1, stride: 1, group: 1}})
	}
}

// featureMix adds the 1×1 convolution behind the pooling, which has no BN.
func (c *cutter) featureMix() {
	if w, ok := c.load("feature_mix_layer.conv.weight", anySize, c.width, 1, 1); ok {
		c.convolve(convolution{weight: w.Data, in: c.width, out: w.Shape[0], k: 1, stride: 1, group: 1, act: hSwish})
	}
}

func (c *cutter) classifier() {
	w, ok := c.load("classifier.linear.weight", anySize, c.width)
	if !ok {
		return
	}
	if b, ok := c.load("classifier.linear.bias", w.Shape[0]); ok {
		c.net.weight, c.net.bias = w.Data, b.Data
		c.net.classes, c.net.width = w.Shape[0], c.width
	}
}

// norm returns the first n of a BN's channels.
func (c *cutter) norm(name string, channels, n int) *batchNorm {
	gamma, ok := c.load(name+".weight", channels)
	beta, ok2 := c.load(name+".bias", channels)
	mean, ok3 := c.load(name+".running_mean", channels)
	variance, ok4 := c.load(name+".running_var", channels)
	if !ok || !ok2 || !ok3 || !ok4 {
		return nil
	}
	return &batchNorm{gamma.Data[:n], beta.Data[:n], mean.Data[:n], variance.Data[:n]}
}

// slice copies the first out×in channels of a 1×1 convolution's weight.
func slice(t Tensor, out, in int) []float32 {
	full := t.Shape[1]
	w := make([]float32, 0, out*in)
	for o := range out {
		w = append(w, t.Data[o*full:o*full+in]...)
	}
	return w
}

func maxOf(v []float64) float64 {
	m := v[0]
	for _, x := range v {
		m = max(m, x)
	}
	return m
}
