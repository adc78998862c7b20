package ofa

import (
	"fmt"
	"slices"
)

// resNetBlocks is how many bottlenecks each stage has beside those that depth
// adds.
var resNetBlocks = [...]int{2, 2, 4, 2}

// resNet50 walks OFA-ResNet50, a ResNet-D (He et al., "Bag of Tricks", 2019)
// that is elastic in width: three convolutions as a stem, of which the second
// may be skipped, max pooling, and four stages of bottlenecks.
func (c *cutter) resNet50() {
	a, d := c.net.arch, c.desc
	out, ok := c.load("input_stem.2.conv.weight", anySize, anySize, 3, 3)
	if !ok {
		return
	}
	widest := out.Shape[1]
	mid := Divisible(float64(d.narrowed(out.Shape[0], a.W[0]) / 2))
	c.elastic("input_stem.0", elastic{widestIn: 3, widestOut: widest, out: mid, k: 3, stride: d.StemStride, act: relu})
	if a.D[0] == slices.Max(d.D) {
		entry := c.last
		c.elastic("input_stem.1.conv", elastic{widestIn: widest, widestOut: widest, out: mid, k: 3, stride: 1, act: relu})
		c.add(layer{kind: shortcut, from: entry})
	}
	c.elastic("input_stem.2", elastic{widestIn: widest, widestOut: out.Shape[0], out: d.narrowed(out.Shape[0], a.W[1]),
		k: 3, stride: 1, act: relu})
	c.add(layer{kind: maxPool})
	slot, widestIn := 0, out.Shape[0]
	for stage, length := range d.lengths() {
		for i := range d.active(a, stage, length) {
			widestIn = c.bottleneck(stage, slot+i, widestIn, i == 0)
		}
		slot += length
	}
	c.add(layer{kind: globalPool})
	c.classifier(widestIn)
}

// elastic is a convolution with BN of which the first channels are used.
type elastic struct {
	widestIn, widestOut int // of the checkpoint's weight
	out                 int // channels to give; those read are the last layer's
	k, stride           int
	act                 activation
}

// elastic adds one that reads the last layer. Widths are rounded to multiples of
// 8, up as well, so those of an odd checkpoint may ask for more than it has.
func (c *cutter) elastic(name string, e elastic) {
	w, ok := c.load(name+".conv.weight", e.widestOut, e.widestIn, e.k, e.k)
	if !ok {
		return
	}
	if e.out > e.widestOut || c.width > e.widestIn {
		c.err = fmt.Errorf("tensor %s.conv.weight has shape %v, too small for a sub-network of %d×%d channels there: "+
			"widths are multiples of 8",
			name, w.Shape, e.out, c.width)
		return
	}
	c.convolve(convolution{weight: slice(w, e.out, c.width), in: c.width, out: e.out, k: e.k, stride: e.stride, group: 1,
		bn: c.norm(name+".bn", e.widestOut, e.out), act: e.act})
}

// bottleneck adds a block and returns how wide its output is in the checkpoint.
// Its middle is a share of its output, not of its input.
func (c *cutter) bottleneck(stage, slot, widestIn int, first bool) (widestOut int) {
	name, d := fmt.Sprintf("blocks.%d.", slot), c.desc
	widestOut = widestIn // which the shortcut adds
	if first {
		widestOut = anySize
	}
	w, ok := c.load(name+"conv3.conv.weight", widestOut, anySize, 1, 1)
	if !ok {
		return widestIn
	}
	widestOut = w.Shape[0]
	out := d.narrowed(widestOut, c.net.arch.W[stage+2])
	widest, mid := Expanded(widestOut, slices.Max(d.E)), Expanded(out, c.net.arch.E[slot])
	entry, in, stride := c.last, c.width, 1
	if first {
		stride = d.Strides[stage]
	}
	c.elastic(name+"conv1", elastic{widestIn: widestIn, widestOut: widest, out: mid, k: 1, stride: 1, act: relu})
	c.elastic(name+"conv2", elastic{widestIn: widest, widestOut: widest, out: mid, k: 3, stride: stride, act: relu})
	c.elastic(name+"conv3", elastic{widestIn: widest, widestOut: widestOut, out: out, k: 1, stride: 1, act: linear})
	if first {
		main := c.last
		c.last, c.width = entry, in
		if stride > 1 {
			c.add(layer{kind: meanPool})
		}
		c.elastic(name+"downsample", elastic{widestIn: widestIn, widestOut: widestOut, out: out, k: 1, stride: 1,
			act: linear})
		entry, c.last = c.last, main
	}
	c.add(layer{kind: shortcut, from: entry, rectified: true})
	return widestOut
}

// narrowed is a width for one of the width multipliers, of which the checkpoint
// has the greatest.
func (d *Description) narrowed(widest, index int) int {
	return Divisible(float64(widest) / slices.Max(d.W) * d.W[index])
}
