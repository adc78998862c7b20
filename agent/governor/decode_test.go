package governor

import (
	"testing"
	"time"
)

// A queue whose frames come from decoding every 12 ms, while many wait.
func TestAnInferenceMayFillTheTimeBetweenTwoDecodedFrames(t *testing.T) {
	var chosen [2]int
	for i, decode := range []time.Duration{0, ms(12)} {
		g := mustGovernor(t, six(), Mode{})
		now := time.Duration(0)
		for range 300 {
			now += ms(12)
			for range 3 { // a third of them can be decoded
				g.Arrive(now)
			}
			q := Queue{Deadline: now + ms(60), Decode: decode}
			for range Lookahead {
				q.Waiting = append(q.Waiting, now+ms(65))
			}
			d := g.Decide(now, q)
			chosen[i] = d.Member
			g.Observe(now+d.Predicted, d.Member, 1, six()[d.Member].Latency)
		}
	}
	if small, large := six()[chosen[0]].Latency, six()[chosen[1]].Latency; small >= large || large > ms(12) {
		t.Errorf("got a member of %v where inference holds up the queue, of %v where decoding does; want a larger one, of "+
			"at most 12 ms", small, large)
	}
}
