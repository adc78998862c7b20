package ofa

import (
	"github.com/limber-edge/limber/family"
)

// activation names the function behind a convolution.
type activation string

const (
	linear activation = ""
	relu   activation = "relu"
	relu6  activation = "relu6"
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
	shortcut                  // adds the output of another layer, then maybe ReLU
	globalPool                // mean over height and width, which become 1×1
	maxPool                   // 3×3, stride 2, padding 1
	meanPool                  // 2×2, stride 2; at an odd side the last window is what is left
)

// image stands for the input as what a layer reads.
const image = -1

// layer is one step.
type layer struct {
	kind           kind
	in             int         // index of the layer it reads, or image
	conv           convolution // conv
	reduce, expand convolution // squeezeExcite
	from           int         // shortcut: index of the other layer
	rectified      bool        // shortcut: ReLU behind the sum
}

// Subnet is one static sub-network: its own copy of the sliced and transformed
// weights, with the statistics the supernet had for them.
type Subnet struct {
	arch    family.Arch
	eps     float64
	layers  []layer
	begins  []int     // first layer of each section but the classifier, see Sections
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
	return s.cutter(a).cut()
}

func (s *Supernet) cutter(a family.Arch) *cutter {
	return &cutter{Supernet: s, net: &Subnet{arch: a, eps: s.desc.BNEps}, last: image, width: 3}
}

// cut walks the network that the supernet's kind has.
func (c *cutter) cut() (*Subnet, error) {
	switch c.desc.Kind {
	case MobileNetV3:
		c.mobileNetV3()
	case ProxylessNAS:
		c.proxylessNAS()
	case ResNet50:
		c.resNet50()
	}
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
	last  int // layer that the next one reads
	width int // channels that it gives
	err   error

	judging bool // looks at every number that it loads, which a supernet needs once
}

// add adds a layer that reads the last one, and becomes the last.
func (c *cutter) add(l layer) {
	l.in = c.last
	c.last = len(c.net.layers)
	c.net.layers = append(c.net.layers, l)
}

// begin starts a section with the next layer.
func (c *cutter) begin() { c.net.begins = append(c.net.begins, len(c.net.layers)) }

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
	if t, c.err = c.tensor(name, shape...); c.judging && c.err == nil {
		c.err = checkNumbers(name, t.Data)
	}
	return t, c.err == nil
}

// plain adds a static convolution with BN whose width the tensor decides.
func (c *cutter) plain(name string, k, stride int, act activation) {
	if w, ok := c.load(name+".conv.weight", anySize, c.width, k, k); ok {
		c.convolve(convolution{weight: w.Data, in: c.width, out: w.Shape[0], k: k, stride: stride, group: 1,
			bn: c.norm(name+".bn", w.Shape[0], w.Shape[0]), act: act})
	}
}

// classifier adds the linear layer at the end, of which the first inputs are
// used.
func (c *cutter) classifier(widest int) {
	w, ok := c.load("classifier.linear.weight", anySize, widest)
	if !ok {
		return
	}
	if b, ok := c.load("classifier.linear.bias", w.Shape[0]); ok {
		c.net.weight, c.net.bias = slice(w, w.Shape[0], c.width), b.Data
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

// slice copies the first out×in channels of a convolution's weight.
func slice(t Tensor, out, in int) []float32 {
	kernel := 1
	for _, side := range t.Shape[2:] {
		kernel *= side
	}
	full := t.Shape[1] * kernel
	w := make([]float32, 0, out*in*kernel)
	for o := range out {
		w = append(w, t.Data[o*full:o*full+in*kernel]...)
	}
	return w
}
