package pipeline

import (
	"errors"
	"math"
)

var errNoNumber = errors.New("a logit is not a finite number")

// best appends the classes of the largest numbers that the member gave to top, as
// many as it has room for, with their probabilities. Of equal numbers the first
// class comes first. Logits without a softmax, because one is NaN or infinite,
// are an error, and so are probabilities of which one is.
func (m *Member) best(top []Class, numbers []float32) ([]Class, error) {
	judge := softmax
	if m.Probabilities {
		judge = asTheyAre
	}
	top = largest(top, numbers)
	if err := judge(top, numbers); err != nil {
		return nil, err
	}
	return top, nil
}

// largest appends the classes of the largest numbers, with these in the place of
// probabilities.
func largest(top []Class, numbers []float32) []Class {
	for i, v := range numbers {
		at := len(top)
		for at > 0 && float64(v) > top[at-1].P {
			at--
		}
		if at == cap(top) {
			continue
		}
		if len(top) < cap(top) {
			top = top[:len(top)+1]
		}
		copy(top[at+1:], top[at:])
		top[at] = Class{Index: i, P: float64(v)}
	}
	return top
}

// softmax makes probabilities of the largest logits; all is every one.
func softmax(top []Class, all []float32) error {
	sum, peak := 0.0, top[0].P
	for _, v := range all {
		sum += math.Exp(float64(v) - peak)
	}
	if !(sum >= 1) { // the largest adds 1; only NaN can take it away
		return errNoNumber
	}
	for i := range top {
		top[i].P = math.Exp(top[i].P-peak) / sum
	}
	return nil
}

// asTheyAre leaves probabilities alone, but for a rounding out of [0, 1].
func asTheyAre(top []Class, all []float32) error {
	for _, v := range all {
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return errNoNumber
		}
	}
	for i := range top {
		top[i].P = min(max(top[i].P, 0), 1)
	}
	return nil
}
