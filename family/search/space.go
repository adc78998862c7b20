package search

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ofa"
)

// Space is what a search by estimators may choose from: for every block a
// kernel size and an expand ratio, for every stage a depth, and one resolution.
// Choices are in rising order.
type Space struct {
	KS          []int
	E           []float64
	Stages      []Stage
	Resolutions []int // pixels a side
}

// Stage is a run of blocks of which an architecture uses the first few.
type Stage struct {
	First  int // slot of its first block
	Slots  int // blocks at its deepest
	Depths []int
}

// SpaceOf is everything a supernet was trained for.
func SpaceOf(d ofa.Description) (Space, error) {
	largest := d.Uniform(slices.Max(d.KS), slices.Max(d.E), slices.Max(d.D), slices.Max(d.Resolutions))
	if len(largest.KS) != len(largest.E) || len(largest.W) > 0 {
		return Space{}, fmt.Errorf("estimators know supernets of blocks with a kernel size and an expand ratio each, not "+
			"%s; measure its sub-networks", d.Kind)
	}
	s := Space{KS: slices.Sorted(slices.Values(d.KS)), E: slices.Sorted(slices.Values(d.E)),
		Resolutions: slices.Sorted(slices.Values(d.Resolutions))}
	// The last stage of OFA-ProxylessNASNets is shorter than the others.
	for at, depth := 0, slices.Max(d.D); len(s.Stages) < len(largest.D); at += depth {
		stage := Stage{First: at, Slots: min(depth, len(largest.KS)-at)}
		for _, n := range slices.Sorted(slices.Values(d.D)) {
			if n <= stage.Slots {
				stage.Depths = append(stage.Depths, n)
			}
		}
		if len(stage.Depths) == 0 {
			stage.Depths = []int{stage.Slots}
		}
		s.Stages = append(s.Stages, stage)
	}
	return s, nil
}

// slots is how many blocks there are at the deepest.
func (s *Space) slots() int {
	last := s.Stages[len(s.Stages)-1]
	return last.First + last.Slots
}

// uniform is the architecture with the same choice everywhere; depth counts
// from the shallowest form of each stage.
func (s *Space) uniform(k int, e float64, depth, r int) family.Arch {
	a := family.Arch{KS: slices.Repeat([]int{k}, s.slots()), E: slices.Repeat([]float64{e}, s.slots()), R: r}
	for _, stage := range s.Stages {
		a.D = append(a.D, stage.Depths[min(depth, len(stage.Depths)-1)])
	}
	return s.canonical(a)
}

// canonical gives the slots that an architecture does not use the first
// choices, so that equal networks are equal. It changes a in place.
func (s *Space) canonical(a family.Arch) family.Arch {
	for i, stage := range s.Stages {
		for slot := stage.First + a.D[i]; slot < stage.First+stage.Slots; slot++ {
			a.KS[slot], a.E[slot] = s.KS[0], s.E[0]
		}
	}
	return a
}

// uniforms lists every architecture that makes the same choice everywhere.
func (s *Space) uniforms() []family.Arch {
	var archs []family.Arch
	for _, r := range s.Resolutions {
		for depth := range s.Stages[0].Depths {
			for _, e := range s.E {
				for _, k := range s.KS {
					archs = append(archs, s.uniform(k, e, depth, r))
				}
			}
		}
	}
	return archs
}

// smallest has the least of everything but the resolution.
func (s *Space) smallest(r int) family.Arch { return s.uniform(s.KS[0], s.E[0], 0, r) }

// random draws half of the choices beside a uniform architecture that is drawn
// too: were all drawn alone, the costs of all would be about the same.
func (s *Space) random(rng *rand.Rand) family.Arch {
	depth := rng.IntN(len(s.Stages[0].Depths))
	return s.mutate(rng, s.uniform(pick(rng, s.KS), pick(rng, s.E), depth, pick(rng, s.Resolutions)), 0.5)
}

func clone(a family.Arch) family.Arch {
	a.KS, a.E, a.D = slices.Clone(a.KS), slices.Clone(a.E), slices.Clone(a.D)
	return a
}

// mutate draws anew each choice with probability p.
func (s *Space) mutate(rng *rand.Rand, a family.Arch, p float64) family.Arch {
	a = clone(a)
	for i := range a.KS {
		if rng.Float64() < p {
			a.KS[i], a.E[i] = pick(rng, s.KS), pick(rng, s.E)
		}
	}
	for i := range a.D {
		if rng.Float64() < p {
			a.D[i] = pick(rng, s.Stages[i].Depths)
		}
	}
	if rng.Float64() < p {
		a.R = pick(rng, s.Resolutions)
	}
	return s.canonical(a)
}

func pick[T any](rng *rand.Rand, from []T) T { return from[rng.IntN(len(from))] }

// cross takes every choice from one of two parents.
func (s *Space) cross(rng *rand.Rand, a, b family.Arch) family.Arch {
	a = clone(a)
	for i := range a.KS {
		if rng.IntN(2) == 0 {
			a.KS[i], a.E[i] = b.KS[i], b.E[i]
		}
	}
	for i := range a.D {
		if rng.IntN(2) == 0 {
			a.D[i] = b.D[i]
		}
	}
	if rng.IntN(2) == 0 {
		a.R = b.R
	}
	return s.canonical(a)
}

// change is a step to a neighbour: one choice made otherwise.
type change struct {
	place int // what the choice is about; two changes of one place exclude each other
	slot  int // of the block, if k is set
	k     int // new kernel size, or 0
	e     float64
	stage int // whose depth changes, if depth is set
	depth int // new depth, or 0
	r     int // new resolution, or 0
}

// changes lists the steps to every neighbour: another kernel size and expand
// ratio of a block, a stage a block deeper or shallower, another resolution. A
// block that a stage gains has any kernel size and expand ratio.
func (s *Space) changes(a family.Arch) []change {
	var c []change
	for i, stage := range s.Stages {
		for slot := stage.First; slot < stage.First+a.D[i]; slot++ {
			c = s.blocks(c, a, change{place: slot, slot: slot})
		}
		at, place := slices.Index(stage.Depths, a.D[i]), s.slots()+i
		if at > 0 {
			c = append(c, change{place: place, stage: i, depth: stage.Depths[at-1]})
		}
		if at+1 < len(stage.Depths) {
			c = s.blocks(c, a, change{place: place, slot: stage.First + a.D[i], stage: i, depth: stage.Depths[at+1]})
		}
	}
	for _, r := range s.Resolutions {
		if r != a.R {
			c = append(c, change{place: -1, r: r})
		}
	}
	return c
}

// blocks adds a change for every other kernel size and expand ratio of its slot.
func (s *Space) blocks(c []change, a family.Arch, one change) []change {
	for _, k := range s.KS {
		for _, e := range s.E {
			if one.depth > 0 || k != a.KS[one.slot] || e != a.E[one.slot] {
				one.k, one.e = k, e
				c = append(c, one)
			}
		}
	}
	return c
}

func (s *Space) with(a family.Arch, changes ...change) family.Arch {
	a = clone(a)
	for _, c := range changes {
		if c.k > 0 {
			a.KS[c.slot], a.E[c.slot] = c.k, c.e
		}
		if c.depth > 0 {
			a.D[c.stage] = c.depth
		}
		if c.r > 0 {
			a.R = c.r
		}
	}
	return s.canonical(a)
}

// key tells architectures of one space apart.
func key(a family.Arch) string {
	b := make([]byte, 0, 4*len(a.KS))
	for i, k := range a.KS {
		b = append(b, byte(k))
		b = strconv.AppendFloat(b, a.E[i], 'g', -1, 64)
	}
	for _, d := range a.D {
		b = append(b, byte(d))
	}
	return string(strconv.AppendInt(b, int64(a.R), 10))
}
