// Package search finds the sub-networks of a supernet that are worth keeping:
// the Pareto front of cost and accuracy.
//
//	Find: estimators ──6 islands──▶ front ──exchange──▶ 6 islands ──▶ front of thousands looked at
//	                                                                    │
//	                                                        Remeasure ◀─┘
//	                                                            ▼
//	Search: candidates ──calibrate──▶ measured roughly ──Pareto──▶ measured well ──spread──▶ members
//
// Find asks estimators only: an accuracy predictor, published or fitted on
// samples measured here, and a latency, from a table or timed. One call answers
// for every limit, for what is looked at on the way to one limit counts for all.
// Its climbs decide by the predictor and the latency alone; the predictor's
// slope only says which of thousands of changes to look at. Estimates are off
// by more than good networks differ, so what is found is measured before it is
// kept (Remeasure), or nothing but measurements is used (Search).
//
// Three sets of images take part in measuring and must not overlap, for the
// result to mean anything: BN statistics are computed on the first, choices are
// made on the second, and what is reported is measured once, on the third. The
// same seed gives the same candidates, and of Find the same front.
package search

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ofa"
)

// Images is a set of labelled pictures.
type Images interface {
	Len() int
	Label(i int) int
	// Tensor writes picture i, preprocessed for resolution r, to dst (3×r×r).
	Tensor(dst []float32, i, r int) error
}

// Sets are the images a search needs.
type Sets struct {
	Calibration Images
	Validation  Images // choices are made on these
	Test        Images // reported, never chosen on
}

// Plan says how much to measure.
type Plan struct {
	Size   int    // members wanted
	Random int    // candidates drawn at random beside the uniform ones
	Rough  int    // validation images for the first measurement of each candidate
	Seed   uint64 // of the random candidates
}

// Found is a sub-network with what was measured of it.
type Found struct {
	Net  *ofa.Subnet // with its own BN statistics
	Top1 float64     // fraction of the validation images
	Cost float64     // MMACs

	Latency float64 // milliseconds of one inference; 0 where it was not asked for
}

// cost is what accuracy is weighed against: the latency, or else the MMACs.
func (f Found) cost() float64 {
	if f.Latency > 0 {
		return f.Latency
	}
	return f.Cost
}

// Progress is told what a search does: what, and how many of how many.
type Progress func(what string, done, of int)

// Search measures candidates of a supernet and returns the members chosen, by
// rising cost. It ends early with ctx's error.
func Search(ctx context.Context, net *ofa.Supernet, load ofa.Loader, sets Sets, plan Plan, tell Progress) ([]Found, error) {
	rough := firstOf(sets.Validation, plan.Rough)
	found, err := measure(ctx, net, load, Candidates(net.Description(), plan), sets.Calibration, rough, "candidates", tell)
	if err != nil {
		return nil, err
	}
	var archs []family.Arch
	for _, i := range family.Pareto(points(found)) {
		archs = append(archs, found[i].Net.Arch())
	}
	found, err = measure(ctx, net, load, archs, sets.Calibration, sets.Validation, "front", tell)
	if err != nil {
		return nil, err
	}
	return Spread(front(found), plan.Size), nil
}

// front drops what something cheaper is as good as.
func front(found []Found) []Found {
	var kept []Found
	for _, i := range family.Pareto(points(found)) {
		kept = append(kept, found[i])
	}
	return kept
}

// measure calibrates and evaluates architectures, one after the other.
func measure(ctx context.Context, net *ofa.Supernet, load ofa.Loader, archs []family.Arch, calibration, validation Images,
	what string, tell Progress) ([]Found, error) {
	var found []Found
	for i, arch := range archs {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		tell(what, i, len(archs))
		sub, err := net.Cut(arch)
		if err != nil {
			return nil, err
		}
		if err := Calibrate(sub, load, calibration); err != nil {
			return nil, err
		}
		score, err := Evaluate(sub, load, validation)
		if err != nil {
			return nil, err
		}
		found = append(found, Found{Net: sub, Top1: score.Top1, Cost: sub.MMACs()})
	}
	tell(what, len(archs), len(archs))
	return found, nil
}

func points(found []Found) []family.Point {
	p := make([]family.Point, len(found))
	for i, f := range found {
		p[i] = family.Point{Cost: f.cost(), Top1: f.Top1}
	}
	return p
}

// Candidates lists every architecture that makes the same choice everywhere,
// at every resolution, and plan.Random others.
func Candidates(d ofa.Description, plan Plan) []family.Arch {
	var archs []family.Arch
	for _, r := range d.Resolutions {
		for _, depth := range d.D {
			for _, e := range d.E {
				for _, k := range d.KS {
					archs = append(archs, d.Uniform(k, e, depth, r))
				}
			}
		}
	}
	rng := rand.New(rand.NewPCG(plan.Seed, 0))
	for range plan.Random {
		archs = append(archs, random(d, rng))
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
		a.E[i] = d.E[index(rng, lean, len(d.E))]
	}
	for i := range a.D {
		a.D[i] = d.D[index(rng, lean, len(d.D))]
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
func Spread(front []Found, n int) []Found {
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
	chosen := make([]Found, 0, n)
	for _, i := range picked {
		chosen = append(chosen, front[i])
	}
	return slices.Clip(chosen)
}

// String names a found sub-network for a log.
func (f Found) String() string {
	return fmt.Sprintf("%.1f MMACs, top-1 %.4f, %d pixels", f.Cost, f.Top1, f.Net.Arch().R)
}
