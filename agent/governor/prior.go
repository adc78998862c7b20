package governor

import "math"

// The constants of the filter. They are round values from a flat region: no
// figure of the replay moves by more than 0.2 points when one of them is
// halved or doubled, so none is worth a setting.
const (
	levels   = 7 // load levels, see load
	unloaded = 2 // the first of them that mean "nobody competes"

	bins      = 42   // of a latency histogram, spaced evenly in the logarithm
	binLow    = 0.75 // lower edge of the first bin, in units of the profile
	binRatio  = 1.08 // width of a bin
	binHigh   = 19.0 // upper edge of the last bin, which holds everything beyond
	meanLimit = 8    // times the profile: the tail of outliers must not rule a mean

	sliceMS       = 4.0  // scheduler slice, ms; a shorter run often escapes preemption
	jitter        = 0.08 // spread of unloaded latency, natural logarithm
	preempted     = 0.40 // spread of a preempted run much shorter than a slice, natural logarithm
	outlierMass   = 0.01 // of every histogram, spread evenly over its bins
	priorWeight   = 10.0 // of a histogram before anything was seen, inferences
	memory        = 200  // of a histogram, inferences
	leastWeight   = 3e-4 // of a bin, inferences
	priorUnloaded = 0.5  // chance of "unloaded" before anything was seen
)

// belief is a probability for each load level.
type belief [levels]float64

// load describes one level: how much slower the processor itself runs (clock,
// cache), and how many others compete for it, per core.
type load struct{ slowdown, competitors float64 }

func loads() [levels]load {
	return [levels]load{
		{1, 0}, {1.15, 0},
		{1.05, 0.5}, {1.05, 1}, {1.05, 2}, {1.05, 4}, {1.05, 8},
	}
}

func priorBelief() (b belief) {
	for k := range b {
		if k < unloaded {
			b[k] = priorUnloaded / unloaded
		} else {
			b[k] = (1 - priorUnloaded) / (levels - unloaded)
		}
	}
	return b
}

// share is the probability that a run of profileMS takes at most exp(x) times
// its profile under load l. Unloaded latency is skewed to the right: little of
// it is below the median, and that little is close. A preempted run takes
// 1+competitors times as long, give or take a spread that narrows as the run
// covers more slices; a run that fits in a slice may escape.
func (l load) share(x, profileMS float64) float64 {
	x -= math.Log(l.slowdown)
	base := 1 - 0.6*math.Exp(-x/jitter)
	if x < 0 {
		base = 0.4 * math.Exp(x/(0.35*jitter))
	}
	if l.competitors == 0 {
		return base
	}
	escape := math.Exp(-profileMS / sliceMS)
	spread := preempted / math.Sqrt(1+profileMS/sliceMS)
	return escape*base + (1-escape)*normal((x-math.Log(1+l.competitors))/spread)
}

// normal is the cumulative distribution of the standard normal.
func normal(z float64) float64 { return 0.5 * (1 + math.Erf(z/math.Sqrt2)) }

// row is the latency histogram of one member under one load level, in units of
// the member's profile, with the sums that make a look-up cheap.
type row struct {
	weight [bins]float64     // inferences, forgotten slowly
	total  float64           // of weight
	below  [bins + 1]float64 // share of inferences under each bin's lower edge; 1 at the end
	mean   float64           // in units of the profile, bins counted at most meanLimit
}

// priorRow is what physics says before anything was seen.
func priorRow(l load, profileMS float64) (r row) {
	edge := func(b int) float64 {
		return l.share(math.Log(binLow)+float64(b)*math.Log(binRatio), profileMS)
	}
	var mass [bins]float64
	sum := 0.0
	for b := range mass {
		mass[b] = max(0, edge(b+1)-edge(b))
	}
	mass[0] += edge(0)
	mass[bins-1] += 1 - edge(bins)
	for _, m := range mass {
		sum += m
	}
	for b, m := range mass {
		r.weight[b] = priorWeight * ((1-outlierMass)*m/sum + outlierMass/bins)
	}
	r.total = priorWeight
	r.refresh()
	return r
}

// add counts w of an inference in bin b. Half of it goes to the neighbours:
// the edges mean nothing.
func (r *row) add(b int, w float64) {
	r.weight[b] += 0.5 * w
	r.weight[max(b-1, 0)] += 0.25 * w
	r.weight[min(b+1, bins-1)] += 0.25 * w
	r.total += w
	if r.total > memory {
		r.age()
	}
	r.refresh()
}

// age forgets a tenth. No bin is forgotten entirely: after days of calm a
// single stall must not be proof of a load.
func (r *row) age() {
	r.total = 0
	for i, w := range r.weight {
		r.weight[i] = max(0.9*w, leastWeight)
		r.total += r.weight[i]
	}
}

func (r *row) refresh() {
	sum, mean := 0.0, 0.0
	center := binLow * math.Sqrt(binRatio)
	for b, w := range r.weight {
		share := w / r.total
		sum += share
		r.below[b+1] = sum
		mean += share * min(center, meanLimit)
		center *= binRatio
	}
	r.mean = mean
}

// upTo is the share of inferences that took at most x bins above the first
// edge; see Grid.position.
func (r *row) upTo(x float64) float64 {
	if x <= 0 {
		return 0
	}
	if x >= bins {
		return 1
	}
	b := int(x)
	return r.below[b] + (x-float64(b))*(r.below[b+1]-r.below[b])
}
