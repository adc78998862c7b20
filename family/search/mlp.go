package search

// dense is a fully connected layer. Its weights lie input by input, so that an
// input that is zero, as half of them are behind a ReLU, costs nothing.
type dense struct {
	in, out int
	weight  []float32 // in × out
	bias    []float32 // out
}

// newDense takes weights that lie output by output, as PyTorch keeps them.
func newDense(weight, bias []float32) dense {
	d := dense{in: len(weight) / len(bias), out: len(bias), weight: make([]float32, len(weight)), bias: bias}
	for o := range d.out {
		for i := range d.in {
			d.weight[i*d.out+o] = weight[o*d.in+i]
		}
	}
	return d
}

func (d *dense) row(i int) []float32 { return d.weight[i*d.out : (i+1)*d.out] }

// forward computes y, of d.out numbers, from x.
func (d *dense) forward(y, x []float32) {
	copy(y, d.bias)
	var at [4]int
	n := 0
	for i, v := range x {
		if v == 0 {
			continue
		}
		at[n] = i
		if n++; n == len(at) {
			n = 0
			add4(y, d.row(at[0]), d.row(at[1]), d.row(at[2]), d.row(at[3]), x[at[0]], x[at[1]], x[at[2]], x[at[3]])
		}
	}
	for _, i := range at[:n] {
		add(y, d.row(i), x[i])
	}
}

// add4 adds four weighted rows at once, which reads and writes y a fourth as
// often: measured, half the time.
func add4(y, a, b, c, d []float32, wa, wb, wc, wd float32) {
	a, b, c, d = a[:len(y)], b[:len(y)], c[:len(y)], d[:len(y)]
	for i := range y {
		y[i] += wa*a[i] + wb*b[i] + wc*c[i] + wd*d[i]
	}
}

func add(y, a []float32, w float32) {
	a = a[:len(y)]
	for i := range y {
		y[i] += w * a[i]
	}
}

// rectify is the ReLU.
func rectify(x []float32) {
	for i, v := range x {
		x[i] = max(v, 0)
	}
}

func dot(a, b []float32) float32 {
	b = b[:len(a)]
	var even, odd float32 // two sums, for the additions need not wait for each other
	for i := 0; i+1 < len(a); i += 2 {
		even += a[i] * b[i]
		odd += a[i+1] * b[i+1]
	}
	if n := len(a); n%2 == 1 {
		even += a[n-1] * b[n-1]
	}
	return even + odd
}
