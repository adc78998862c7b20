package governor

import (
	"fmt"
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

// String is the code word: lower case, stable.
func (r Reason) String() string {
	return [...]string{"best", "queue", "batch", "hold", "floor", "probe", "fixed", "fastest", "cheapest", "infeasible",
		"busy"}[r]
}

// Explain says d in plain words, for an event or a log. It allocates.
func (g *Governor) Explain(d Decision) string {
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
