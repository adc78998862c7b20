package ofa

import (
	"fmt"
	"slices"
)

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
