package governor

import (
	"fmt"
	"math"
	"sort"
	"time"
)

// Option is what a member was worth to a decision.
type Option struct {
	Member    int
	Eligible  bool    // whether it could be chosen
	Predicted float64 // mean latency expected under the belief, ms
	Chance    float64 // to be in time, in [0, 1]
	Worth     float64 // top-1 times that chance, points: expected effective accuracy
	Score     float64 // Worth less what the member takes from those who wait, points
}

// Options appends what every member was worth to the last decision, by rising
// latency, those that are not eligible as well. They are valid until the next one.
func (g *Governor) Options(to []Option) []Option {
	o := &g.outlooks[0]
	for j := range g.members {
		to = append(to, Option{Member: j, Eligible: g.eligible.has(j), Predicted: o.mean[j], Chance: o.likely(g.grid, j),
			Worth: o.worth[j], Score: o.score[j]})
	}
	return to
}

// Predicted is the mean latency of a member expected by the last decision.
func (g *Governor) Predicted(member int) time.Duration {
	return time.Duration(g.outlooks[0].mean[member] * float64(time.Millisecond))
}

// Together is what an image takes member in a batch, expected by the last decision,
// as a part of what it takes alone; 1 where a batch saves nothing.
func (g *Governor) Together(member int) float64 {
	t, o := &g.grid.batch[member], &g.outlooks[0]
	if t.table == nil || o.mean[member] == 0 {
		return 1
	}
	return min(1, t.alone*o.belief.dot(&t.table.mean)/Batch/o.mean[member])
}

// Needs is the slack from which on member is likely enough to be in time, by the last
// decision, that a job is not refused.
func (g *Governor) Needs(member int) time.Duration {
	t, b := &g.grid.single[member], &g.outlooks[0].belief
	bin := sort.Search(bins, func(n int) bool { return b.dot(&t.table.below[n+1]) >= tooUnlikely })
	if bin == bins { // before the first decision
		return 0
	}
	below, above := b.dot(&t.table.below[bin]), b.dot(&t.table.below[bin+1])
	x := float64(bin) + (tooUnlikely-below)/(above-below)
	return time.Duration(math.Exp(g.grid.lowest+t.log+x*g.grid.width) * float64(time.Millisecond))
}

// Least is the smallest member that the mode may run for a job without a floor.
func (g *Governor) Least(now time.Duration) int { return g.least(g.within(now)) }

// Smallest is the smallest member that a job with this floor may run, -1 if
// there is none.
func (g *Governor) Smallest(now time.Duration, floor float64) int {
	may := g.within(now)
	if floor != 0 {
		may = g.atLeast(floor)
	}
	if may == 0 {
		return -1
	}
	return may.first()
}

// Belief is the belief over loads, summed up.
type Belief struct {
	Quiet    float64 // chance that nothing competes, in [0, 1]
	Slowdown float64 // of the processor alone, expected
	Every    float64 // processor time between two interruptions, ms, under the likeliest load; 0 is none
	Stolen   float64 // what an interruption takes then, ms
}

// Belief sums up what is believed of the load.
func (g *Governor) Belief() (b Belief) {
	best := 0
	for k, l := range loads() {
		w := g.grid.filtered[k]
		if k < unloaded {
			b.Quiet += w
		}
		b.Slowdown += w * l.slowdown
		if w > g.grid.filtered[best] {
			best = k
		}
	}
	likeliest := loads()[best]
	b.Every, b.Stolen = likeliest.every, likeliest.stolen
	return b
}

// String says b in plain words.
func (b Belief) String() string {
	if b.Every == 0 {
		return fmt.Sprintf("%.0f %% likely alone on the processor, which is %.2f times slower than profiled", 100*b.Quiet,
			b.Slowdown)
	}
	return fmt.Sprintf("%.0f %% likely alone on the processor; likeliest is an interruption of %.0f ms every %.0f ms "+
		"of work", 100*b.Quiet, b.Stolen, b.Every)
}
