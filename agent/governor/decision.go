package governor

import (
	"fmt"
	"math"
	"sort"
	"time"
)

// Decision is what to do with the job at the head of the queue, and the
// figures that led to it.
type Decision struct {
	Member    int           // index of the member to run; when Shed, of the one that came closest
	Batch     int           // jobs to run at once, the head and those ready behind it: 1 or Batch
	Shed      bool          // do not run the job: refuse it, for Reason
	Reason    Reason        // why this member, or why not
	Slack     time.Duration // what was left to the job's deadline; negative when it has passed
	Predicted time.Duration // mean latency of this run of Member expected under the belief
	Chance    float64       // that Member is in time, in [0, 1]
	Waiting   int           // jobs behind this one, at most 16
	Operating int           // the operating member
	Previous  int           // the operating member at the decision before
	Switched  bool          // whether they differ
}

// Reason is the code word of a decision, as results carry it.
type Reason uint8

// The reasons. A Decision is Shed for Infeasible or Busy, never for another.
const (
	Best     Reason = iota // highest expected accuracy within the job's own slack
	Queued                 // smaller than that, because others wait or arrive
	Together               // in a batch with some that wait, which takes less time for each
	// smaller than that, because the operating member stays for now; or M of fixed:M is not eligible
	Hold
	Floor    // raised to the top-1 that the job asks for
	Probe    // run to find out about the load: nothing was observed for 100 ms
	Fixed    // mode fixed:M
	Fastest  // mode low-latency, or a goal that prefers latency
	Cheapest // mode power-save, or a goal that prefers energy
	// Shed: no eligible member has the top-1 asked for; else run, the least late, though no member is
	// in time on a free device
	Infeasible
	Busy // Shed: not even the smallest member is likely to be in time
)

// Reasons is how many there are: all below it.
const Reasons = int(Busy) + 1

// String is the code word: lower case, stable.
func (r Reason) String() string {
	return [...]string{"best", "queue", "batch", "hold", "floor", "probe", "fixed", "fastest", "cheapest", "infeasible",
		"busy"}[r]
}

// Explain says d in plain words, for an event or a log. It allocates.
func (g *View) Explain(d Decision) string {
	name := g.members[d.Member].Name
	slack := fmt.Sprintf("%.1f ms of slack", milliseconds(d.Slack))
	if d.Slack <= 0 {
		slack = fmt.Sprintf("a deadline passed %.1f ms ago", -milliseconds(d.Slack))
	}
	figures := fmt.Sprintf("%.1f ms expected, %.0f %% likely in time", milliseconds(d.Predicted), 100*d.Chance)
	if d.Shed {
		if d.Reason == Infeasible {
			return fmt.Sprintf("refused: no eligible member has the top-1 asked for, the best is %s with %.4f", name,
				g.members[d.Member].Top1)
		}
		return fmt.Sprintf("refused: even %s is not likely to meet %s (%s)", name, slack, figures)
	}
	if d.Reason == Hold && g.mode.kind == fixed {
		return fmt.Sprintf("%s stands in for %s, which is not in use, with %s (%s)", name, g.mode.member, slack, figures)
	}
	of := ""
	if g.eligible != all(len(g.members)) {
		of = " of the members in use"
	}
	return fmt.Sprintf("%s %s, with %s (%s)", name, d.because(of), slack, figures)
}

// because is the reason in words; of names the members that it was chosen from,
// unless those are all.
func (d Decision) because(of string) string {
	switch d.Reason {
	case Queued:
		return fmt.Sprintf("leaves the queue its share, %d waiting", d.Waiting)
	case Together:
		return fmt.Sprintf("takes %d at once, %d waiting", d.Batch, d.Waiting)
	case Hold:
		return "holds until a larger member has proved better"
	case Floor:
		return "is the smallest" + of + " with the top-1 asked for"
	case Probe:
		return "finds out about the load"
	case Fixed:
		return "is fixed by the mode"
	case Fastest:
		return "is the fastest" + of + " with the accuracy that the mode asks for"
	case Cheapest:
		return "takes the least energy" + of + " with the accuracy that the mode asks for"
	case Infeasible:
		return "is the least late, nothing is likely to be in time"
	default:
		return "is the best expected accuracy" + of
	}
}

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
func (g *View) Options(to []Option) []Option {
	o := &g.outlooks[0]
	for j := range g.members {
		to = append(to, Option{Member: j, Eligible: g.eligible.has(j), Predicted: o.mean[j], Chance: o.likely(g.grid, j),
			Worth: o.worth[j], Score: o.score[j]})
	}
	return to
}

// Predicted is the mean latency of a member expected by the last decision.
func (g *View) Predicted(member int) time.Duration {
	return time.Duration(g.outlooks[0].mean[member] * float64(time.Millisecond))
}

// Together is what an image takes member in a batch, expected by the last decision,
// as a part of what it takes alone; 1 where a batch saves nothing.
func (g *View) Together(member int) float64 {
	t, o := &g.grid.batch[member], &g.outlooks[0]
	if t.table == nil || o.mean[member] == 0 {
		return 1
	}
	return min(1, t.alone*o.belief.dot(&t.table.mean)/Batch/o.mean[member])
}

// Needs is the slack from which on member is likely enough to be in time, by the last
// decision, that a job is not refused.
func (g *View) Needs(member int) time.Duration {
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
func (g *View) Least(now time.Duration) int { return g.least(g.within(now)) }

// Smallest is the smallest member that a job with this floor may run, -1 if
// there is none.
func (g *View) Smallest(now time.Duration, floor float64) int {
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
func (g *View) Belief() (b Belief) {
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
