package search

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/limber-edge/limber/family"
)

// Fitted predicts accuracy from what was measured of other architectures of the
// same search space. It is safe for concurrent use.
type Fitted struct{ fit }

// FittedLatency predicts in the same way how long an inference takes on the
// device the samples were measured on. It is safe for concurrent use.
type FittedLatency struct {
	fit
	least float64 // of what was measured
}

// fit is a ridge regression on what an architecture chose. What is true of a
// block counts for its slot, for its stage and for the whole network, each with
// a weight of its own: few samples say what larger kernels are worth in general,
// and more of them where they are worth more.
//
// Of accuracy it is which kernel size the block has with which expand ratio. Of
// cost it is that there is one, its ratio e and e·k², all times the area of the
// image: the MMACs of a 1×1 convolution grow with e, those of a depthwise one
// with e·k².
type fit struct {
	space  Space
	cost   bool
	mean   float64
	weight []float64 // of every term
	block  []float64 // what every choice of every slot adds

	// Error is the mean absolute error and Tau Kendall's rank correlation on
	// the fifth of the samples that a first fit did not see.
	Error, Tau float64
	HeldOut    int // samples
}

const (
	fewSamples = 10
	heldOut    = 5 // every fifth sample
)

// priors are what cross-validation chooses from: the weight, in samples, of a
// prior that nothing matters.
var priors = [...]float64{0.001, 0.01, 0.1, 1, 3, 10, 30}

// Fit learns top-1 from measurements; seed says which of them are held out.
func Fit(space Space, measured []Entry, seed uint64) (*Fitted, error) {
	f, err := learn(fit{space: space}, measured, func(e Entry) float64 { return e.Top1 }, seed)
	if err != nil {
		return nil, fmt.Errorf("fit a predictor of accuracy: %w", err)
	}
	return &Fitted{f}, nil
}

// FitLatency learns the latency from measurements that have one.
func FitLatency(space Space, measured []Entry, seed uint64) (*FittedLatency, error) {
	f, err := learn(fit{space: space, cost: true}, measured, func(e Entry) float64 { return e.Latency }, seed)
	if err != nil {
		return nil, fmt.Errorf("fit a predictor of latency: %w", err)
	}
	l := &FittedLatency{fit: f, least: math.Inf(1)}
	for _, e := range measured {
		l.least = min(l.least, e.Latency)
	}
	return l, nil
}

// sample is an architecture's choices and the number to learn.
type sample struct {
	on   []term
	want float64
}

// term is a choice that was made, and how much of it.
type term struct {
	at    int // index of its weight
	worth float64
}

// learn fits twice: to judge, and for good.
func learn(f fit, measured []Entry, want func(Entry) float64, seed uint64) (fit, error) {
	if len(measured) < fewSamples {
		return f, fmt.Errorf("%d samples are too few, measure at least %d", len(measured), fewSamples)
	}
	samples := make([]sample, len(measured))
	for i, e := range measured {
		on, err := f.encode(e.Arch)
		if err != nil {
			return f, err
		}
		samples[i] = sample{on, want(e)}
	}
	rand.New(rand.NewPCG(seed, 0)).Shuffle(len(samples), func(i, j int) {
		samples[i], samples[j] = samples[j], samples[i]
	})
	n := len(samples) / heldOut
	first := f
	first.solve(samples[n:])
	f.HeldOut = n
	f.Error, f.Tau = first.judge(samples[:n])
	f.solve(samples)
	f.gather()
	return f, nil
}

// gather adds up what is known of the same choice, so that a prediction is one
// sum over the blocks.
func (f *fit) gather() {
	f.block = make([]float64, f.space.slots()*f.choices())
	for i, stage := range f.space.Stages {
		for slot := stage.First; slot < stage.First+stage.Slots; slot++ {
			for choice := range f.choices() {
				f.block[slot*f.choices()+choice] = f.predict(f.terms(nil, i, slot, choice, 1)) - f.mean
			}
		}
	}
}

// solve finds the weights. It works on the samples' products with each other,
// of which there are fewer than of weights, and takes the prior that would
// predict each sample best from all the others: for a ridge regression that
// takes no fit for each (Golub, Heath and Wahba 1979).
func (f *fit) solve(samples []sample) {
	n := len(samples)
	f.mean = 0
	for _, s := range samples {
		f.mean += s.want / float64(n)
	}
	products, least := f.products(samples), math.Inf(1)
	var best []float64
	for _, prior := range priors {
		inverse := make([][]float64, n)
		for i := range inverse {
			inverse[i] = slices.Clone(products[i])
			inverse[i][i] += prior
		}
		invert(inverse)
		share, sum := make([]float64, n), 0.0 // of each sample in the weights
		for i, row := range inverse {
			for j, v := range row {
				share[i] += v * (samples[j].want - f.mean)
			}
			miss := share[i] / row[i]
			sum += miss * miss
		}
		if sum < least {
			best, least = share, sum
		}
	}
	f.weight = make([]float64, f.inputs())
	for i, s := range samples {
		for _, t := range s.on {
			f.weight[t.at] += best[i] * t.worth
		}
	}
}

// products is how much any two samples have in common.
func (f *fit) products(samples []sample) [][]float64 {
	all := make([][]float64, len(samples))
	for i, s := range samples {
		row := make([]float64, f.inputs())
		for _, t := range s.on {
			row[t.at] += t.worth // a stage may choose the same more than once
		}
		all[i] = make([]float64, len(samples))
		for j, other := range samples {
			for _, t := range other.on {
				all[i][j] += t.worth * row[t.at]
			}
		}
	}
	return all
}

// invert inverts a symmetric positive definite matrix in place, by Gauss and
// Jordan's method.
func invert(a [][]float64) {
	for p := range a {
		pivot := 1 / a[p][p]
		a[p][p] = 1
		for j := range a[p] {
			a[p][j] *= pivot
		}
		for i, row := range a {
			if i == p {
				continue
			}
			factor := row[p]
			row[p] = 0
			for j, v := range a[p] {
				row[j] -= factor * v
			}
		}
	}
}

func (f *fit) predict(on []term) float64 {
	y := f.mean
	for _, t := range on {
		y += f.weight[t.at] * t.worth
	}
	return y
}

// choices is how many a slot has: a kernel size with an expand ratio each.
func (f *fit) choices() int { return len(f.space.KS) * len(f.space.E) }

// facts is how many numbers tell of a block.
func (f *fit) facts() int {
	if f.cost {
		return 3
	}
	return f.choices()
}

// inputs is how many weights there are: those of every slot, of every stage and
// of the network, and those of the resolutions.
func (f *fit) inputs() int {
	return (f.space.slots()+len(f.space.Stages)+1)*f.facts() + len(f.space.Resolutions)
}

// terms adds what is true of a block, for its slot, its stage and the network.
func (f *fit) terms(on []term, stage, slot, choice int, worth float64) []term {
	s := &f.space
	for _, place := range [...]int{slot, s.slots() + stage, s.slots() + len(s.Stages)} {
		first := place * f.facts()
		if !f.cost {
			on = append(on, term{first + choice, worth})
			continue
		}
		k, kMax := float64(s.KS[choice/len(s.E)]), float64(s.KS[len(s.KS)-1])
		e := s.E[choice%len(s.E)] / s.E[len(s.E)-1]
		on = append(on, term{first, worth}, term{first + 1, worth * e}, term{first + 2, worth * e * k * k / (kMax * kMax)})
	}
	return on
}

// check returns the index of an architecture's resolution, and what its blocks
// are worth there.
func (f *fit) check(a family.Arch) (r int, worth float64, err error) {
	s := &f.space
	if len(a.KS) != s.slots() || len(a.E) != s.slots() || len(a.D) != len(s.Stages) {
		return 0, 0, fmt.Errorf("fitted predictor: wants %d ks, %d e and %d d, got %d, %d and %d",
			s.slots(), s.slots(), len(s.Stages), len(a.KS), len(a.E), len(a.D))
	}
	if r = slices.Index(s.Resolutions, a.R); r < 0 {
		return 0, 0, fmt.Errorf("fitted predictor: it knows %v pixels, not %d", s.Resolutions, a.R)
	}
	if !f.cost {
		return r, 1, nil
	}
	side := float64(a.R) / float64(s.Resolutions[len(s.Resolutions)-1])
	return r, side * side, nil
}

// each visits the blocks that an architecture uses, with the number of the kernel
// size and expand ratio of each.
func (f *fit) each(a family.Arch, visit func(stage, slot, choice int)) error {
	for i, stage := range f.space.Stages {
		for slot := stage.First; slot < stage.First+min(a.D[i], stage.Slots); slot++ {
			k, e := slices.Index(f.space.KS, a.KS[slot]), slices.Index(f.space.E, a.E[slot])
			if k < 0 || e < 0 {
				return fmt.Errorf("fitted predictor: it knows kernels %v and expand ratios %v, not %d and %v", f.space.KS,
					f.space.E, a.KS[slot], a.E[slot])
			}
			visit(i, slot, k*len(f.space.E)+e)
		}
	}
	return nil
}

// encode lists the choices an architecture made; a slot it does not use has
// none.
func (f *fit) encode(a family.Arch) ([]term, error) {
	r, worth, err := f.check(a)
	if err != nil {
		return nil, err
	}
	on := []term{{f.inputs() - len(f.space.Resolutions) + r, 1}}
	err = f.each(a, func(stage, slot, choice int) { on = f.terms(on, stage, slot, choice, worth) })
	return on, err
}

func (f *fit) at(a family.Arch) (float64, error) {
	r, worth, err := f.check(a)
	if err != nil {
		return 0, err
	}
	sum := 0.0
	err = f.each(a, func(_, slot, choice int) { sum += f.block[slot*f.choices()+choice] })
	return f.mean + f.weight[f.inputs()-len(f.space.Resolutions)+r] + worth*sum, err
}

// judge compares predictions with what was measured.
func (f *fit) judge(samples []sample) (meanError, tau float64) {
	predicted, measured := make([]float64, len(samples)), make([]float64, len(samples))
	for i, s := range samples {
		predicted[i], measured[i] = f.predict(s.on), s.want
		meanError += math.Abs(predicted[i]-measured[i]) / float64(len(samples))
	}
	return meanError, Kendall(predicted, measured)
}

// Accuracy predicts top-1.
func (f *Fitted) Accuracy(archs []family.Arch) ([]float64, error) {
	predicted := make([]float64, len(archs))
	for i, a := range archs {
		var err error
		if predicted[i], err = f.at(a); err != nil {
			return nil, err
		}
	}
	return predicted, nil
}

// Guess is exact: the prediction is a sum.
func (f *Fitted) Guess(a family.Arch, neighbours []family.Arch) ([]float64, error) {
	at, err := f.Accuracy([]family.Arch{a})
	if err != nil {
		return nil, err
	}
	more, err := f.Accuracy(neighbours)
	for i := range more {
		more[i] -= at[0]
	}
	return more, err
}

// Latency predicts milliseconds, never less than half of the least that was
// measured: where there are no samples a sum may even be negative.
func (f *FittedLatency) Latency(a family.Arch) (float64, error) {
	ms, err := f.at(a)
	return max(ms, f.least/2), err
}

// Kendall is the rank correlation tau-b of two lists: 1 if they rank alike, -1
// if in reverse, 0 if one says nothing about the other.
func Kendall(a, b []float64) float64 {
	var sum, inA, inB float64
	for i := range a {
		for j := range i {
			x, y := float64(cmp.Compare(a[i], a[j])), float64(cmp.Compare(b[i], b[j]))
			sum += x * y
			inA += x * x
			inB += y * y
		}
	}
	if inA == 0 || inB == 0 {
		return 0
	}
	return sum / math.Sqrt(inA*inB)
}
