package search

import (
	"context"
	"errors"
	"slices"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ofa"
)

// Timer measures latency: the median of Runs inferences of one image. Nothing
// else should run meanwhile.
type Timer struct {
	Net   *ofa.Supernet
	Probe Prober
	Runs  int
}

// Times measures architectures in turns; they are all in memory meanwhile. BN
// statistics do not matter here.
func (t Timer) Times(ctx context.Context, archs []family.Arch) (ms []float64, err error) {
	var probes []Probe
	defer func() {
		for _, p := range probes {
			err = errors.Join(err, p.Close())
		}
	}()
	for _, a := range archs {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		p, err := t.open(a)
		if err != nil {
			return nil, err
		}
		probes = append(probes, p)
	}
	runs, err := Turns(ctx, probes, max(t.Runs, 1), func(string, int, int) {})
	if err != nil {
		return nil, err
	}
	for _, r := range runs {
		slices.Sort(r)
		ms = append(ms, r[len(r)/2])
	}
	return ms, nil
}

// open makes a sub-network ready to be timed.
func (t Timer) open(a family.Arch) (Probe, error) {
	sub, err := t.Net.Cut(a)
	if err != nil {
		return nil, err
	}
	model, err := sub.Model(1)
	if err != nil {
		return nil, err
	}
	return t.Probe(model, ofa.InputName, []int{1, 3, a.R, a.R}, ofa.OutputName, []int{1, sub.Classes()})
}
