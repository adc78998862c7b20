// Package search finds the sub-networks of a supernet that are worth keeping:
// the Pareto front of cost and accuracy.
//
//	Build: samples ──measure──▶ journal ──fit──▶ estimators ──Find──▶ finalists ──measure──▶ Pareto ──spread──▶ members
//	Find:  estimators ──6 islands──▶ front ──exchange──▶ 6 islands ──▶ front of thousands looked at
//
// Find asks estimators only: an accuracy predictor, published or fitted on
// samples measured here, and a cost, from a table or fitted likewise. One call
// answers for every limit, for what is looked at on the way to one limit counts
// for all. Its climbs decide by the predictor and the cost alone; the
// predictor's slope only says which of thousands of changes to look at.
// Estimates are off by more than good networks differ, so Build measures what
// was found before it keeps any of it, and takes the best of its samples along,
// which owe nothing to an estimate.
//
// Three sets of images take part and must not overlap, for the result to mean
// anything: BN statistics are computed on the first, choices are made on the
// second, and what is reported is measured once, on the third. The same seed
// gives the same samples, and of Find the same front. What was measured is in a
// journal, so that a search that was cut off goes on.
package search

import (
	"cmp"
	"context"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ofa"
)

// Plan says how much to measure.
type Plan struct {
	Size      int    // members wanted
	Samples   int    // architectures measured roughly; at most half of them are uniform ones
	Rough     int    // validation images that a sample is measured on
	Finalists int    // architectures measured on all of them, beside the best samples
	Climbs    int    // of Find, see Query
	Seed      uint64 // of everything drawn
}

// Built is what Build found, and how much is to be thought of it.
type Built struct {
	Members  []Entry        // by rising cost and accuracy
	Samples  int            // measured, or taken over from the journal
	Accuracy *Fitted        // nil where the space is not one that estimators know
	Latency  *FittedLatency // nil likewise, and where the cost is MMACs, which are known
}

// Progress is told what a search does: what, and how many of how many.
type Progress func(what string, done, of int)

// Build searches a supernet by measuring: samples, what estimators fitted on
// them find, and what of that is the front in truth. It ends early with ctx's
// error; measurements stay in the bench's journal.
func Build(ctx context.Context, bench *Bench, plan Plan) (*Built, error) {
	samples, err := bench.samples(ctx, Candidates(bench.Net.Description(), plan), plan.Rough)
	if err != nil {
		return nil, err
	}
	built := &Built{Samples: len(samples)}
	// The smallest and the largest were trained the most, and a few images are too
	// few to say that something between them is better.
	archs := append(ends(bench.Net.Description()), archsOf(front(samples))...)
	if space, err := SpaceOf(bench.Net.Description()); err == nil {
		more, err := built.estimate(ctx, bench, space, samples, plan)
		if err != nil {
			return nil, err
		}
		archs = append(archs, more...)
	}
	finalists, err := bench.finalists(ctx, archs)
	if err != nil {
		return nil, err
	}
	built.Members = Spread(front(finalists), plan.Size)
	return built, nil
}

// estimate fits estimators and returns architectures from all along the front
// that they see.
func (b *Built) estimate(ctx context.Context, bench *Bench, space Space, samples []Entry,
	plan Plan) (archs []family.Arch, err error) {
	if b.Accuracy, err = Fit(space, samples, plan.Seed); err != nil {
		return nil, err
	}
	q := Query{Space: space, Accuracy: b.Accuracy, Seed: plan.Seed, Climbs: plan.Climbs}
	if bench.Clock == nil {
		q.Latency, err = MACTable(bench.Net, space.Resolutions)
	} else if b.Latency, err = FitLatency(space, samples, plan.Seed); err == nil {
		q.Latency = b.Latency
	}
	if err != nil {
		return nil, err
	}
	seen, err := Find(ctx, q, bench.Tell)
	if err != nil {
		return nil, err
	}
	for _, limit := range Steps(seen[0].Latency, seen[len(seen)-1].Latency, plan.Finalists) {
		c, _ := seen.Within(limit)
		archs = append(archs, c.Arch)
	}
	return archs, nil
}

// front keeps what nothing cheaper is as good as, by rising cost.
func front(measured []Entry) []Entry {
	points := make([]family.Point, len(measured))
	for i, e := range measured {
		points[i] = family.Point{Cost: e.cost(), Top1: e.Top1}
	}
	var kept []Entry
	for _, i := range family.Pareto(points) {
		kept = append(kept, measured[i])
	}
	return kept
}

func archsOf(measured []Entry) []family.Arch {
	var archs []family.Arch
	for _, e := range measured {
		archs = append(archs, e.Arch)
	}
	return archs
}

// Candidates draws plan.Samples architectures. Up to half of them make the same
// choice everywhere, the smallest and the largest among them.
func Candidates(d ofa.Description, plan Plan) []family.Arch {
	rng := rand.New(rand.NewPCG(plan.Seed, 0))
	d.KS, d.E, d.D, d.Resolutions = rising(d.KS), rising(d.E), rising(d.D), rising(d.Resolutions)
	archs := uniforms(d)
	if ends := 2; len(archs) > max(plan.Samples/2, ends) {
		last := len(archs) - 1
		archs[1], archs[last] = archs[last], archs[1]
		rng.Shuffle(len(archs)-ends, func(i, j int) { archs[ends+i], archs[ends+j] = archs[ends+j], archs[ends+i] })
		archs = archs[:max(plan.Samples/2, ends)]
	}
	for len(archs) < plan.Samples {
		archs = append(archs, random(d, rng))
	}
	return archs
}

func ends(d ofa.Description) []family.Arch {
	d.KS, d.E, d.D, d.Resolutions = rising(d.KS), rising(d.E), rising(d.D), rising(d.Resolutions)
	all := uniforms(d)
	return []family.Arch{all[0], all[len(all)-1]}
}

func rising[T cmp.Ordered](v []T) []T { return slices.Sorted(slices.Values(v)) }

// uniforms lists every architecture that makes the same choice everywhere, from
// the smallest to the largest.
func uniforms(d ofa.Description) []family.Arch {
	var archs []family.Arch
	for _, r := range d.Resolutions {
		for _, depth := range d.D {
			for _, e := range d.E {
				for _, k := range d.KS {
					for w := range max(len(d.W), 1) {
						a := d.Uniform(k, e, depth, r)
						for i := range a.W {
							a.W[i] = w
						}
						archs = append(archs, a)
					}
				}
			}
		}
	}
	return archs
}

// random draws every block's and every stage's choice. Drawing a leaning
// towards large or small first spreads the costs: independent draws would all
// cost about the same.
func random(d ofa.Description, rng *rand.Rand) family.Arch {
	lean := rng.Float64()
	a := d.Uniform(d.KS[0], d.E[0], d.D[0], d.Resolutions[index(rng, lean, len(d.Resolutions))])
	for i := range a.KS {
		a.KS[i] = d.KS[index(rng, lean, len(d.KS))]
	}
	for i := range a.E {
		a.E[i] = d.E[index(rng, lean, len(d.E))]
	}
	for i := range a.D {
		a.D[i] = d.D[index(rng, lean, len(d.D))]
	}
	for i := range a.W {
		a.W[i] = index(rng, lean, len(d.W))
	}
	return a
}

// index draws from 0 to n-1 with a mean that follows lean.
func index(rng *rand.Rand, lean float64, n int) int {
	at := lean*float64(n-1) + rng.NormFloat64()*0.8
	return min(max(int(math.Round(at)), 0), n-1)
}

// Spread picks n of a front so that their costs grow by factors as equal as the
// front allows. The ends of the front are always in.
func Spread(front []Entry, n int) []Entry {
	if len(front) <= n || n < 2 {
		return front
	}
	low, high := math.Log(front[0].cost()), math.Log(front[len(front)-1].cost())
	picked := []int{0}
	for i := 1; i < n-1; i++ {
		want := low + (high-low)*float64(i)/float64(n-1)
		best := -1
		// Enough must stay behind the one picked for the picks that follow.
		for j := picked[len(picked)-1] + 1; j <= len(front)-n+i; j++ {
			if best < 0 || math.Abs(math.Log(front[j].cost())-want) < math.Abs(math.Log(front[best].cost())-want) {
				best = j
			}
		}
		picked = append(picked, best)
	}
	picked = append(picked, len(front)-1)
	chosen := make([]Entry, 0, n)
	for _, i := range picked {
		chosen = append(chosen, front[i])
	}
	return slices.Clip(chosen)
}
