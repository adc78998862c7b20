package ofa

// MMACs counts the multiply-accumulates of one inference, in millions: the
// convolutions and the classifier, as OFA's own exact counter does (BN,
// activations and pooling are left out).
func (n *Subnet) MMACs() float64 {
	side, macs := n.arch.R, n.classes*n.width
	for _, l := range n.layers {
		switch l.kind {
		case conv:
			side = (side-1)/l.conv.stride + 1
			macs += len(l.conv.weight) * side * side
		case squeezeExcite:
			macs += len(l.reduce.weight) + len(l.expand.weight)
		case globalPool:
			side = 1
		}
	}
	return float64(macs) / 1e6
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
