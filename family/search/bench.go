package search

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ofa"
)

// Bench is where sub-networks of one supernet are measured.
type Bench struct {
	Net     *ofa.Supernet
	Load    ofa.Loader // of models that classify many images at once
	Sets    Sets
	Batch   int   // images of a batch of calibration
	Clock   Clock // nil: MMACs are the cost
	Journal *Journal
	Tell    Progress
}

// Clock measures how long architectures take. A Timer is one.
type Clock interface {
	// Times returns the milliseconds of one inference of each. It ends early
	// with ctx's error.
	Times(ctx context.Context, archs []family.Arch) ([]float64, error)
}

// cost is what accuracy is weighed against: milliseconds, or else MMACs.
func (e Entry) cost() float64 {
	if e.Latency > 0 {
		return e.Latency
	}
	return e.MMACs
}

// together is how many samples are timed in turns.
const together = 8

// samples measures architectures roughly: on so many images, and with BN
// statistics of no more, which take most of the time. What is in the journal is
// taken over, its latency too.
func (b *Bench) samples(ctx context.Context, archs []family.Arch, images int) ([]Entry, error) {
	rough := Sets{firstOf(b.Sets.Calibration, images), firstOf(b.Sets.Validation, images)}
	var measured []Entry
	for len(archs) > 0 {
		group := archs[:min(together, len(archs))]
		archs = archs[len(group):]
		var missing []family.Arch
		for _, a := range group {
			if _, ok := b.Journal.find(a, rough); !ok {
				missing = append(missing, a)
			}
		}
		times, err := b.times(ctx, missing)
		if err != nil {
			return nil, err
		}
		for i, a := range missing {
			b.Tell("samples", len(measured)+i, len(measured)+len(group)+len(archs))
			if err := b.measure(ctx, a, times[i], rough); err != nil {
				return nil, err
			}
		}
		for _, a := range group {
			e, _ := b.Journal.find(a, rough)
			measured = append(measured, e)
		}
	}
	b.Tell("samples", len(measured), len(measured))
	return measured, nil
}

// finalists measures architectures on all validation images, and their
// latencies in turns, so that a machine that grows slower favours none.
func (b *Bench) finalists(ctx context.Context, archs []family.Arch) ([]Entry, error) {
	archs = distinct(archs)
	for i, a := range archs {
		b.Tell("finalists", i, len(archs))
		if _, ok := b.Journal.find(a, b.Sets); ok {
			continue
		}
		if err := b.measure(ctx, a, 0, b.Sets); err != nil {
			return nil, err
		}
	}
	b.Tell("latencies", 0, 1)
	times, err := b.times(ctx, archs)
	if err != nil {
		return nil, err
	}
	measured := make([]Entry, len(archs))
	for i, a := range archs {
		measured[i], _ = b.Journal.find(a, b.Sets)
		measured[i].Latency = times[i]
	}
	return measured, nil
}

func distinct(archs []family.Arch) []family.Arch {
	seen := map[string]bool{}
	var kept []family.Arch
	for _, a := range archs {
		if key := fmt.Sprint(a); !seen[key] {
			seen[key] = true
			kept = append(kept, a)
		}
	}
	return kept
}

// times is zeros where nobody asked for latencies.
func (b *Bench) times(ctx context.Context, archs []family.Arch) ([]float64, error) {
	if b.Clock == nil || len(archs) == 0 {
		return make([]float64, len(archs)), ctx.Err()
	}
	return b.Clock.Times(ctx, archs)
}

// measure calibrates and evaluates one architecture and puts it into the
// journal.
func (b *Bench) measure(ctx context.Context, a family.Arch, ms float64, sets Sets) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	sub, err := b.Net.Cut(a)
	if err != nil {
		return err
	}
	if err := Calibrate(sub, b.Load, sets.Calibration, b.Batch); err != nil {
		return err
	}
	score, err := Evaluate(ctx, sub, b.Load, sets.Validation)
	if err != nil {
		return err
	}
	e := Entry{Arch: a, Calibrated: sets.Calibration.Len(), Images: score.Images, Top1: score.Top1, Top5: score.Top5,
		MMACs: sub.MMACs(), Latency: ms}
	return b.Journal.keep(e, family.FloatBytes(sub.Stats()))
}

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
