package search

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strings"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ofa"
)

// Predictor is the published accuracy predictor of the Once-for-All code, for
// OFA-MobileNetV3 of width 1.2: a perceptron of three hidden layers over
// one-hot vectors. It is safe for concurrent use.
//
//	128 inputs = 20 blocks × {kernel 3 5 7} · 20 blocks × {expand 3 4 6} · {112, 128, ... 224 pixels}
//
// Slots that an architecture does not use are zero. Resolutions between two
// multiples of 16 count as the lower one. Published predictions are 4 to 6
// points above what the validation set then says; their order is right.
type Predictor struct {
	layers []dense
}

// What the published predictor encodes.
const (
	predictorSlots  = 20 // blocks
	predictorStages = 5
	predictorDepth  = predictorSlots / predictorStages
	predictorInputs = 2*3*predictorSlots + 8
	lowestPixels    = 112
	pixelStep       = 16
)

// LoadPredictor reads the checkpoint at path, acc_predictor.pth.
func LoadPredictor(path string) (*Predictor, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("accuracy predictor: %w", err)
	}
	p, err := readPredictor(b)
	if err != nil {
		return nil, fmt.Errorf("accuracy predictor %s: %w", path, err)
	}
	return p, nil
}

// readPredictor reads a checkpoint of fully connected layers, named 0.weight,
// 0.bias, 2.weight and so on as nn.Sequential names them.
func readPredictor(file []byte) (*Predictor, error) {
	c, err := ofa.ReadCheckpoint(file)
	if err != nil {
		return nil, err
	}
	p, width := &Predictor{}, predictorInputs
	for i := 0; ; i += 2 {
		if _, ok := c.Tensor(fmt.Sprintf("%d.weight", i)); !ok {
			break
		}
		d, err := readDense(c, i, width)
		if err != nil {
			return nil, err
		}
		p.layers, width = append(p.layers, d), d.out
	}
	if len(p.layers) == 0 || width != 1 || len(c.Names()) != 2*len(p.layers) {
		names := c.Names()
		few := min(len(names), 4)
		return nil, fmt.Errorf("it is no predictor: want layers 0, 2, ... from %d inputs to 1 output, got %d tensors, the "+
			"first of them %s",
			predictorInputs, len(names), strings.Join(names[:few], ", "))
	}
	return p, nil
}

// readDense reads the layer with that number, which has in inputs.
func readDense(c *ofa.Checkpoint, number, in int) (dense, error) {
	w, _ := c.Tensor(fmt.Sprintf("%d.weight", number))
	b, ok := c.Tensor(fmt.Sprintf("%d.bias", number))
	if !ok || len(b.Shape) != 1 || b.Shape[0] < 1 || !slices.Equal(w.Shape, []int{b.Shape[0], in}) {
		return dense{}, fmt.Errorf("layer %d: weight %v and bias %v, want N×%d and N", number, w.Shape, b.Shape, in)
	}
	for _, v := range slices.Concat(w.Data, b.Data) {
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return dense{}, fmt.Errorf("layer %d holds a number that is not finite", number)
		}
	}
	return newDense(w.Data, b.Data), nil
}

// Accuracy predicts top-1 of each architecture, as a fraction of 10,000
// training images that the supernet was not trained on.
func (p *Predictor) Accuracy(archs []family.Arch) ([]float64, error) {
	predicted := make([]float64, len(archs))
	run := p.newRun()
	for i, a := range archs {
		features, err := encode(a)
		if err != nil {
			return nil, err
		}
		predicted[i] = run.predict(features)
	}
	return predicted, nil
}

// Guess follows the slope of the perceptron at a.
func (p *Predictor) Guess(a family.Arch, neighbours []family.Arch) ([]float64, error) {
	at, err := encode(a)
	if err != nil {
		return nil, err
	}
	run := p.newRun()
	run.predict(at)
	slope := run.slope()
	more := make([]float64, len(neighbours))
	for i, b := range neighbours {
		features, err := encode(b)
		if err != nil {
			return nil, err
		}
		more[i] = sumOf(slope, features) - sumOf(slope, at)
	}
	return more, nil
}

func sumOf(slope []float32, features []int) float64 {
	var sum float64
	for _, i := range features {
		sum += float64(slope[i])
	}
	return sum
}

// encode lists the inputs that are one.
func encode(a family.Arch) ([]int, error) {
	if len(a.KS) != predictorSlots || len(a.E) != predictorSlots || len(a.D) != predictorStages {
		return nil, fmt.Errorf("the accuracy predictor knows %d ks, %d e and %d d, the architecture has %d, %d and %d",
			predictorSlots, predictorSlots, predictorStages, len(a.KS), len(a.E), len(a.D))
	}
	r := (a.R - lowestPixels) / pixelStep
	if a.R < lowestPixels || r >= predictorInputs-2*3*predictorSlots {
		return nil, fmt.Errorf("the accuracy predictor knows 112 to 239 pixels, not %d", a.R)
	}
	features := append(make([]int, 0, 2*predictorSlots+1), 2*3*predictorSlots+r)
	for slot := range predictorSlots {
		if slot%predictorDepth >= a.D[slot/predictorDepth] {
			continue
		}
		k, e := slices.Index([]int{3, 5, 7}, a.KS[slot]), slices.Index([]float64{3, 4, 6}, a.E[slot])
		if k < 0 || e < 0 {
			return nil, fmt.Errorf("the accuracy predictor knows kernels 3 5 7 and expand ratios 3 4 6, not %d and %v",
				a.KS[slot], a.E[slot])
		}
		features = append(features, 3*slot+k, 3*predictorSlots+3*slot+e)
	}
	return features, nil
}

// predictorRun holds the numbers between the layers, for one goroutine.
type predictorRun struct {
	layers []dense
	hidden [][]float32 // output of each layer
}

func (p *Predictor) newRun() predictorRun {
	r := predictorRun{layers: p.layers}
	for _, d := range p.layers {
		r.hidden = append(r.hidden, make([]float32, d.out))
	}
	return r
}

func (r *predictorRun) predict(features []int) float64 {
	y := r.hidden[0]
	copy(y, r.layers[0].bias)
	for _, i := range features {
		add(y, r.layers[0].row(i), 1)
	}
	for i := 1; i < len(r.layers); i++ {
		rectify(y)
		r.layers[i].forward(r.hidden[i], y)
		y = r.hidden[i]
	}
	return float64(y[0])
}

// slope is the derivative of the prediction just made by every input.
func (r *predictorRun) slope() []float32 {
	back := []float32{1}
	for i := len(r.layers) - 1; i >= 0; i-- {
		y := make([]float32, r.layers[i].in)
		for j := range y {
			if i == 0 || r.hidden[i-1][j] > 0 {
				y[j] = dot(r.layers[i].row(j), back)
			}
		}
		back = y
	}
	return back
}

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
