package governor

import (
	"math"
	"time"
)

const (
	rateMemory   = 300.0 // time constant of the arrival rate, ms
	rateHeadroom = 2.0   // mean gaps between arrivals that one inference may fill
	fairShare    = 0.5   // of its share of time that an inference may use on average
	lookahead    = 16    // waiting jobs that share the time with the head
)

// Queue is what waits at the moment of a decision. Times are on the clock of
// Decide's now.
type Queue struct {
	Deadline time.Duration   // when the head, the job to decide, must be answered
	Floor    float64         // least top-1 the head accepts, in [0, 1]; 0 is none
	Waiting  []time.Duration // deadlines of the jobs behind it, in the order of service; the first 16 are read
}

// share is the time in milliseconds that one inference may take on average
// when arrivals come at rate r: half of what is left to the tightest of the
// waiting jobs, divided among those up to it, and half of what two arrivals
// leave. The head's own deadline is a matter of chance, not of the mean, and
// jobs that are already late need no time.
func (q Queue) share(now time.Duration, r rate) float64 {
	share := r.headroom()
	for n, deadline := range q.Waiting[:min(len(q.Waiting), lookahead)] {
		if deadline > now {
			share = min(share, milliseconds(deadline-now)/float64(n+2))
		}
	}
	return fairShare * share
}

// rate is the recent rate of arrivals per millisecond, a moving average that
// forgets exponentially.
type rate struct {
	perMS float64
	last  time.Duration
}

func (r *rate) arrive(now time.Duration) {
	gap := max(0, now-r.last)
	r.perMS = r.perMS*math.Exp(-milliseconds(gap)/rateMemory) + 1/rateMemory
	r.last = now
}

// headroom is the time two arrivals leave, in milliseconds.
func (r rate) headroom() float64 { return rateHeadroom / max(r.perMS, 1e-9) }
