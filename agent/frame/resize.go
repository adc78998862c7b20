package frame

import "math"

// precision is the number of fractional bits of a weight: a sample of 8 bits
// and a sign leave 22 of 32, with one to spare.
const precision = 32 - 8 - 2

// weights are the triangle kernel of each wanted pixel of an axis. The
// arithmetic is that of PIL (Resample.c), whose results it repeats exactly:
// the products are kept apart from the sums, lest a processor fuse them.
type weights struct {
	of        axis // the axis and the kernel these were made for
	antialias bool
	taps      int     // room for the weights of one pixel
	first     []int   // first sample of the axis that a wanted pixel reads
	count     []int   // how many it reads
	k         []int32 // fixed point, taps for each wanted pixel
	kernel    []float64
}

// set makes the weights of an axis, unless they are those of the last one.
func (w *weights) set(a axis, antialias bool) {
	if w.of == a && w.antialias == antialias {
		return
	}
	w.of, w.antialias = a, antialias
	begin, end := a.samples()
	scale := float64(a.size) / float64(a.scaled) / float64(a.per)
	offset := float64(a.from)/float64(a.per) - float64(begin)
	support := 1.0 // half the width of the triangle, in samples of the picture
	if antialias {
		support = max(support, scale)
	}
	w.taps = 2*int(math.Ceil(support)) + 1
	w.first, w.count = grow(&w.first, a.want), grow(&w.count, a.want)
	w.k = grow(&w.k, a.want*w.taps)
	for i := range a.want {
		centre := float64((float64(a.skip+i)+0.5)*scale) + offset
		hi := max(1, min(end-begin, int(centre+support+0.5)))
		lo := min(hi-1, max(0, int(centre-support+0.5)))
		w.first[i], w.count[i] = lo, hi-lo
		kernel := grow(&w.kernel, hi-lo)
		triangle(kernel, lo, centre, 1/support)
		for j, v := range kernel {
			w.k[i*w.taps+j] = int32(0.5 + float64(v*(1<<precision)))
		}
	}
}

// triangle fills k with the kernel around centre, from the pixel first on. It
// sums to 1.
func triangle(k []float64, first int, centre, narrow float64) {
	sum := 0.0
	for j := range k {
		k[j] = max(0, 1-math.Abs(float64((float64(first+j)-centre+0.5)*narrow)))
		sum += k[j]
	}
	for j := range k {
		k[j] /= sum
	}
}

// reach is the range of samples of the axis that are read, the last excluded.
func (w *weights) reach() (first, last int) {
	end := w.of.want - 1
	return w.first[0], w.first[end] + w.count[end]
}

// across resizes a line of RGB that begins with the pixel left of the axis.
func (w *weights) across(dst, line []byte, left int) {
	for i := range w.of.want {
		from := 3 * (w.first[i] - left)
		k := w.k[i*w.taps:][:w.count[i]]
		px := line[from:][:3*len(k)]
		r, g, b := int32(1<<(precision-1)), int32(1<<(precision-1)), int32(1<<(precision-1))
		for _, v := range k {
			r += v * int32(px[0])
			g += v * int32(px[1])
			b += v * int32(px[2])
			px = px[3:]
		}
		d := dst[3*i : 3*i+3 : 3*i+3]
		d[0], d[1], d[2] = clip(r), clip(g), clip(b)
	}
}

// downwards makes the line row from lines that begin with the pixel top of the
// axis. sum is as long as a line.
func (w *weights) downwards(dst []byte, sum []int32, lines []byte, row, top int) {
	for i := range sum {
		sum[i] = 1 << (precision - 1)
	}
	for j, k := range w.k[row*w.taps:][:w.count[row]] {
		line := lines[(w.first[row]-top+j)*len(sum):][:len(sum)]
		for i, v := range line {
			sum[i] += k * int32(v)
		}
	}
	for i, v := range sum {
		dst[i] = clip(v)
	}
}

// clip is the sample that a sum in fixed point stands for.
func clip(sum int32) uint8 { return uint8(min(max(sum>>precision, 0), 255)) }
