package search

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/limber-edge/limber/family"
)

// Sample is an architecture with a top-1 that was measured.
type Sample struct {
	Arch family.Arch
	Top1 float64 // fraction
}

// Fitted predicts accuracy from measured samples of one search space: the sum
// of what each kernel size, expand ratio and resolution was found to be worth
// (a ridge regression on one-hot vectors). It is safe for concurrent use.
type Fitted struct {
	space  Space
	mean   float64
	weight []float64
	// Error is the mean absolute error and Tau Kendall's rank correlation on
	// the fifth of the samples that a first fit did not see.
	Error, Tau float64
	HeldOut    int // samples
}

const (
	ridge      = 1 // weight of a prior that nothing matters, in samples
	fewSamples = 10
	heldOut    = 5 // every fifth sample
)

// Fit learns from samples; seed says which of them are held out.
func Fit(space Space, samples []Sample, seed uint64) (*Fitted, error) {
	if len(samples) < fewSamples {
		return nil, fmt.Errorf("fit a predictor: %d samples are too few, measure at least %d", len(samples), fewSamples)
	}
	samples = slices.Clone(samples)
	rand.New(rand.NewPCG(seed, 0)).Shuffle(len(samples), func(i, j int) { samples[i], samples[j] = samples[j], samples[i] })
	n := len(samples) / heldOut
	first, err := fit(space, samples[n:])
	if err != nil {
		return nil, err
	}
	f, err := fit(space, samples)
	if err != nil {
		return nil, err
	}
	f.HeldOut = n
	f.Error, f.Tau, err = first.judge(samples[:n])
	return f, err
}

func fit(space Space, samples []Sample) (*Fitted, error) {
	f := &Fitted{space: space}
	n := f.inputs()
	for _, s := range samples {
		f.mean += s.Top1 / float64(len(samples))
	}
	gram, moment := make([][]float64, n), make([]float64, n)
	for i := range gram {
		gram[i] = make([]float64, n)
		gram[i][i] = ridge
	}
	for _, s := range samples {
		on, err := f.encode(s.Arch)
		if err != nil {
			return nil, err
		}
		for _, i := range on {
			moment[i] += s.Top1 - f.mean
			for _, j := range on {
				gram[i][j]++
			}
		}
	}
	f.weight = solve(gram, moment)
	return f, nil
}

// inputs is how many choices there are: kernel size and expand ratio of every
// slot, and the resolution.
func (f *Fitted) inputs() int {
	return f.space.slots()*(len(f.space.KS)+len(f.space.E)) + len(f.space.Resolutions)
}

// encode lists the choices an architecture made; a slot it does not use has
// none.
func (f *Fitted) encode(a family.Arch) ([]int, error) {
	s := &f.space
	if len(a.KS) != s.slots() || len(a.E) != s.slots() || len(a.D) != len(s.Stages) {
		return nil, fmt.Errorf("fitted predictor: wants %d ks, %d e and %d d, got %d, %d and %d",
			s.slots(), s.slots(), len(s.Stages), len(a.KS), len(a.E), len(a.D))
	}
	r := slices.Index(s.Resolutions, a.R)
	if r < 0 {
		return nil, fmt.Errorf("fitted predictor: it knows %v pixels, not %d", s.Resolutions, a.R)
	}
	perSlot := len(s.KS) + len(s.E)
	on := []int{s.slots()*perSlot + r}
	for i, stage := range s.Stages {
		for slot := stage.First; slot < stage.First+min(a.D[i], stage.Slots); slot++ {
			k, e := slices.Index(s.KS, a.KS[slot]), slices.Index(s.E, a.E[slot])
			if k < 0 || e < 0 {
				return nil, fmt.Errorf("fitted predictor: it knows kernels %v and expand ratios %v, not %d and %v", s.KS, s.E, a.KS[slot], a.E[slot])
			}
			on = append(on, slot*perSlot+k, slot*perSlot+len(s.KS)+e)
		}
	}
	return on, nil
}

// Accuracy predicts top-1.
func (f *Fitted) Accuracy(archs []family.Arch) ([]float64, error) {
	predicted := make([]float64, len(archs))
	for i, a := range archs {
		on, err := f.encode(a)
		if err != nil {
			return nil, err
		}
		predicted[i] = f.mean
		for _, j := range on {
			predicted[i] += f.weight[j]
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

// judge compares predictions with what was measured.
func (f *Fitted) judge(samples []Sample) (meanError, tau float64, err error) {
	archs, measured := make([]family.Arch, len(samples)), make([]float64, len(samples))
	for i, s := range samples {
		archs[i], measured[i] = s.Arch, s.Top1
	}
	predicted, err := f.Accuracy(archs)
	if err != nil {
		return 0, 0, err
	}
	for i := range predicted {
		meanError += math.Abs(predicted[i]-measured[i]) / float64(len(samples))
	}
	return meanError, Kendall(predicted, measured), nil
}

// Kendall is the rank correlation tau-b of two lists: 1 if they rank alike, -1
// if in reverse, 0 if one says nothing about the other.
func Kendall(a, b []float64) float64 {
	var sum, inA, inB float64
	for i := range a {
		for j := range i {
			x, y := sign(a[i]-a[j]), sign(b[i]-b[j])
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

func sign(v float64) float64 {
	switch {
	case v > 0:
		return 1
	case v < 0:
		return -1
	}
	return 0
}

// solve finds x of a·x = b for a symmetric positive definite a, by Cholesky's
// method. It overwrites both.
func solve(a [][]float64, b []float64) []float64 {
	for j := range a {
		for k := range j {
			a[j][j] -= a[j][k] * a[j][k]
		}
		a[j][j] = math.Sqrt(a[j][j])
		for i := j + 1; i < len(a); i++ {
			for k := range j {
				a[i][j] -= a[i][k] * a[j][k]
			}
			a[i][j] /= a[j][j]
		}
	}
	for i := range b {
		for k := range i {
			b[i] -= a[i][k] * b[k]
		}
		b[i] /= a[i][i]
	}
	for i := len(b) - 1; i >= 0; i-- {
		for k := i + 1; k < len(b); k++ {
			b[i] -= a[k][i] * b[k]
		}
		b[i] /= a[i][i]
	}
	return b
}
