package ofa

import (
	"fmt"
	"math"

	"github.com/limber-edge/limber/family/onnx"
)

// Names of the tensors that enter and leave every model written here.
const (
	InputName  = "image"  // float32 N×3×R×R, preprocessed as the description says
	OutputName = "logits" // float32 N×classes
)

// Model writes the sub-network as an ONNX model with BN folded into the
// convolutions. It takes batch images at once; onnx.Dynamic takes any number.
func (n *Subnet) Model(batch int) ([]byte, error) {
	w := n.writer("subnet", batch)
	w.norm = w.fold
	w.network()
	w.graph.Output(onnx.Value{Name: OutputName, Dims: []int{batch, n.classes}})
	return w.graph.Marshal()
}

// calibrationModel writes the sub-network with every BN normalising by its own
// batch's statistics, which leave the graph under the names of statNames.
func (n *Subnet) calibrationModel() ([]byte, error) {
	w := n.writer("calibration", onnx.Dynamic)
	w.norm = w.measure
	w.network()
	for _, name := range n.statNames() {
		w.graph.Output(onnx.Value{Name: name, Dims: []int{1, onnx.Dynamic, 1, 1}})
	}
	return w.graph.Marshal()
}

// writer walks a sub-network and names what each layer writes.
type writer struct {
	net   *Subnet
	graph *onnx.Graph
	norm  func(name, x string, c convolution) string // convolution and BN
	outs  []string                                   // what each layer wrote
}

func (n *Subnet) writer(name string, batch int) *writer {
	return &writer{net: n, graph: onnx.New(name, onnx.Value{Name: InputName, Dims: []int{batch, 3, n.arch.R, n.arch.R}})}
}

func (w *writer) network() {
	for i, l := range w.net.layers {
		w.outs = append(w.outs, w.layer(fmt.Sprintf("l%d", i), l))
	}
	w.classifier(w.outs[len(w.outs)-1])
}

// layer writes one layer and returns the name of its output.
func (w *writer) layer(name string, l layer) string {
	x, g := w.out(l.in), w.graph
	switch l.kind {
	case conv:
		return w.activate(name, w.norm(name, x, l.conv), l.conv.act)
	case squeezeExcite:
		return w.squeezeExcite(name, x, l)
	case shortcut:
		if !l.rectified {
			return g.Node("Add", name, []string{x, w.out(l.from)})
		}
		return w.activate(name, g.Node("Add", name+".sum", []string{x, w.out(l.from)}), relu)
	case maxPool:
		return g.Node("MaxPool", name, []string{x}, onnx.Ints("kernel_shape", 3, 3), onnx.Ints("strides", 2, 2),
			onnx.Ints("pads", 1, 1, 1, 1))
	case meanPool:
		return g.Node("AveragePool", name, []string{x}, onnx.Ints("kernel_shape", 2, 2), onnx.Ints("strides", 2, 2),
			onnx.Int("ceil_mode", 1))
	default:
		return g.Node("GlobalAveragePool", name, []string{x})
	}
}

func (w *writer) out(layer int) string {
	if layer == image {
		return InputName
	}
	return w.outs[layer]
}

// convolve writes a convolution; b is nil for none.
func (w *writer) convolve(out, x string, c convolution, weight, b []float32) string {
	in := []string{x, w.graph.Weight(out+".w", []int{c.out, c.in / c.group, c.k, c.k}, weight)}
	if b != nil {
		in = append(in, w.graph.Weight(out+".b", []int{c.out}, b))
	}
	p := c.k / 2
	return w.graph.Node("Conv", out, in, onnx.Ints("kernel_shape", c.k, c.k), onnx.Ints("strides", c.stride, c.stride),
		onnx.Ints("pads", p, p, p, p), onnx.Int("group", c.group))
}

// fold writes a convolution with its BN inside: w·γ/√(v+ε) and β − mean·γ/√(v+ε).
func (w *writer) fold(name, x string, c convolution) string {
	if c.bn == nil {
		return w.convolve(name+".conv", x, c, c.weight, c.bias)
	}
	weight, bias := make([]float32, len(c.weight)), make([]float32, c.out)
	per := len(c.weight) / c.out
	for o := range c.out {
		scale := float64(c.bn.gamma[o]) / math.Sqrt(float64(c.bn.variance[o])+w.net.eps)
		for i := o * per; i < (o+1)*per; i++ {
			weight[i] = float32(float64(c.weight[i]) * scale)
		}
		bias[o] = float32(float64(c.bn.beta[o]) - float64(c.bn.mean[o])*scale)
	}
	return w.convolve(name+".conv", x, c, weight, bias)
}

// measure writes a convolution and a BN that uses the batch's own mean and
// biased variance.
func (w *writer) measure(name, x string, c convolution) string {
	y := w.convolve(name+".conv", x, c, c.weight, c.bias)
	if c.bn == nil {
		return y
	}
	g, axes := w.graph, onnx.Ints("axes", 0, 2, 3)
	channels := []int{1, c.out, 1, 1}
	mean := g.Node("ReduceMean", name+".mean", []string{y}, axes)
	centred := g.Node("Sub", name+".centred", []string{y, mean})
	square := g.Node("Mul", name+".square", []string{centred, centred})
	variance := g.Node("ReduceMean", name+".var", []string{square}, axes)
	eps := g.Weight(name+".eps", []int{1, 1, 1, 1}, []float32{float32(w.net.eps)})
	spread := g.Node("Sqrt", name+".std", []string{g.Node("Add", name+".var_eps", []string{variance, eps})})
	// One number per channel first: a tensor of the size of y is passed over
	// once less.
	scale := g.Node("Div", name+".scale", []string{g.Weight(name+".gamma", channels, c.bn.gamma), spread})
	scaled := g.Node("Mul", name+".scaled", []string{centred, scale})
	return g.Node("Add", name+".bn", []string{scaled, g.Weight(name+".beta", channels, c.bn.beta)})
}

func (w *writer) activate(name, x string, act activation) string {
	switch act {
	case relu:
		return w.graph.Node("Relu", name, []string{x})
	case relu6:
		zero, six := w.graph.Weight(name+".zero", nil, []float32{0}), w.graph.Weight(name+".six", nil, []float32{6})
		return w.graph.Node("Clip", name, []string{x, zero, six})
	case hSwish: // x·relu6(x+3)/6
		return w.graph.Node("HardSwish", name, []string{x})
	}
	return x
}

// squeezeExcite writes mean → 1×1 → ReLU → 1×1 → h_sigmoid, and scales x by it.
func (w *writer) squeezeExcite(name, x string, l layer) string {
	g := w.graph
	y := g.Node("GlobalAveragePool", name+".mean", []string{x})
	y = w.activate(name+".relu", w.convolve(name+".reduce", y, l.reduce, l.reduce.weight, l.reduce.bias), l.reduce.act)
	y = w.convolve(name+".expand", y, l.expand, l.expand.weight, l.expand.bias)
	y = g.Node("HardSigmoid", name+".gate", []string{y}, onnx.Float("alpha", 1.0/6), onnx.Float("beta", 0.5))
	return g.Node("Mul", name, []string{x, y})
}

func (w *writer) classifier(x string) {
	n, g := w.net, w.graph
	flat := g.Node("Flatten", "flat", []string{x}, onnx.Int("axis", 1))
	weight := g.Weight("classifier.w", []int{n.classes, n.width}, n.weight)
	bias := g.Weight("classifier.b", []int{n.classes}, n.bias)
	g.Node("Gemm", OutputName, []string{flat, weight, bias}, onnx.Int("transB", 1))
}
