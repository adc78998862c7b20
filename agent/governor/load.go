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
	spared   float64 // share of runs that meet nothing of it: another core was free
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
// it that run for slices of the scheduler, on every core or on some, or interrupt
// at random.
func loads() [levels]load {
	var all [levels]load
	for i, slowdown := range unloadedSlowdowns() {
		all[i] = load{slowdown: slowdown, chance: priorQuiet / unloaded}
	}
	n := unloaded
	for _, slowdown := range [2]float64{1, 1.15} {
		for _, way := range [5]load{{every: 3, even: true}, {every: 4, even: true}, {every: 4, even: true, spared: 1. / 3},
			{every: 4}, {every: 16}} {
			for _, stolen := range [7]float64{2, 3, 5, 8, 13, 21, 34} {
				way.slowdown, way.stolen, way.chance = slowdown, stolen, (1-priorQuiet)/(levels-unloaded)
				all[n] = way
				n++
			}
		}
	}
	return all
}

// run is how long one run takes under a load: alone, or interrupted n times.
type run struct {
	work  float64 // ms without interruptions
	alone float64 // chance of none
	times []stolen
}

// stolen is what some number of interruptions takes, log-normal.
type stolen struct {
	chance       float64 // of this number
	mean, spread float64 // of the natural logarithm of the milliseconds
}

const (
	unlikely = 1e-6 // chance below which more interruptions are left out
	many     = 64   // interruptions from which on only their sum counts
)

// run works out what a load does to a run of profile ms.
func (l load) run(profile float64) run {
	r := run{work: l.slowdown * profile, alone: 1}
	if l.every == 0 {
		return r
	}
	mean, each := r.work/l.every, theft
	if !l.even {
		each = math.Hypot(1, theft) // their number varies, too
	}
	if mean > many {
		r.alone, r.times = l.spared, []stolen{newStolen(1-l.spared, mean*l.stolen, each/math.Sqrt(mean))}
		return r
	}
	chances := evenly(mean)
	if !l.even {
		chances = atRandom(mean)
	}
	r.alone = l.spared + (1-l.spared)*chances[0]
	for i, c := range chances[1:] {
		n := float64(i + 1)
		r.times = append(r.times, newStolen((1-l.spared)*c, n*l.stolen, theft/math.Sqrt(n)))
	}
	return r
}

// newStolen is ms lost with some chance, give or take a relative spread.
func newStolen(chance, ms, spread float64) stolen {
	variance := math.Log(1 + spread*spread)
	return stolen{chance, math.Log(ms) - variance/2, math.Sqrt(variance)}
}

// evenly is the chance of each number of interruptions, from none, if there are
// mean on average and they come at even distances: the slice in which a run
// begins is anywhere.
func evenly(mean float64) []float64 {
	whole, part := math.Modf(mean)
	chances := make([]float64, int(whole)+2)
	chances[int(whole)], chances[int(whole)+1] = 1-part, part
	return chances
}

// atRandom is the same for interruptions that know nothing of each other
// (Poisson).
func atRandom(mean float64) []float64 {
	c := math.Exp(-mean)
	chances, left := []float64{c}, 1-c
	for n := 1.0; left > unlikely && n < mean+10*math.Sqrt(mean)+10; n++ {
		c *= mean / n
		left -= c
		chances = append(chances, c)
	}
	return chances
}

// within is the probability that the run takes at most ms.
func (r run) within(ms float64) float64 {
	x := math.Log(ms / r.work)
	if x < 0 { // little is below the median, and that is close
		return r.alone * 0.4 * math.Exp(x/(0.35*jitter))
	}
	p := r.alone * (1 - 0.6*math.Exp(-x/jitter))
	if ms == r.work {
		return p
	}
	lost := math.Log(ms - r.work)
	for _, s := range r.times {
		p += s.chance * normal((lost-s.mean)/s.spread)
	}
	return p
}

// normal is the cumulative distribution of the standard normal.
func normal(z float64) float64 { return 0.5 * (1 + math.Erf(z/math.Sqrt2)) }
