package replay

import (
	"math"
	"time"

	"github.com/limber-edge/limber/agent/governor"
)

// loadGrid is the policy that Limber's began with: a Bayes filter over seven
// load levels, with a latency histogram for each level and member, in units of
// the member's profile, that starts from a rough prior and is learned. It has no
// part for a queue. What became of it is governor.Grid.
type loadGrid struct {
	points, profile []float64
	rows            [][gridLevels]gridRow
	prior           gridBelief
	filtered        gridBelief
	predicted       gridBelief
	current         int
}

// The constants of its reference implementation.
const (
	gridLevels   = 7
	gridUnloaded = 2 // the first of them
	gridBins     = 42
	gridLow      = 0.75 // lower edge of the first bin, in units of the profile
	gridRatio    = 1.08 // width of a bin
	gridSlice    = 4.0  // ms
	gridJitter   = 0.08 // natural logarithm
	gridSpread   = 0.40 // of a preempted run, natural logarithm
	gridOutlier  = 0.01
	gridWeight   = 10.0 // of a prior histogram, inferences
	gridMemory   = 200  // of a histogram, inferences
	gridJump     = 0.01
	gridDrift    = 0.05
	gridMargin   = 0.5 // points
	gridNoHope   = 5.0 // points
)

type gridBelief [gridLevels]float64

type gridRow struct {
	weight [gridBins]float64
	total  float64
}

func newLoadGrid(members []governor.Member) *loadGrid {
	g := &loadGrid{profile: profileOf(members), current: -1}
	for k := range g.prior {
		g.prior[k] = 0.5 / (gridLevels - gridUnloaded)
		if k < gridUnloaded {
			g.prior[k] = 0.5 / gridUnloaded
		}
	}
	g.filtered, g.predicted = g.prior, g.prior
	for i, m := range members {
		g.points = append(g.points, 100*m.Top1)
		var rows [gridLevels]gridRow
		for k, l := range [gridLevels][2]float64{{1, 0}, {1.15, 0}, {1.05, 0.5}, {1.05, 1}, {1.05, 2}, {1.05, 4}, {1.05, 8}} {
			rows[k] = newGridRow(l[0], l[1], g.profile[i])
		}
		g.rows = append(g.rows, rows)
	}
	return g
}

// newGridRow is the prior for a slowdown of the processor and a number of
// competitors.
func newGridRow(slowdown, competitors, profile float64) (r gridRow) {
	edge := func(b int) float64 {
		x := math.Log(gridLow) + float64(b)*math.Log(gridRatio) - math.Log(slowdown)
		base := 1 - 0.6*math.Exp(-x/gridJitter)
		if x < 0 {
			base = 0.4 * math.Exp(x/(0.35*gridJitter))
		}
		if competitors == 0 {
			return base
		}
		escape := math.Exp(-profile / gridSlice)
		z := (x - math.Log(1+competitors)) / (gridSpread / math.Sqrt(1+profile/gridSlice))
		return escape*base + (1-escape)*0.5*(1+math.Erf(z/math.Sqrt2))
	}
	var mass [gridBins]float64
	sum := 0.0
	for b := range mass {
		mass[b] = max(0, edge(b+1)-edge(b))
	}
	mass[0] += edge(0)
	mass[gridBins-1] += 1 - edge(gridBins)
	for _, m := range mass {
		sum += m
	}
	for b, m := range mass {
		r.weight[b] = gridWeight * ((1-gridOutlier)*m/sum + gridOutlier/gridBins)
	}
	r.total = gridWeight
	return r
}

func (*loadGrid) Arrive(time.Duration) {}

// position places a latency on a member's histogram, in bins.
func (g *loadGrid) position(member int, ms float64) float64 {
	return math.Log(ms/g.profile[member]/gridLow) / math.Log(gridRatio)
}

func (g *loadGrid) Decide(now time.Duration, q governor.Queue) (int, bool) {
	g.choose(milliseconds(q.Deadline - now))
	return g.current, false
}

// choose revises the standing choice. A larger member is given credit for what
// running it may reveal.
func (g *loadGrid) choose(deadline float64) {
	value := make([]gridBelief, len(g.rows))
	worth := make([]float64, len(g.rows))
	for j := range g.rows {
		x := g.position(j, deadline)
		for k := range g.prior {
			value[j][k] = g.points[j] * g.rows[j][k].upTo(x)
			worth[j] += g.filtered[k] * value[j][k]
		}
	}
	best := argmax(worth)
	switch {
	case worth[best] < gridNoHope:
		g.current = 0
		return
	case g.current < 0:
		g.current = best
		return
	}
	for j := g.current + 1; j < len(worth); j++ {
		for k, w := range g.filtered {
			worth[j] += w * max(0, value[j][k]-value[g.current][k])
		}
	}
	if best = argmax(worth); worth[best]-worth[g.current] > gridMargin {
		g.current = best
	}
}

// upTo is the share of latencies up to x bins above the first edge.
func (r *gridRow) upTo(x float64) float64 {
	if x <= 0 {
		return 0
	}
	if x >= gridBins {
		return 1
	}
	b, sum := int(x), 0.0
	for _, w := range r.weight[:b] {
		sum += w
	}
	return (sum + (x-float64(b))*r.weight[b]) / r.total
}

func (g *loadGrid) Observe(_ time.Duration, member int, latency time.Duration) {
	b := min(gridBins-1, max(0, int(g.position(member, max(milliseconds(latency), 1e-3)))))
	sum := 0.0
	for k := range g.filtered {
		row := &g.rows[member][k]
		g.filtered[k] = g.predicted[k] * row.weight[b] / row.total
		sum += g.filtered[k]
	}
	for k := range g.filtered {
		if g.filtered[k] /= sum; g.filtered[k] >= 0.02 {
			g.rows[member][k].add(b, g.filtered[k])
		}
	}
	var p gridBelief
	for k, w := range g.filtered {
		p[k] += w * (1 - gridDrift)
		p[max(k-1, 0)] += w * gridDrift / 2
		p[min(k+1, gridLevels-1)] += w * gridDrift / 2
	}
	for k := range p {
		g.predicted[k] = (1-gridJump)*p[k] + gridJump*g.prior[k]
	}
}

// add counts w of an inference in bin b, half of it in the neighbours.
func (r *gridRow) add(b int, w float64) {
	r.weight[b] += 0.5 * w
	r.weight[max(b-1, 0)] += 0.25 * w
	r.weight[min(b+1, gridBins-1)] += 0.25 * w
	if r.total += w; r.total > gridMemory {
		r.total *= 0.9
		for i := range r.weight {
			r.weight[i] *= 0.9
		}
	}
}
