package resident

import (
	"fmt"
	"math"

	"github.com/limber-edge/limber/family"
)

// canaryTolerance is how far a logit may be from the stored one, as a fraction
// of their standard deviation. Machines differ in the order of additions, which
// is a hundred times less; a wrong weight is a hundred times more.
const canaryTolerance = 1e-2

// canary runs the member's stored input and compares the logits.
func (s *Shelf) canary(m *family.Member, session family.Session) error {
	input, want, err := s.stored(m)
	if err != nil {
		return err
	}
	got := make([]float32, len(want))
	if err := session.Run(got, input); err != nil {
		return fmt.Errorf("canary: %w", err)
	}
	return agrees(got, want)
}

// stored reads the member's canary: an input, and the logits it must give.
func (s *Shelf) stored(m *family.Member) (input, logits []float32, err error) {
	b, err := s.blobs.Blob(m.Canary)
	if err != nil {
		return nil, nil, err
	}
	numbers, err := family.Floats(b)
	if err != nil {
		return nil, nil, fmt.Errorf("canary: %w", err)
	}
	pixels := 3 * m.Arch.R * m.Arch.R
	if len(numbers) != pixels+len(s.fam.Classes) {
		return nil, nil, fmt.Errorf("canary: %d numbers are not an input of %d and %d logits", len(numbers), pixels,
			len(s.fam.Classes))
	}
	return numbers[:pixels], numbers[pixels:], nil
}

func agrees(got, want []float32) error {
	if off := Distance(got, want); !(off <= canaryTolerance) {
		return fmt.Errorf("%w: a logit is %.3g standard deviations from the stored one, at most %g is allowed; the "+
			"member is not used", family.ErrCanary,
			off, canaryTolerance)
	}
	return nil
}

// Canary is the blob that makes a canary of an input (3×R×R) and the logits it
// gives.
func Canary(input, logits []float32) []byte {
	return family.FloatBytes(append(input[:len(input):len(input)], logits...))
}

// Distance is the largest difference of two members' logits, in standard
// deviations of want; NaN when there is one in either.
func Distance(got, want []float32) float64 {
	var sum, square, worst float64
	for i := range want {
		sum += float64(want[i])
		worst = math.Max(worst, math.Abs(float64(got[i])-float64(want[i])))
	}
	mean := sum / float64(len(want))
	for _, v := range want {
		square += (float64(v) - mean) * (float64(v) - mean)
	}
	return worst / math.Sqrt(square/float64(len(want)))
}
