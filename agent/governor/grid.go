package governor

import (
	"math"
	"time"
)

const (
	firstJump  = 0.03  // chance per inference that the load becomes another, before anything was seen
	leastJump  = 0.003 // what it may come down to on a device that is left alone
	mostJump   = 0.05
	jumpWeight = 0.005 // of one inference in that chance

	idleGrace  = 50 * time.Millisecond // without an observation before the belief fades
	idleMemory = 2 * time.Second       // time constant of the fading after that

	habit = 0.005 // weight of one inference in what loads this device usually meets
)

// Grid is a Bayes filter over loads. What each member takes under each load
// follows from the physics of load.go, so one inference by any member tells
// about all of them. It learns which loads this device meets, what a hint is
// worth, and where a profile is off. It knows nothing of time but what it is
// told.
type Grid struct {
	tables *Tables   // where those of profiles come from
	points []float64 // top-1 of each member, percent
	single []timing  // of each member's runs of one image
	batch  []timing  // of each member's runs of Batch images; without a table where it has none
	lowest float64   // natural logarithm of binLow
	width  float64   // natural logarithm of binRatio

	prior     belief
	met       belief  // the loads that were met, a moving average: where a jump goes
	jump      float64 // chance per inference that the load becomes another
	filtered  belief  // given everything observed: for choosing
	predicted belief  // the same one inference later: for observing
	hint      hint
}

// timing is how long a run of a member takes.
type timing struct {
	profile float64 // ms
	bias    bias
	alone   float64 // ms that it takes unloaded, as was found
	log     float64 // natural logarithm of alone
	table   *table
}

// adjust works out what follows from the profile and a bias of it.
func (t *timing) adjust(bias float64) {
	t.alone, t.log = t.profile*math.Exp(bias), math.Log(t.profile)+bias
}

// NewGrid starts a filter for members, which New would accept. tables may be nil.
func NewGrid(members []Member, tables *Tables) *Grid {
	g := &Grid{tables: tables, lowest: math.Log(binLow), width: math.Log(binRatio)}
	for k, l := range loads() {
		g.prior[k] = l.chance
	}
	g.met, g.filtered, g.predicted = g.prior, g.prior, g.prior
	g.jump = firstJump
	g.hint = newHint(g.prior)
	for _, m := range members {
		g.points = append(g.points, 100*m.Top1)
		profile := milliseconds(m.Latency)
		g.single = append(g.single, timing{profile: profile, table: tables.of(profile)})
		g.batch = append(g.batch, timing{})
		g.adjust(len(g.single) - 1)
	}
	return g
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// adjust works out what follows from a member's profiles and their biases. That of
// its batches comes on top of its own.
func (g *Grid) adjust(member int) {
	t, b := &g.single[member], &g.batch[member]
	t.adjust(t.bias.log)
	b.adjust(t.bias.log + b.bias.log)
}

// position places a latency, given as the logarithm of its milliseconds, on
// the histogram of a timing: in bins above the lower edge of the first.
func (g *Grid) position(t *timing, logMS float64) float64 {
	return (logMS - t.log - g.lowest) / g.width
}

// Observe takes the latency of one run by member, of one image or of Batch. A
// cancelled or failed inference says nothing about load and must not be observed.
func (g *Grid) Observe(member, images int, latency time.Duration) {
	t := g.timing(member, images)
	ln := math.Log(max(milliseconds(latency), 1e-3))
	b := min(bins-1, max(0, int(g.position(t, ln))))
	likelihood := t.table.bin(b)
	g.hint.judge(likelihood)
	g.expectJumps(&likelihood)
	g.filtered = posterior(g.predicted, likelihood)
	if t.bias.learn(ln-t.log, &g.filtered) {
		g.adjust(member)
	}
	g.hint.learn(g.filtered)
	for k, w := range g.filtered {
		g.met[k] += habit * (w + g.prior[k] - 2*g.met[k]) // never only what was met
	}
	g.predicted = mix(g.filtered, g.met, 1-g.jump)
}

func (g *Grid) timing(member, images int) *timing {
	if images == 1 {
		return &g.single[member]
	}
	return &g.batch[member]
}

// expectJumps learns how often the load changes, from how likely it is that it
// did before the inference with this likelihood.
func (g *Grid) expectJumps(likelihood *belief) {
	jumped, stayed := g.jump*g.met.dot(likelihood), (1-g.jump)*g.filtered.dot(likelihood)
	g.jump += jumpWeight * (jumped/(jumped+stayed) - g.jump)
	g.jump = min(mostJump, max(leastJump, g.jump))
}

func posterior(prior, likelihood belief) (p belief) {
	for k := range p {
		p[k] = prior[k] * likelihood[k]
	}
	return normalised(p)
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
	if keep == 1 {
		return
	}
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

const (
	biasWeight = 30.0 // inferences that a profile counts for
	biasMemory = 100  // inferences that its correction is averaged over
	biasQuiet  = 0.9  // belief that nothing competes, for an inference to correct a profile
	biasRange  = 0.4  // natural logarithm: what is further off is no error of a profile
)

// bias is by how much a profile is off, compared with the other members.
type bias struct {
	log  float64 // natural logarithm of the factor
	seen float64 // inferences it was learned from
}

// learn corrects the bias by an inference that took exp(log) times what was
// found so far, if that met no competitor. What all members have in common is
// the processor's slowdown, not a bias.
func (b *bias) learn(log float64, filtered *belief) bool {
	quiet, slowdown := 0.0, 0.0
	for k, s := range unloadedSlowdowns() {
		quiet += filtered[k]
		slowdown += filtered[k] * math.Log(s)
	}
	off := log - slowdown/quiet
	if !(quiet > biasQuiet) || math.Abs(off) > biasRange {
		return false
	}
	b.seen = min(b.seen+1, biasMemory)
	b.log += off / (b.seen + biasWeight)
	return true
}

const (
	tooSlow = 5 // inferences in a row beyond the histograms that contradict a profile
	tooFast = 8 // inferences in a row below the histograms that contradict it
)

// contradiction watches for latencies that no load explains: beyond the last
// bin, or faster than an unloaded device can be. One is an outlier; a run of
// them means that the profiles are wrong, such as taken on another device, on
// a busy one, or before its clock was cut. Profiles are then scaled together. It
// is in snapshots.
type contradiction struct {
	Runs  int
	Slow  bool
	Ratio float64 // to the profile, the one of the run closest to 1
}

// meet takes the ratio of one latency to its profile. It returns the factor to
// scale the profiles with, if there is one.
func (c *contradiction) meet(ratio float64) (scale float64, ok bool) {
	if ratio >= binLow && ratio < binHigh {
		*c = contradiction{}
		return 0, false
	}
	slow := ratio >= binHigh
	switch {
	case c.Runs == 0 || slow != c.Slow:
		*c = contradiction{Slow: slow, Ratio: ratio}
	case slow:
		c.Ratio = min(c.Ratio, ratio)
	default:
		c.Ratio = max(c.Ratio, ratio)
	}
	c.Runs++
	if slow && c.Runs < tooSlow || !slow && c.Runs < tooFast {
		return 0, false
	}
	scale = c.Ratio
	*c = contradiction{}
	return scale, true
}

// rescale multiplies every profile and starts the belief afresh.
func (g *Grid) rescale(scale float64) {
	for j := range g.single {
		for _, t := range []*timing{&g.single[j], &g.batch[j]} {
			if t.table != nil {
				t.profile *= scale
				t.table = newTable(t.profile)
			}
		}
		g.adjust(j)
	}
	g.met, g.filtered, g.predicted = g.prior, g.prior, g.prior
}
