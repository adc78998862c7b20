package governor

import (
	"math"
	"time"
)

const (
	margin   = 0.5 // points by which a member must beat the standing choice
	optimism = 1.0 // points granted to a larger member for each point it may turn out to be worth
	noHope   = 5.0 // points: below this nothing is likely to meet the deadline

	overrun = 5.0 // points lost for each time a mean latency exceeds the share once over
)

// Pick is the choice without a queue: the member of highest expected effective
// accuracy, which is its top-1 times its chance to meet deadline. The standing
// choice gives way to a better one at once, up or down, but only by a margin;
// a larger one is given credit for what running it may reveal.
func (g *Grid) Pick(deadline time.Duration) int {
	o := g.outlook(g.filtered, deadline, math.Inf(1))
	everyone := all(len(g.rows))
	switch b, lead := o.challenger(everyone, g.current); {
	case o.hopeless(everyone):
		g.current = everyone.first()
	case lead > margin:
		g.current = b
	}
	return g.current
}

// outlook is what each member is worth for one deadline and share of time
// under a belief.
type outlook struct {
	belief belief
	points [MaxMembers]belief  // top-1 times chance to meet the deadline, under each level
	worth  [MaxMembers]float64 // the same under the belief: expected effective accuracy
	mean   [MaxMembers]float64 // expected latency, ms
	score  [MaxMembers]float64 // worth, less what the mean takes beyond the share
}

// outlook works out what every member is worth for a deadline, if each may take
// share milliseconds on average.
func (g *Grid) outlook(b belief, deadline time.Duration, share float64) (o outlook) {
	o.belief = b
	ln := math.Inf(-1)
	if deadline > 0 {
		ln = math.Log(milliseconds(deadline))
	}
	for j := range g.rows {
		x := g.position(j, ln)
		for k, w := range b {
			row := &g.rows[j][k]
			o.points[j][k] = g.points[j] * row.upTo(x)
			o.worth[j] += w * o.points[j][k]
			o.mean[j] += w * row.mean * g.profile[j]
		}
		o.score[j] = o.worth[j] - overrun*max(0, o.mean[j]/share-1)
	}
	return o
}

// sustain takes from each member what it cannot be worth in the long run: where
// jobs come every gap milliseconds and a member takes longer on average, the
// rest of them must be refused. Members up to proven are spared: that they keep
// up is a fact.
func (o *outlook) sustain(g *Grid, steady belief, gap float64, proven int) {
	for j := proven + 1; j < len(g.rows); j++ {
		served := 0.0
		for k, w := range steady {
			served += w * min(1, doubt*gap/(g.rows[j][k].mean*g.profile[j]))
		}
		o.score[j] -= o.worth[j] * (1 - served)
		o.worth[j] *= served
		for k := range o.points[j] {
			o.points[j][k] *= served
		}
	}
}

// hopeless reports that nothing among some members is likely to meet the
// deadline. The smallest of them is then the least late.
func (o *outlook) hopeless(among set) bool {
	return o.worth[best(among, &o.worth)] < noHope
}

// challenger is the best member among some, and its lead in points over
// current. A larger one than current is given credit for what running it may
// reveal. Without a current one, which is negative, the lead is infinite.
func (o *outlook) challenger(among set, current int) (member int, lead float64) {
	if current < 0 {
		return best(among, &o.score), math.Inf(1)
	}
	score := o.score
	for j := current + 1; j < MaxMembers; j++ {
		score[j] += optimism * o.promise(current, j)
	}
	b := best(among, &score)
	return b, score[b] - score[current]
}

// promise is what member to may be worth beyond member from, if the load turns
// out to be one at which it is worth more.
func (o *outlook) promise(from, to int) float64 {
	sum := 0.0
	for k, w := range o.belief {
		sum += w * max(0, o.points[to][k]-o.points[from][k])
	}
	return sum
}

// best is the member with the highest figure, the smaller one of equals.
func best(among set, figure *[MaxMembers]float64) int {
	best := among.first()
	for j := best + 1; j < MaxMembers; j++ {
		if among.has(j) && figure[j] > figure[best] {
			best = j
		}
	}
	return best
}
