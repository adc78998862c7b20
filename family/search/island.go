package search

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/limber-edge/limber/family"
)

// island is one search of its own. It climbs again and again towards a limit
// drawn at random, from a child of two candidates that are near it.
type island struct {
	Query
	rng    *rand.Rand
	limits []float64
	slow   float64 // nothing slower is kept
	front  Front
	known  map[string]float64 // accuracy of what was looked at, by key
}

// How an island searches; the numbers were found by trying, with the published
// predictor and tables.
const (
	starters = 100  // random architectures to begin with
	fresh    = 0.1  // climbs that begin at a random architecture
	mutation = 0.05 // of each choice of a child
	steps    = 60   // a climb ends at the top, or after these
	shortest = 24   // changes looked at in each step, of thousands guessed
)

func newIsland(q Query, rng *rand.Rand, limits []float64, front Front) *island {
	return &island{Query: q, rng: rng, limits: limits, slow: slices.Max(limits), front: front,
		known: make(map[string]float64)}
}

// search climbs as often as asked for and returns the front found.
func (n *island) search(ctx context.Context, climbed func()) (Front, error) {
	start := n.Space.uniforms()
	for range starters {
		start = append(start, n.Space.random(n.rng))
	}
	if _, err := n.look(start); err != nil {
		return nil, err
	}
	for range n.Climbs {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		limit := pick(n.rng, n.limits)
		if err := n.climb(n.child(limit), limit); err != nil {
			return nil, err
		}
		climbed()
	}
	return n.front, nil
}

// child crosses a candidate very near the limit with one a little further off.
func (n *island) child(limit float64) family.Arch {
	if n.rng.Float64() < fresh {
		return n.Space.random(n.rng)
	}
	a, _ := n.front.Within(limit * (1 + 0.03*n.rng.NormFloat64()))
	b, _ := n.front.Within(limit * (1 + 0.1*n.rng.NormFloat64()))
	return n.Space.mutate(n.rng, n.Space.cross(n.rng, a.Arch, b.Arch), mutation)
}

// look estimates architectures and adds them to the front.
func (n *island) look(archs []family.Arch) ([]Candidate, error) {
	var unknown []family.Arch
	keys := make([]string, len(archs))
	for i, a := range archs {
		keys[i] = key(a)
		if _, ok := n.known[keys[i]]; !ok {
			unknown = append(unknown, a)
		}
	}
	scores, err := n.Accuracy.Accuracy(unknown)
	if err != nil {
		return nil, err
	}
	for i, a := range unknown {
		n.known[key(a)] = scores[i]
	}
	looked := make([]Candidate, len(archs))
	var keep []Candidate
	for i, a := range archs {
		ms, err := n.Latency.Latency(a)
		if err != nil {
			return nil, err
		}
		looked[i] = Candidate{Arch: a, Accuracy: n.known[keys[i]], Latency: ms}
		if ms <= n.slow {
			keep = append(keep, looked[i])
		}
	}
	n.front = n.front.merge(keep)
	return looked, nil
}

// worth is what a climb wants more of: accuracy, less the share of the limit
// that is spent beyond it.
func worth(accuracy, ms, limit float64) float64 { return accuracy - max(0, ms-limit)/limit }

// climb makes the best of one or two changes at a time until none is better.
func (n *island) climb(a family.Arch, limit float64) error {
	looked, err := n.look([]family.Arch{a})
	if err != nil {
		return err
	}
	at := looked[0]
	for range steps {
		list, err := n.shortlist(at, limit)
		if err != nil {
			return err
		}
		looked, err := n.look(list)
		if err != nil {
			return err
		}
		next := at
		for _, c := range looked {
			if worth(c.Accuracy, c.Latency, limit) > worth(next.Accuracy, next.Latency, limit) {
				next = c
			}
		}
		if worth(next.Accuracy, next.Latency, limit) <= worth(at.Accuracy, at.Latency, limit) {
			return nil
		}
		at = next
	}
	return nil
}

// guess is a change with what it will probably bring.
type guess struct {
	change
	accuracy, ms float64 // more
}

// shortlist applies the one or two changes that promise most. What two promise
// is taken for the sum of each.
func (n *island) shortlist(at Candidate, limit float64) ([]family.Arch, error) {
	guesses, err := n.guesses(at)
	if err != nil {
		return nil, err
	}
	best := ranking{room: shortest}
	for i, g := range guesses {
		best.offer(worth(at.Accuracy+g.accuracy, at.Latency+g.ms, limit), i, i)
		for j, h := range guesses[:i] {
			if g.place != h.place {
				best.offer(worth(at.Accuracy+g.accuracy+h.accuracy, at.Latency+g.ms+h.ms, limit), i, j)
			}
		}
	}
	var archs []family.Arch
	for _, p := range best.pairs {
		archs = append(archs, n.Space.with(at.Arch, guesses[p.i].change, guesses[p.j].change))
	}
	return archs, nil
}

func (n *island) guesses(at Candidate) ([]guess, error) {
	changes := n.Space.changes(at.Arch)
	archs := make([]family.Arch, len(changes))
	for i, c := range changes {
		archs[i] = n.Space.with(at.Arch, c)
	}
	more, err := n.Accuracy.Guess(at.Arch, archs)
	if err != nil {
		return nil, err
	}
	guesses := make([]guess, len(changes))
	for i, c := range changes {
		ms, err := n.Latency.Latency(archs[i])
		if err != nil {
			return nil, fmt.Errorf("neighbour: %w", err)
		}
		guesses[i] = guess{change: c, accuracy: more[i], ms: ms - at.Latency}
	}
	return guesses, nil
}

// ranking keeps the best few of many pairs, the best first.
type ranking struct {
	room  int
	pairs []ranked
}

type ranked struct {
	worth float64
	i, j  int
}

func (r *ranking) offer(worth float64, i, j int) {
	if len(r.pairs) == r.room {
		if worth <= r.pairs[r.room-1].worth {
			return
		}
		r.pairs = r.pairs[:r.room-1]
	}
	at := len(r.pairs)
	r.pairs = append(r.pairs, ranked{})
	for ; at > 0 && r.pairs[at-1].worth < worth; at-- {
		r.pairs[at] = r.pairs[at-1]
	}
	r.pairs[at] = ranked{worth, i, j}
}
