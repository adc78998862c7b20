package ofa

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
