package search

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ofa"
)

// Remeasure measures for real what estimators found: top-1 on the validation
// images, after calibration, and latency by the means given, a Timer as a rule.
// It returns what nothing faster beats, at most size of it with latencies spread
// by equal factors. It ends early with ctx's error.
func Remeasure(ctx context.Context, net *ofa.Supernet, load ofa.Loader, sets Sets, latency Latency, archs []family.Arch,
	size int, tell Progress) ([]Found, error) {
	found, err := measure(ctx, net, load, archs, sets.Calibration, sets.Validation, "front", tell)
	if err != nil {
		return nil, err
	}
	for i := range found {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		tell("latency", i, len(found))
		if found[i].Latency, err = latency.Latency(found[i].Net.Arch()); err != nil {
			return nil, err
		}
	}
	return Spread(front(found), size), nil
}

// Timer measures latency: the median of Runs inferences of one image, on
// whatever the loader runs models on. Nothing else should run meanwhile.
type Timer struct {
	Net  *ofa.Supernet
	Load ofa.Loader
	Runs int
}

// warmUp is how many inferences go before those that count.
const warmUp = 3

// Latency cuts the sub-network and runs it; BN statistics do not matter here.
func (t Timer) Latency(a family.Arch) (ms float64, err error) {
	sub, err := t.Net.Cut(a)
	if err != nil {
		return 0, err
	}
	model, err := sub.Model(0)
	if err != nil {
		return 0, err
	}
	run, err := t.Load(model, ofa.InputName, []string{ofa.OutputName})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, run.Close()) }()
	input := make([]float32, 3*a.R*a.R)
	took := make([]time.Duration, warmUp+max(t.Runs, 1))
	for i := range took {
		began := time.Now()
		if _, err := run.Run(input, 1, a.R); err != nil {
			return 0, err
		}
		took[i] = time.Since(began)
	}
	counted := took[warmUp:]
	slices.Sort(counted)
	return float64(counted[len(counted)/2]) / float64(time.Millisecond), nil
}
