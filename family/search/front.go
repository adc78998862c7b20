package search

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"sync"

	"github.com/limber-edge/limber/family"
)

// Accuracy estimates how well architectures classify. It must be safe for
// concurrent use, and give the same architecture the same number.
type Accuracy interface {
	// Accuracy returns a fraction for each architecture, on a scale of its
	// own. An architecture it does not know is an error.
	Accuracy(archs []family.Arch) ([]float64, error)
	// Guess says by how much each neighbour of a differs from it, as far as
	// that can be told for much less than Accuracy takes.
	Guess(a family.Arch, neighbours []family.Arch) ([]float64, error)
}

// Latency estimates how long one inference takes. It must be safe for
// concurrent use, and give the same architecture the same number.
type Latency interface {
	// Latency returns milliseconds. An architecture it does not know is an
	// error.
	Latency(a family.Arch) (float64, error)
}

// Candidate is an architecture with what was estimated of it.
type Candidate struct {
	Arch     family.Arch
	Accuracy float64 // on the estimator's scale
	Latency  float64 // milliseconds
}

// Front is a Pareto front by rising latency: each candidate is more accurate
// than every faster one. It has at least one candidate, the fastest there is.
type Front []Candidate

// Within is the most accurate candidate of at most limit milliseconds. Where
// there is none it is the nearest, which is the fastest, and false.
func (f Front) Within(limit float64) (Candidate, bool) {
	i := f.last(limit)
	return f[max(i, 0)], i >= 0
}

// last is the index of the slowest candidate within limit, -1 if there is none.
func (f Front) last(limit float64) int {
	return sort.Search(len(f), func(i int) bool { return f[i].Latency > limit }) - 1
}

// merge adds candidates and drops those that another one beats.
func (f Front) merge(more []Candidate) Front {
	all := slices.Concat(f, more)
	slices.SortStableFunc(all, func(a, b Candidate) int {
		return cmp.Or(cmp.Compare(a.Latency, b.Latency), cmp.Compare(b.Accuracy, a.Accuracy))
	})
	kept := all[:0]
	for _, c := range all {
		if len(kept) == 0 || c.Accuracy > kept[len(kept)-1].Accuracy {
			kept = append(kept, c)
		}
	}
	return slices.Clip(kept)
}

// Query is what to find a front for.
type Query struct {
	Space    Space
	Accuracy Accuracy
	Latency  Latency
	// Limits, in milliseconds, are where the front is worked out best; nothing
	// slower than the largest is kept. Without any the whole range is.
	Limits []float64
	Seed   uint64
	Climbs int // of each island in each round; DefaultClimbs is thorough
}

// DefaultClimbs found, with the published estimators, nearly the same front for
// every seed; half as many did not.
const DefaultClimbs = 150

// One island that climbs as often as six misses more than they do: it stays
// near what it found first.
const (
	islands = 6
	rounds  = 2
	// defaultLimits are worked for where a query names none.
	defaultLimits = 10
)

// Find looks for the whole front at once: several islands search on their own,
// put what they found together, and search on from there. The same query has
// the same answer on any machine. Find ends early with ctx's error.
func Find(ctx context.Context, q Query, tell Progress) (Front, error) {
	fastest, err := q.fastest()
	if err != nil {
		return nil, err
	}
	limits, err := q.targets(fastest.Latency)
	if err != nil {
		return nil, err
	}
	count := &counter{tell: tell, of: rounds * islands * q.Climbs}
	front := Front{fastest}
	for round := range rounds {
		found := make([]Front, islands)
		failed := make([]error, islands)
		var all sync.WaitGroup
		for i := range islands {
			all.Go(func() {
				rng := rand.New(rand.NewPCG(q.Seed, uint64(round*islands+i)))
				found[i], failed[i] = newIsland(q, rng, limits, front).search(ctx, count.add)
			})
		}
		all.Wait()
		if err := errors.Join(failed...); err != nil {
			return nil, err
		}
		front = front.merge(slices.Concat(found...))
	}
	return front, nil
}

// counter adds up the climbs of all islands.
type counter struct {
	mu       sync.Mutex
	tell     Progress
	done, of int
}

func (c *counter) add() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done++
	c.tell("search", c.done, c.of)
}

// targets are the limits to work for. One that nothing meets becomes the
// latency of the fastest, for that is the answer to it.
func (q *Query) targets(fastest float64) ([]float64, error) {
	var targets []float64
	for _, l := range q.Limits {
		if !(l > 0) || math.IsInf(l, 0) {
			return nil, fmt.Errorf("limit %v: wants a number of milliseconds above 0", l)
		}
		targets = append(targets, max(l, fastest))
	}
	if len(targets) > 0 {
		return targets, nil
	}
	slowest := fastest
	for _, a := range q.Space.uniforms() {
		ms, err := q.Latency.Latency(a)
		if err != nil {
			return nil, err
		}
		slowest = max(slowest, ms)
	}
	return Steps(fastest, slowest, defaultLimits), nil
}

// Steps is n numbers, two or more, from low to high that grow by equal factors.
func Steps(low, high float64, n int) []float64 {
	steps := make([]float64, n)
	for i := range steps {
		steps[i] = low * math.Pow(high/low, float64(i)/float64(n-1))
	}
	steps[n-1] = high // whatever rounding made of it
	return steps
}

// fastest descends to the architecture of the least latency, from the smallest
// one of each resolution: in a table of noisy measurements that need not be the
// smallest of all.
func (q *Query) fastest() (Candidate, error) {
	best := Candidate{Latency: math.Inf(1)}
	for _, r := range q.Space.Resolutions {
		at, err := q.descend(q.Space.smallest(r))
		if err != nil {
			return Candidate{}, err
		}
		if at.Latency < best.Latency {
			best = at
		}
	}
	score, err := q.Accuracy.Accuracy([]family.Arch{best.Arch})
	if err != nil {
		return Candidate{}, err
	}
	best.Accuracy = score[0]
	return best, nil
}

// descend goes to faster neighbours until there is none.
func (q *Query) descend(a family.Arch) (Candidate, error) {
	ms, err := q.Latency.Latency(a)
	if err != nil {
		return Candidate{}, err
	}
	for at, better := (Candidate{Arch: a, Latency: ms}), true; ; better = false {
		for _, c := range q.Space.changes(at.Arch) {
			b := q.Space.with(at.Arch, c)
			ms, err := q.Latency.Latency(b)
			if err != nil {
				return Candidate{}, err
			}
			if ms < at.Latency {
				at, better = Candidate{Arch: b, Latency: ms}, true
			}
		}
		if !better {
			return at, nil
		}
	}
}
