package governor

import "math"

// load is a hypothesis of what goes on beside an inference. What it takes from
// a run depends on the run's length in milliseconds, not on its profile alone:
// a short one often escapes the scheduler, a long one never does.
type load struct {
	slowdown float64 // of the processor itself: clock, cache, memory bandwidth
	every    float64 // ms of processor time between two interruptions; 0 is none
	even     bool    // interruptions come evenly, as a scheduler's slices end; else at random
	stolen   float64 // ms that an interruption takes, on average
	chance   float64 // before anything was seen
}

// The physics of the hypotheses. They are round values from a flat region of
// the replay: what matters is that every kind of load has a neighbour among
// them, not where exactly it lies.
const (
	jitter      = 0.08  // spread of unloaded latency, natural logarithm
	theft       = 0.4   // spread of what one interruption takes, as a share of it
	outlierMass = 0.005 // of every histogram, spread evenly over its bins

	unloaded   = 3 // the first loads, under which nothing competes
	levels     = unloaded + 2*5*7
	priorQuiet = 0.5 // chance that nothing competes, before anything was seen
)

// unloadedSlowdowns are the speeds of the processor alone.
func unloadedSlowdowns() [unloaded]float64 { return [unloaded]float64{1, 1.15, 1.4} }

// loads are the hypotheses: the processor alone at three speeds, and others on
// it that run for slices of the scheduler, or interrupt at random.
func loads() [levels]load {
	var all [levels]load
	for i, slowdown := range unloadedSlowdowns() {
		all[i] = load{slowdown: slowdown, chance: priorQuiet / unloaded}
	}
	n := unloaded
	for _, slowdown := range [2]float64{1, 1.15} {
		for _, way := range [5]load{{every: 3, even: true}, {every: 4, even: true}, {every: 5, even: true}, {every: 4}, {every: 16}} {
			for _, stolen := range [7]float64{2, 3, 5, 8, 13, 21, 34} {
				all[n] = load{slowdown, way.every, way.even, stolen, (1 - priorQuiet) / (levels - unloaded)}
				n++
			}
		}
	}
	return all
}

// within is the probability that a run which takes profile ms unloaded takes at
// most ms.
func (l load) within(ms, profile float64) float64 {
	work := l.slowdown * profile
	alone := 1 - 0.6*math.Exp(-math.Log(ms/work)/jitter) // little is below the median, and that is close
	if ms < work {
		alone = 0.4 * math.Exp(math.Log(ms/work)/(0.35*jitter))
	}
	if l.every == 0 {
		return alone
	}
	chance := l.interruptions(work)
	p := chance(0) * alone
	if ms <= work {
		return p
	}
	most := int(work/l.every) + 30
	for n, left := 1, 1-chance(0); n <= most && left > 1e-6; n++ {
		c := chance(n)
		left -= c
		p += c * stolenWithin(ms-work, float64(n)*l.stolen, theft/math.Sqrt(float64(n)))
	}
	return p
}

// interruptions is the distribution of how often a run of some work, in ms, is
// interrupted. Evenly: the slice in which it begins is anywhere.
func (l load) interruptions(work float64) func(n int) float64 {
	mean := work / l.every
	if !l.even {
		return func(n int) float64 {
			log, _ := math.Lgamma(float64(n) + 1)
			return math.Exp(float64(n)*math.Log(mean) - mean - log)
		}
	}
	whole, part := math.Modf(mean)
	return func(n int) float64 {
		switch n {
		case int(whole):
			return 1 - part
		case int(whole) + 1:
			return part
		}
		return 0
	}
}

// stolenWithin is the probability that what interruptions take, log-normal with
// this mean and relative spread, is at most ms.
func stolenWithin(ms, mean, spread float64) float64 {
	variance := math.Log(1 + spread*spread)
	return normal((math.Log(ms/mean) + variance/2) / math.Sqrt(variance))
}

// normal is the cumulative distribution of the standard normal.
func normal(z float64) float64 { return 0.5 * (1 + math.Erf(z/math.Sqrt2)) }
