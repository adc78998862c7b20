package governor

import (
	"math/rand/v2"
	"testing"
)

// tiny are members that are short beside the time for which other programs
// interrupt them, as those of the stock family are.
func tiny() []Member {
	return []Member{
		{"5.8M", 0.8561, ms(0.28)}, {"8.3M", 0.8692, ms(0.40)}, {"9.7M", 0.8693, ms(0.46)},
		{"13.4M", 0.8805, ms(0.62)}, {"18M", 0.884, ms(0.80)}, {"23.1M", 0.8921, ms(1.05)},
	}
}

// The members run 5 % slower than their profile, beside a camera, and every fifth
// run is interrupted for up to 25 ms. There is more time than any of them needs.
func TestALargestMemberThatIsSlowerThanItsProfileStaysWhereThereIsTime(t *testing.T) {
	g, r := mustGovernor(t, tiny(), Mode{}), rand.New(rand.NewPCG(1, 1))
	now, largest := ms(0), 0
	for i := range 2500 {
		now += ms(3)
		g.Arrive(now)
		d := g.Decide(now, Queue{Deadline: now + ms(50)})
		took := ms(1.05 * milliseconds(tiny()[d.Member].Latency) * (0.97 + 0.06*r.Float64()))
		if i >= 500 && r.IntN(5) == 0 {
			took += ms(25 * r.Float64())
		}
		now += took
		g.Observe(now, d.Member, 1, took)
		if i >= 1500 && d.Member == len(tiny())-1 {
			largest++
		}
	}
	if largest < 980 {
		t.Errorf("the largest ran %d times of 1000, want nearly always", largest)
	}
}
