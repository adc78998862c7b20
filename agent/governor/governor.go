// Package governor is the runtime manager: it decides, job by job, which member
// of a family runs, or that a job is refused because it cannot be answered in
// time. It is pure: time comes in as an argument, observations come in,
// decisions go out. The same calls give the same decisions, bit for bit, so a
// recorded run can be replayed and explained.
//
// It is built in two layers.
//
// Grid, the lower one, believes. It is a Bayes filter over loads: hypotheses of
// how fast the processor is and how often, and for how long, others interrupt a
// run. From the physics of each follows how long every member takes under it,
// so one inference by any member tells about all of them. From the belief
// follows what a member is worth for a deadline: its top-1 times its chance to
// be in time, the expected effective accuracy. Learned are which loads this
// device meets, how often they change, what a hint from outside is worth
// (only replays give one), and where a profile is off; Experience keeps that over
// a restart.
//
// Governor, the upper one, acts. In mode balanced it keeps an operating member,
// the standing choice for a job that finds the device free:
//
//	smaller ←─────────────────── operating ──────────────────→ larger
//	         at once when better              when better by a margin, counting
//	         by a small margin                what it may reveal; after a dwell,
//	                                          within a budget of moves
//
// A member that takes longer than the time between two arrivals, on average and
// for a while, is worth only the share of jobs it could answer. The operating
// member, as long as nobody waits, is the proof that it keeps up.
//
// Each job is taken from the head of the queue through these questions:
//
//	can any member do it? ── no ──→ infeasible
//	is the smallest likely to be in time? ── no ──→ busy, unless nothing was observed for 100 ms
//	does the job find the device free? ── yes ──→ the operating member
//	── no ──→ up to the operating member, the best after what it takes from those who wait
//	does that meet the job's floor? ── no ──→ the smallest member that does
//	are others ready to run with it, and is a batch better for all? ── yes ──→ that
//
// The one rule that makes it correct: whatever it believes, it goes on
// observing. A governor that only sheds, or only runs the smallest member,
// which often looks the same on a loaded device, would never learn that the
// load has gone. Hence the job served after 100 ms without an observation, the
// credit for what a larger member may reveal, and the forgetting while idle.
package governor

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// MaxMembers bounds a family, and with it the cost of a decision.
const MaxMembers = 16

// Member is one sub-network as the governor sees it.
type Member struct {
	Name    string
	Top1    float64       // validation accuracy, in (0, 1]
	Latency time.Duration // the profile: median of one unloaded inference on this device
}

// Governor chooses a member for every job. It has one owner: its methods must
// not run at the same time. Every now is on one clock that does not go back,
// such as the time since the program started.
type Governor struct{ View }

// View is what a governor can be asked that changes nothing in it.
type View struct {
	members  []Member
	eligible set
	mode     Mode
	fixed    int // index of the member that mode fixed names
	grid     *Grid
	arrivals rate // that had to wait, over a burst
	demand   rate // all, over many bursts, while jobs have to wait
	jobs     rate // all, always
	power    Power
	waited   time.Duration // the last arrival that had to wait
	steady   belief        // the filtered belief, averaged over the last inferences
	crowd    float64       // jobs waiting, averaged likewise
	pace     float64       // what inferences take, in units of the mean expected of them, averaged likewise
	usual    usual
	standing standing
	profile  contradiction
	scale    float64 // of the profiles now in use to those given
	revision int     // of the rules it decides by
	observed bool
	running  bool          // a decision to run was taken, its inference not yet observed
	last     time.Duration // end of the last observed inference
	outlooks [2]outlook    // room for those of a moment
}

// The revisions of the rules. Older ones are for the logs of older versions, which
// are repeated bit for bit.
const (
	byFindings = 1          // farthest goes by what members were found to take
	newest     = byFindings // of a governor that is not restored
)

// New starts a governor for a Pareto front of 1 to MaxMembers members, sorted:
// each slower and more accurate than the one before. All of them are eligible
// until SetEligible says otherwise. tables are shared with other governors; nil:
// with none.
func New(members []Member, mode Mode, tables *Tables) (*Governor, error) {
	if err := validate(members); err != nil {
		return nil, err
	}
	g := &Governor{View{
		members:  append([]Member(nil), members...),
		eligible: all(len(members)),
		grid:     NewGrid(members, tables),
		standing: newStanding(),
		arrivals: rate{memory: rateMemory},
		demand:   rate{memory: demandMemory},
		jobs:     rate{memory: demandMean},
		scale:    1,
		pace:     1,
		revision: newest,
	}}
	g.steady = g.grid.prior
	return g, g.SetMode(mode)
}

func validate(members []Member) error {
	if n := len(members); n < 1 || n > MaxMembers {
		return fmt.Errorf("family of %d members: a governor chooses among 1 to %d", n, MaxMembers)
	}
	for j, m := range members {
		if m.Latency <= 0 {
			return fmt.Errorf("member %s: latency %v is not positive: profile it on this device", m.Name, m.Latency)
		}
		if !(m.Top1 > 0 && m.Top1 <= 1) { // also refuses NaN
			return fmt.Errorf("member %s: top-1 %v is not in (0, 1]", m.Name, m.Top1)
		}
		if j == 0 {
			continue
		}
		if b := members[j-1]; m.Latency <= b.Latency || m.Top1 <= b.Top1 {
			return fmt.Errorf("member %s (%v, top-1 %.4f) is not slower and more accurate than %s (%v, top-1 %.4f): keep the "+
				"Pareto front, sorted by latency",
				m.Name, m.Latency, m.Top1, b.Name, b.Latency, b.Top1)
		}
	}
	return nil
}

// SetMode changes the mode from the next decision on, without dwell. Its only
// error is a member that does not exist in fixed:M; the mode then stays.
func (g *Governor) SetMode(m Mode) error {
	if m.kind == fixed {
		j, err := g.find(m.member)
		if err != nil {
			return fmt.Errorf("mode %s: %w", m, err)
		}
		g.fixed = j
	}
	g.mode = m
	g.standing.vacate()
	return nil
}

func (g *View) find(name string) (int, error) {
	names := make([]string, len(g.members))
	for j, m := range g.members {
		if m.Name == name {
			return j, nil
		}
		names[j] = m.Name
	}
	return 0, fmt.Errorf("no member has this name; there are %s", strings.Join(names, ", "))
}

// Mode is the mode in force.
func (g *View) Mode() Mode { return g.mode }

// SetEligible says from the next decision on which members may be chosen, one
// flag for each: those that are loaded and proved themselves on this device.
// At least one must stay. An error leaves everything as it was.
func (g *Governor) SetEligible(eligible []bool) error {
	if len(eligible) != len(g.members) {
		return fmt.Errorf("eligibility of %d members given for a family of %d", len(eligible), len(g.members))
	}
	var s set
	for j, ok := range eligible {
		if ok {
			s |= 1 << j
		}
	}
	if s == 0 {
		return fmt.Errorf("none of %d members eligible: at least one must stay", len(g.members))
	}
	g.eligible = s
	return nil
}

// Operating is the index of the operating member.
func (g *View) Operating() int {
	switch {
	case g.mode.kind == fixed: // also where its member came back since the last decision
		return g.nearest(g.fixed)
	case g.eligible.has(g.standing.Member):
		return g.standing.Member
	case g.mode.kind == lowLatency || g.mode.kind == powerSave:
		return g.smallestGood(g.eligible)
	case g.eligible.has(g.standing.Told):
		return g.standing.Told
	}
	return g.eligible.first()
}

// Slowdown is the factor by which the operating member is expected to take
// longer than the profile New was given, under the belief; 1 is unloaded.
func (g *View) Slowdown() float64 {
	operating := g.Operating()
	t := &g.grid.single[operating]
	return g.grid.filtered.dot(&t.table.mean) * g.scale * t.alone / t.profile
}

// Arrive counts a job that joined the queue. Choices make room for the arrivals
// that had to wait. Those that find the device free do not count: a client that
// awaits each answer before it asks again adapts to the device, and must not
// drive it to ever smaller members.
func (g *Governor) Arrive(now time.Duration) {
	g.jobs.arrive(now)
	if g.running || now < g.last {
		g.arrivals.arrive(now)
		g.waited = now
	}
	if now-g.waited < contended {
		g.demand.arrive(now)
	}
}

// Observe takes the latency of one run by member, of one image or of Batch, that
// ended now. Failed and cancelled inferences must not be observed: they say
// nothing about load. A latency that is not positive is the fault of a clock and
// is ignored, as is a member that does not exist, or a batch it does not take.
func (g *Governor) Observe(now time.Duration, member, images int, latency time.Duration) {
	if member < 0 || member >= len(g.members) || latency <= 0 || g.grid.timing(member, images).table == nil {
		return
	}
	g.grid.Idle(g.idle(now - latency))
	t := g.grid.timing(member, images)
	if images == 1 { // a batch alone says nothing of the profiles of others
		if scale, ok := g.profile.meet(milliseconds(latency) / t.profile); ok {
			g.grid.rescale(scale)
			g.scale *= scale
		}
	}
	expected := t.alone * g.grid.predicted.dot(&t.table.mean)
	g.pace += (min(milliseconds(latency)/expected, mostPace) - g.pace) / steadiness
	g.grid.Observe(member, images, latency)
	g.steady = mix(g.steady, g.grid.filtered, 1-1.0/steadiness)
	g.standing.earn(now)
	g.last, g.observed, g.running = now, true, false
}

func (g *View) idle(now time.Duration) time.Duration {
	if !g.observed {
		return 0
	}
	return max(0, now-g.last)
}

// Decide chooses what to do with the job at the head of q. It reads q.Waiting
// only before it returns, and allocates nothing.
func (g *Governor) Decide(now time.Duration, q Queue) Decision {
	m := g.moment(now, q)
	g.stand(&m)
	d := Decision{Slack: m.slack, Waiting: m.waiting, Operating: g.Operating()}
	d.Previous, d.Switched = g.standing.report(d.Operating)
	d.Member, d.Reason, d.Shed = g.serve(&m)
	g.running = !d.Shed
	d.Predicted = time.Duration(m.head.mean[d.Member] * float64(time.Millisecond))
	d.Chance = m.head.likely(g.grid, d.Member)
	if d.Batch = 1; !d.Shed && q.Ready >= Batch-1 {
		g.gather(&m, &d)
	}
	return d
}

// moment is everything a decision looks at, worked out once.
type moment struct {
	now     time.Duration
	slack   time.Duration // left to the head
	waiting int
	alone   bool     // nobody waits, and the head did not either
	fits    set      // eligible members that meet the head's floor, or else the goal's
	allowed set      // eligible members that the goal leaves
	among   set      // members to choose the head's from: those, or more if it asks for less than the goal
	share   float64  // ms that one image may take on average, for the sake of those that wait or arrive
	room    float64  // the same at the present rate of arrivals only, if the mode cares
	head    *outlook // of the head: its own slack, time shared with the queue
	usual   *outlook // of a job that finds the device free
}

// moment works that out. It also takes note of the head's slack and of how many
// wait: it is called once for a decision.
func (g *Governor) moment(now time.Duration, q Queue) moment {
	m := moment{
		now:     now,
		slack:   q.Deadline - now,
		waiting: min(len(q.Waiting), Lookahead),
		allowed: g.within(now),
		room:    math.Inf(1),
		share:   q.share(now, g.arrivals.at(now)),
	}
	m.fits, m.among = m.allowed, m.allowed
	if q.Floor != 0 { // a job's own floor overrides the goal, also one that is no number
		m.fits = g.atLeast(q.Floor)
	}
	less := q.Floor > 0 && q.Floor < g.mode.goal.Floor
	if less {
		m.among = m.fits
	}
	share := math.Inf(1)
	if g.mode.kind == balanced {
		share, m.room = m.share, Queue{Overhead: q.Overhead, Decode: q.Decode}.share(now, g.arrivals.at(now))
	}
	g.usual.meet(now, min(m.slack, g.farthest()))
	m.alone = !less && m.waiting == 0 && g.usual.like(min(m.slack, g.farthest()))
	b := mix(g.grid.filtered, g.grid.prior, kept(g.idle(now)))
	m.head, m.usual = &g.outlooks[0], &g.outlooks[1]
	m.head.look(g.grid, &b, m.slack, share)
	if m.slack == g.usual.slack && share == m.room {
		*m.usual = *m.head
	} else {
		m.usual.look(g.grid, &b, g.usual.slack, m.room)
	}
	if g.mode.kind == balanced {
		m.usual.pool(g.grid, m.room)
		steady := mix(g.steady, g.grid.prior, kept(g.idle(now)))
		proven := -1
		if g.crowd += (float64(m.waiting) - g.crowd) / steadiness; g.crowd < crowded {
			proven = g.standing.Member
		}
		gap := max(leastShare, g.demand.at(now).gap()-milliseconds(q.Overhead), milliseconds(q.Decode))
		m.usual.sustain(g.grid, &steady, g.pace, gap, proven)
	}
	return m
}

// farthest is a slack within which any member is in time under any load the
// grid knows. More is no different. It goes by what members were found to take
// unloaded: the profile of a member that is slower than that lies within its last
// bin, where its chance seems to be less than 1.
func (g *Governor) farthest() time.Duration {
	if g.revision < byFindings {
		slowest := g.grid.single[len(g.members)-1].profile
		return time.Duration(binHigh * slowest * float64(time.Millisecond))
	}
	slowest := 0.0
	for j := range g.grid.single {
		slowest = max(slowest, g.grid.single[j].alone)
	}
	return time.Duration(beyond * slowest * float64(time.Millisecond))
}

// atLeast holds the eligible members that reach a top-1.
func (g *View) atLeast(top1 float64) (s set) {
	for j, m := range g.members {
		if g.eligible.has(j) && m.Top1 >= top1 {
			s |= 1 << j
		}
	}
	return s
}

// Hint tells how many others compete for the processor, read just before the
// next decision: see Grid.Hint. No device does: it is for replays, of traces that
// know their load and of old decision logs.
func (g *Governor) Hint(competitors int) { g.grid.Hint(competitors) }
