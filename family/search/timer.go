package search

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ofa"
)

// Timer measures latency: the median of Runs inferences of one image, on
// whatever the loader runs models on. Architectures take turns, and nothing
// else should run meanwhile.
type Timer struct {
	Net  *ofa.Supernet
	Load ofa.Loader
	Runs int
}

// warmUp is how many turns go before those that count.
const warmUp = 3

// Times measures architectures, which are all in memory meanwhile. BN
// statistics do not matter here.
func (t Timer) Times(ctx context.Context, archs []family.Arch) (ms []float64, err error) {
	runs := make([]ofa.BatchRunner, 0, len(archs))
	defer func() {
		for _, run := range runs {
			err = errors.Join(err, run.Close())
		}
	}()
	for _, a := range archs {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		run, err := t.open(a)
		if err != nil {
			return nil, err
		}
		runs = append(runs, run)
	}
	took := make([][]time.Duration, len(archs))
	for turn := range warmUp + max(t.Runs, 1) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		for i, a := range archs {
			input := make([]float32, 3*a.R*a.R)
			began := time.Now()
			if _, err := runs[i].Run(input, 1, a.R); err != nil {
				return nil, err
			}
			if turn >= warmUp {
				took[i] = append(took[i], time.Since(began))
			}
		}
	}
	for _, d := range took {
		slices.Sort(d)
		ms = append(ms, float64(d[len(d)/2])/float64(time.Millisecond))
	}
	return ms, nil
}

// open makes a sub-network ready to run.
func (t Timer) open(a family.Arch) (ofa.BatchRunner, error) {
	sub, err := t.Net.Cut(a)
	if err != nil {
		return nil, err
	}
	model, err := sub.Model(0)
	if err != nil {
		return nil, err
	}
	return t.Load(model, ofa.InputName, []string{ofa.OutputName})
}
