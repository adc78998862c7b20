package ofa

import (
	"fmt"
	"slices"
)

// mobileNetV3 walks OFA-MobileNetV3: stem, block 0, stages of elastic blocks, a
// final expansion, and after the pooling a feature mix without BN.
func (c *cutter) mobileNetV3() {
	c.begin()
	c.plain("first_conv", 3, c.desc.StemStride, hSwish)
	c.firstBlock(true)
	c.stages()
	c.begin()
	c.plain("final_expand_layer", 1, 1, hSwish)
	c.begin()
	c.add(layer{kind: globalPool})
	c.begin()
	c.featureMix()
	c.classifier(c.width)
}

// proxylessNAS walks OFA-ProxylessNASNets: everything with ReLU6, block 0 without
// a shortcut, and the feature mix, with BN, before the pooling.
func (c *cutter) proxylessNAS() {
	c.begin()
	c.plain("first_conv", 3, c.desc.StemStride, relu6)
	c.firstBlock(false)
	c.stages()
	c.begin()
	c.plain("feature_mix_layer", 1, 1, relu6)
	c.begin()
	c.add(layer{kind: globalPool})
	c.classifier(c.width)
}

// stages adds the elastic blocks that the depths leave.
func (c *cutter) stages() {
	slot := 0
	for stage, length := range c.desc.lengths() {
		for i := range c.desc.active(c.net.arch, stage, length) {
			c.block(stage, slot+i, i == 0)
		}
		slot += length
	}
}

// firstBlock adds block 0: depthwise and pointwise, no expansion.
func (c *cutter) firstBlock(mayShortcut bool) {
	const name = "blocks.0.conv."
	in, d := c.width, c.desc
	w, ok := c.load(name+"depth_conv.conv.weight", in, 1, anySize, anySize)
	if !ok {
		return
	}
	k := w.Shape[2]
	if k != w.Shape[3] || k%2 == 0 { // padding could not keep the size
		c.err = fmt.Errorf("tensor %sdepth_conv.conv.weight has shape %v, want a square kernel of odd size", name, w.Shape)
		return
	}
	c.begin()
	entry := c.last
	c.convolve(convolution{weight: w.Data, in: in, out: in, k: k, stride: d.Strides[0], group: in,
		bn: c.norm(name+"depth_conv.bn", in, in), act: activation(d.Acts[0])})
	if d.SE[0] {
		c.squeezeExcite(name+"depth_conv.se.fc.", in, in)
	}
	c.plain(name+"point_linear", 1, 1, linear)
	if mayShortcut {
		c.shortcut(entry, in, d.Strides[0])
	}
}

// block adds the elastic block of a slot: expand, depthwise, squeeze-and-excite,
// project, shortcut.
func (c *cutter) block(stage, slot int, first bool) {
	name, in, d := fmt.Sprintf("blocks.%d.conv.", slot+1), c.width, c.desc
	stride, act := 1, activation(d.Acts[stage+1])
	if first {
		stride = d.Strides[stage+1]
	}
	widest, mid := Expanded(in, slices.Max(d.E)), Expanded(in, c.net.arch.E[slot])
	up, ok := c.load(name+"inverted_bottleneck.conv.weight", widest, in, 1, 1)
	down, ok2 := c.load(name+"point_linear.conv.weight", anySize, widest, 1, 1)
	if !ok || !ok2 {
		return
	}
	c.begin()
	entry, out := c.last, down.Shape[0]
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
	most, m := Divisible(float64(widest/4)), Divisible(float64(mid/4))
	rw, ok := c.load(name+"reduce.weight", most, widest, 1, 1)
	rb, ok2 := c.load(name+"reduce.bias", most)
	ew, ok3 := c.load(name+"expand.weight", widest, most, 1, 1)
	eb, ok4 := c.load(name+"expand.bias", widest)
	if ok && ok2 && ok3 && ok4 {
		c.add(layer{kind: squeezeExcite,
			reduce: convolution{weight: slice(rw, m, mid), bias: rb.Data[:m], in: mid, out: m, k: 1, stride: 1, group: 1,
				act: relu},
			expand: convolution{weight: slice(ew, mid, m), bias: eb.Data[:mid], in: m, out: mid, k: 1, stride: 1, group: 1}})
	}
}

// featureMix adds the 1×1 convolution behind the pooling, which has no BN.
func (c *cutter) featureMix() {
	if w, ok := c.load("feature_mix_layer.conv.weight", anySize, c.width, 1, 1); ok {
		c.convolve(convolution{weight: w.Data, in: c.width, out: w.Shape[0], k: 1, stride: 1, group: 1, act: hSwish})
	}
}

// kernel returns the depthwise weights of the first mid channels for kernel
// size k: from the largest size down, each smaller kernel is the centre of the
// one before, flattened row by row and multiplied by a learned matrix that all
// channels share (OFA's elastic kernel; 3×3 always goes through 5×5). The
// matrices of all sizes must be there, whichever is asked for.
func (c *cutter) kernel(name string, channels, mid, k int) []float32 {
	sizes := slices.Clone(c.desc.KS)
	slices.Sort(sizes)
	size := sizes[len(sizes)-1]
	t, ok := c.load(name+"weight", channels, 1, size, size)
	if !ok {
		return nil
	}
	w := t.Data[:mid*size*size]
	for i := len(sizes) - 2; i >= 0; i-- {
		small := sizes[i]
		m, ok := c.load(fmt.Sprintf("%s%dto%d_matrix", name, size, small), small*small, small*small)
		if !ok {
			return nil
		}
		if size > k {
			w = shrink(w, mid, size, small, m.Data)
		}
		size = small
	}
	return w
}

// shrink takes the small×small centre of each channel's size×size kernel and
// multiplies it by matrix (small²×small²).
func shrink(w []float32, channels, size, small int, matrix []float32) []float32 {
	out := make([]float32, channels*small*small)
	centre := make([]float32, small*small)
	margin := (size - small) / 2
	for c := range channels {
		kernel := w[c*size*size:][:size*size]
		for y := range small {
			copy(centre[y*small:][:small], kernel[(y+margin)*size+margin:])
		}
		for i := range small * small {
			var sum float32
			for j, m := range matrix[i*small*small:][:small*small] {
				sum += m * centre[j]
			}
			out[c*small*small+i] = sum
		}
	}
	return out
}
