package governor

import (
	"math"
	"time"
)

const (
	jump     = 0.01 // chance per inference that the load becomes any other
	drift    = 0.05 // chance per inference that it moves to a neighbouring level
	credited = 0.02 // least belief in a level for an observation to teach its row

	idleGrace  = 50 * time.Millisecond // without an observation before the belief fades
	idleMemory = 2 * time.Second       // time constant of the fading after that
)

// Grid is a Bayes filter over load levels. For every level and member it keeps
// a histogram of latency in units of the member's profile, started from a
// physical prior and learned online; what was learned under a load is back at
// once when that load returns. It knows nothing of time but what it is told.
type Grid struct {
	points     []float64 // top-1 of each member, percent
	logProfile []float64 // natural logarithm of each member's profile, ms
	profile    []float64 // ms
	rows       [][levels]row
	lowest     float64 // natural logarithm of binLow
	width      float64 // natural logarithm of binRatio

	prior     belief
	filtered  belief // given everything observed: for choosing
	predicted belief // the same one inference later: for observing
	current   int    // Pick's standing choice, -1 before the first
	hint      hint
}

// NewGrid starts a filter for members, which New would accept.
func NewGrid(members []Member) *Grid {
	g := &Grid{
		lowest: math.Log(binLow), width: math.Log(binRatio),
		prior: priorBelief(), current: -1, hint: newHint(),
	}
	g.filtered, g.predicted = g.prior, g.prior
	for _, m := range members {
		p := milliseconds(m.Latency)
		var rows [levels]row
		for k, l := range loads() {
			rows[k] = priorRow(l, p)
		}
		g.points = append(g.points, 100*m.Top1)
		g.profile = append(g.profile, p)
		g.logProfile = append(g.logProfile, math.Log(p))
		g.rows = append(g.rows, rows)
	}
	return g
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// position places a latency, given as the logarithm of its milliseconds, on
// member's histogram: in bins above the lower edge of the first.
func (g *Grid) position(member int, logMS float64) float64 {
	return (logMS - g.logProfile[member] - g.lowest) / g.width
}

// Observe takes the latency of one inference by member. A cancelled or failed
// inference says nothing about load and must not be observed.
func (g *Grid) Observe(member int, latency time.Duration) {
	x := g.position(member, math.Log(max(milliseconds(latency), 1e-3)))
	b := min(bins-1, max(0, int(x)))
	rows := &g.rows[member]
	var likelihood belief
	for k := range rows {
		likelihood[k] = rows[k].weight[b] / rows[k].total
	}
	g.hint.judge(likelihood)
	g.filtered = posterior(g.predicted, likelihood)
	for k, w := range g.filtered {
		if w >= credited {
			rows[k].add(b, w)
		}
	}
	g.hint.learn(g.filtered)
	g.predicted = g.predict()
}

func posterior(prior, likelihood belief) (p belief) {
	sum := 0.0
	for k := range p {
		p[k] = prior[k] * likelihood[k]
		sum += p[k]
	}
	for k := range p {
		p[k] /= sum
	}
	return p
}

// predict lets the load drift or jump, once per inference.
func (g *Grid) predict() belief {
	var p belief
	for k, w := range g.filtered {
		p[k] += w * (1 - drift)
		p[max(k-1, 0)] += w * drift / 2
		p[min(k+1, levels-1)] += w * drift / 2
	}
	return mix(p, g.prior, 1-jump)
}

// mix keeps share of a and takes the rest from b.
func mix(a, b belief, share float64) (m belief) {
	for k := range m {
		m[k] = share*a[k] + (1-share)*b[k]
	}
	return m
}

// Idle forgets: nothing was observed for d, so the load may have changed.
func (g *Grid) Idle(d time.Duration) {
	keep := kept(d)
	g.filtered = mix(g.filtered, g.prior, keep)
	g.predicted = mix(g.predicted, g.prior, keep)
}

// kept is the share of a belief that outlives d without an observation.
func kept(d time.Duration) float64 {
	if d < idleGrace {
		return 1
	}
	return math.Exp(-milliseconds(d-idleGrace) / milliseconds(idleMemory))
}
