package governor

import (
	"fmt"
	"math"
	"time"
)

const (
	tooUnlikely = 0.4 // chance to be in time below which a job is shed
)

func (g *Governor) serve(m *moment) (member int, why Reason, shed bool) {
	if m.fits == 0 {
		return g.eligible.last(), Infeasible, true
	}
	if least := g.least(m.fits); !g.likely(m, least) {
		switch {
		case !g.blind(m.now):
			return least, Busy, true
		case m.usual.hopeless(m.fits):
			return least, Infeasible, false
		default:
			return least, Probe, false
		}
	}
	member, why = g.byMode(m)
	if !m.fits.has(member) {
		return m.fits.first(), Floor, false
	}
	return member, why, false
}

// least is the smallest member that the mode may run for a job that accepts
// those in fits.
func (g *View) least(fits set) int {
	if operating := g.Operating(); g.mode.kind == fixed && fits.has(operating) {
		return operating
	}
	return fits.first()
}

func (g *Governor) likely(m *moment, member int) bool {
	return m.head.worth[member] >= tooUnlikely*g.grid.points[member]
}

// Blind is how long nothing may be observed before the next job is served whatever
// its chance. Without it a governor that sheds would never learn that the load has
// gone.
const Blind = 100 * time.Millisecond

func (g *Governor) blind(now time.Duration) bool {
	return !g.observed || now-g.last > Blind
}

// byMode is the member that the mode wants for a job without a floor.
func (g *Governor) byMode(m *moment) (int, Reason) {
	switch operating := g.Operating(); {
	case g.mode.kind == fixed:
		if operating != g.fixed {
			return operating, Hold
		}
		return operating, Fixed
	case g.mode.modest():
		why := Fastest
		if g.mode.kind == powerSave {
			why = Cheapest
		}
		if g.likely(m, operating) {
			return operating, why
		}
		return m.among.first(), why
	case g.mode.kind == maxAccuracy:
		return best(m.among, &m.head.worth), Best // if nobody else mattered
	default:
		return g.balance(m)
	}
}

// balance is the choice up to the operating member that leaves the others in
// the queue their share of time.
func (g *Governor) balance(m *moment) (int, Reason) {
	operating := g.Operating()
	among := m.among.upTo(max(operating, m.among.first()))
	member := best(among, &m.head.score)
	if m.alone {
		member = operating
	}
	switch {
	case member >= best(m.among, &m.head.worth):
		return member, Best
	case best(m.among, &m.head.score) > member:
		return member, Hold
	default:
		return member, Queued
	}
}

const (
	rateMemory   = 300.0 // time constant of the arrival rate, ms
	rateHeadroom = 2.0   // mean gaps between arrivals that one inference may fill
	fairShare    = 0.5   // of its share of time that an inference may use on average
	leastShare   = 1e-3  // ms

	doubt        = 1.15                   // factor by which a mean latency may be too high an estimate
	mostPace     = 3.0                    // that one inference counts for in the pace
	steadiness   = 48.0                   // inferences that the steady belief and the crowd are averaged over
	crowded      = 2.0                    // jobs waiting on average: the operating member does not keep up
	demandMemory = 1500.0                 // time constant of the sustained rate, ms: longer than a burst
	contended    = 100 * time.Millisecond // after an arrival that had to wait, all arrivals count as demand
)

// Lookahead is how many waiting jobs share the time with the head.
const Lookahead = 16

// Queue is what waits at the moment of a decision. Times are on the clock of
// Decide's now.
type Queue struct {
	Deadline time.Duration   // when the head, the job to decide, must be answered
	Floor    float64         // least top-1 the head accepts, in [0, 1]; 0 is none
	Waiting  []time.Duration // deadlines of the jobs behind it, in the order of service; the first Lookahead are read
	Ready    int             // jobs of Waiting that could run in one batch with the head now
	Overhead time.Duration   // what one job takes beyond its expected latency while others wait; 0 if unknown
	// Decode is the time between two frames that those who decode hand over, if
	// they never wait. They work beside the inferences, so one that takes no longer
	// costs nobody anything. 0 if unknown, or if nothing is left to decode.
	Decode time.Duration
}

// share is the time in milliseconds that one image may take on average
// when arrivals come at rate r: half of what is left to the tightest of the
// waiting jobs, divided among those up to it, and half of what two arrivals
// leave. The head's own deadline is a matter of chance, not of the mean, and
// jobs that are already late need no time. Where the frames come from decoding
// one by one, an inference may fill the time between two of them in any case.
func (q Queue) share(now time.Duration, r rate) float64 {
	share := r.headroom()
	for n, deadline := range q.Waiting[:min(len(q.Waiting), Lookahead)] {
		if deadline > now {
			share = min(share, milliseconds(deadline-now)/float64(n+2))
		}
	}
	return max(leastShare, fairShare*share-milliseconds(q.Overhead), milliseconds(q.Decode))
}

// rate is the recent rate of arrivals per millisecond, a moving average that
// forgets exponentially. Its exported fields are in snapshots.
type rate struct {
	memory float64 // time constant, ms
	PerMS  float64
	Last   time.Duration
}

func (r *rate) arrive(now time.Duration) {
	gap := max(0, now-r.Last)
	r.PerMS = r.PerMS*math.Exp(-milliseconds(gap)/r.memory) + 1/r.memory
	r.Last = now
}

// at is the rate as it has faded by now. Not every arrival counts, so that the
// last one may be long ago.
func (r rate) at(now time.Duration) rate {
	r.PerMS *= math.Exp(-milliseconds(max(0, now-r.Last)) / r.memory)
	return r
}

// gap is the mean time between two arrivals, in milliseconds.
func (r rate) gap() float64 { return 1 / max(r.PerMS, 1e-9) }

// headroom is the time two arrivals leave, in milliseconds.
func (r rate) headroom() float64 { return rateHeadroom / max(r.PerMS, 1e-9) }

// Batch is how many images a member takes at once, where it takes more than one.
// On the CPU this was measured on, the images of the stock members take 0.75 to
// 0.92 of the time then, those of small members the least, and by eight at once
// hardly less: more would only make the first of them wait.
const Batch = 4

const (
	worthwhile = 0.95 // of what its images take one at a time: a batch that takes more is none
	inTurn     = 2.0  // batches that must fit into a deadline, as who just missed one waits for it

	tie       = 0.1 // points: less is no difference
	longQueue = 8   // jobs that wait: from here on the time saved is reason enough
)

// SetBatch tells what member takes for Batch images at once, unloaded; 0 if it
// cannot take them. Without it, or where that gains nothing, its images run one
// at a time. The error names a member that does not exist, or a latency that is
// negative.
func (g *Governor) SetBatch(member int, latency time.Duration) error {
	if member < 0 || member >= len(g.members) || latency < 0 {
		return fmt.Errorf("a batch of %v by member %d of %d: wants one that exists, and a latency", latency, member,
			len(g.members))
	}
	g.grid.setBatch(member, milliseconds(latency)*g.scale)
	return nil
}

// setBatch takes the profile of a member's batches, in milliseconds.
func (g *Grid) setBatch(member int, profile float64) {
	g.batch[member] = timing{}
	if profile > 0 && profile <= worthwhile*Batch*g.single[member].profile {
		g.batch[member] = timing{profile: profile, table: g.tables.of(profile)}
		g.adjust(member)
	}
}

// each is how long an image takes member if there are always enough for a
// batch, but not so long that it would miss a deadline for waiting: the timing,
// and the number of images it is of.
func (g *Grid) each(member int, deadline float64) (t *timing, images float64) {
	if t := &g.batch[member]; t.table != nil && inTurn*t.alone <= deadline {
		return t, Batch
	}
	return &g.single[member], 1
}

// pool scores members that take batches by what an image takes in one, where the
// time that each may take is room.
func (o *outlook) pool(g *Grid, room float64) {
	for j := range g.batch {
		if t, images := g.each(j, o.ms); images > 1 {
			o.score[j] = o.worth[j] - penalty(t.alone*o.belief.dot(&t.table.mean)/images, room)
		}
	}
}

// gather makes a batch of the job that was decided on and those that are ready
// to go with it, where that is better for all of them: each counts as if it had
// the first one's deadline, which is the tightest, but takes its part of the
// time only. In mode balanced a larger member may be worth it then. Where it makes
// no difference, a batch saves time, but lets the first one wait: a long queue
// decides for it, a short one against it.
func (g *Governor) gather(m *moment, d *Decision) {
	among := set(1 << d.Member)
	switch {
	case d.Reason == Probe || d.Reason == Infeasible: // only one job is served whatever its chance
		return
	case g.mode.kind == balanced:
		among |= m.among.upTo(g.Operating()).above(d.Member) & m.fits
	case d.Reason == Floor: // the mode has another member for the others
		return
	}
	best := m.head.worth[d.Member] - penalty(m.head.mean[d.Member], m.share) + tie
	if m.waiting >= longQueue {
		best -= 2 * tie
	}
	for ; among != 0; among = among.above(among.first()) {
		j := among.first()
		t := &g.grid.batch[j]
		if t.table == nil {
			continue
		}
		chance, mean := m.head.run(g.grid, t)
		if chance < tooUnlikely {
			continue
		}
		if score := g.grid.points[j]*chance - penalty(mean/Batch, m.share); score > best {
			best = score
			d.Member, d.Batch, d.Reason = j, Batch, Together
			d.Chance, d.Predicted = min(1, chance), time.Duration(mean*float64(time.Millisecond))
		}
	}
}
