package governor

import (
	"math"
	"math/bits"
	"time"
)

const (
	optimism = 0.75 // points granted to a larger member for each point it may turn out to be worth
	noHope   = 5.0  // points: below this nothing is likely to meet the deadline
	overrun  = 5.0  // points lost for each time a mean latency exceeds the share once over
)

// outlook is what each member is worth for one deadline and share of time
// under a belief.
type outlook struct {
	belief belief
	ms     float64             // to the deadline
	ln     float64             // natural logarithm of ms
	chance [MaxMembers]belief  // to meet the deadline, under each load
	points [MaxMembers]float64 // top-1, less what cannot be sustained
	worth  [MaxMembers]float64 // points times chance under the belief: expected effective accuracy
	mean   [MaxMembers]float64 // expected latency, ms
	score  [MaxMembers]float64 // worth, less what the mean takes beyond the share
}

// look works out what every member is worth for a deadline, if each image may
// take share milliseconds on average.
func (o *outlook) look(g *Grid, b *belief, deadline time.Duration, share float64) {
	o.belief, o.ms, o.ln = *b, milliseconds(deadline), math.Inf(-1)
	if deadline > 0 {
		o.ln = math.Log(o.ms)
	}
	for j := range g.single {
		t := &g.single[j]
		likely := t.table.upTo(g.position(t, o.ln), b, &o.chance[j])
		o.points[j] = g.points[j]
		o.worth[j] = g.points[j] * likely
		o.mean[j] = t.alone * b.dot(&t.table.mean)
		o.score[j] = o.worth[j] - penalty(o.mean[j], share)
	}
}

// penalty is what a mean latency beyond the share takes from those who wait.
func penalty(mean, share float64) float64 { return overrun * max(0, mean/share-1) }

// run is the chance of a run to meet the deadline, and its expected latency in
// milliseconds.
func (o *outlook) run(g *Grid, t *timing) (chance, mean float64) {
	return t.table.likely(g.position(t, o.ln), &o.belief), t.alone * o.belief.dot(&t.table.mean)
}

// likely is the chance of a member to meet the deadline under the belief. Its
// quotient may be off by rounding, but no chance is over 1.
func (o *outlook) likely(g *Grid, member int) float64 {
	return min(1, o.worth[member]/g.points[member])
}

// sustain takes from each member what it cannot be worth in the long run: where
// jobs come every gap milliseconds and a member takes longer on average, the
// rest of them must be refused; of a member that takes batches, they are run in
// these. Members up to proven are spared: that they keep up is a fact. pace
// corrects the means, which belong to a model.
func (o *outlook) sustain(g *Grid, steady *belief, pace, gap float64, proven int) {
	for j := proven + 1; j < len(g.single); j++ {
		t, images := g.each(j, o.ms)
		served, room := 0.0, doubt*gap*images/(pace*t.alone)
		if room >= meanLimit { // no mean is longer
			continue
		}
		for k, w := range steady {
			served += w * min(1, room*t.table.rate[k])
		}
		o.score[j] -= o.worth[j] * (1 - served)
		o.worth[j] *= served
		o.points[j] *= served
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
	for larger := among.above(current); larger != 0; larger = larger.above(larger.first()) {
		score[larger.first()] += optimism * o.promise(current, larger.first())
	}
	b := best(among, &score)
	return b, score[b] - score[current]
}

// promise is what member to may be worth beyond member from, if the load turns
// out to be one at which it is worth more.
func (o *outlook) promise(from, to int) float64 {
	sum := 0.0
	now, then := &o.chance[from], &o.chance[to]
	for k, w := range o.belief {
		sum += w * max(0, o.points[to]*then[k]-o.points[from]*now[k])
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

// set is a set of members by index.
type set uint16

// all holds the first n members.
func all(n int) set { return set(1<<n - 1) }

func (s set) has(member int) bool { return member >= 0 && s>>member&1 == 1 }

// first is the smallest member of a set that is not empty.
func (s set) first() int { return bits.TrailingZeros16(uint16(s)) }

// last is the largest member of a set that is not empty.
func (s set) last() int { return bits.Len16(uint16(s)) - 1 }

// upTo holds the members of s that are not larger than member.
func (s set) upTo(member int) set { return s & all(member+1) }

// above holds the members of s that are larger than member.
func (s set) above(member int) set { return s &^ all(member+1) }
