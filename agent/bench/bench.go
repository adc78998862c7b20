// Package bench measures Limber against named baselines, in turns in one run.
//
//	Core      queue, governor and session against the bare session   (a pipeline here)
//	Memory    members as the agent keeps them against plain sessions (processes)
//	E2E       a frame's whole way against the sum of its parts       (broker, agent: processes)
//	Overload  answers in time beyond the capacity against it         (broker, agent: processes)
//	Outbox    records kept and sent, against a file and against memory (an outbox here, broker: process)
//	Shadow    what jobs take while a family is compared, against without (broker, agent: processes)
//	Fleet     births, modes and memory of a fleet, against what it may take (broker, fleet: processes)
//	Record    what every member takes under a scripted load: a trace
//	Governor  policies replayed on a trace, against one that knows the future
//	Live      policies serving frames under the same load            (pipelines here)
//
// The one rule: ours and base do the same work with the same member on the same
// input, and take turns so short that a machine whose speed drifts slows both.
// Load, pictures, figures and the agent itself are in packages of their own.
//
// Processes are of the very program that measures: it must answer to `broker`,
// `agent`, `sim`, `coldstart` (ColdStart, BareStart), `probe` (ProbeModels), and to `hog` of
// package load.
package bench

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/limber-edge/limber/agent/bench/figure"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ofa"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/resident"
	"github.com/limber-edge/limber/family/stock"
	"github.com/limber-edge/limber/family/workshop"
)

// Bench is what a benchmark gets of the program that runs it.
type Bench struct {
	figure.Printer
	Progress Progress
	Stderr   io.Writer // of the processes
	Dir      string    // empty, and taken away afterwards
}

// Progress shows how far a benchmark is.
type Progress interface {
	Tell(what string, done, of int)
	Say(what string) // of what nobody knows how long it takes
	End()
}

// Rounds is how often every figure is measured; a noisy machine needs at least
// five.
const Rounds = 7

// turns is how often a round changes between ours and base.
const turns = 5

// Window is how many frames a client keeps under way when it measures what the
// agent can do.
const Window = 4

// inTurns repeats two measurements n times each, in short turns, as a machine's
// speed drifts, and returns their medians.
func inTurns(ctx context.Context, n int, ours, base func() (float64, error)) (o, b float64, err error) {
	var mine, other figure.Sample
	for range turns {
		m, err := repeat(ctx, n/turns, ours)
		if err != nil {
			return 0, 0, err
		}
		b, err := repeat(ctx, n/turns, base)
		if err != nil {
			return 0, 0, err
		}
		// The first of a turn finds the caches as the other left them.
		mine, other = append(mine, m[1:]...), append(other, b[1:]...)
	}
	return mine.Median(), other.Median(), nil
}

// inRounds measures ours and base so many times, and tells of each round before.
func inRounds(rounds int, tell func(round int), measure func() (ours, base float64, err error)) (
	o, b figure.Sample, err error) {
	for round := range rounds {
		tell(round)
		mine, other, err := measure()
		if err != nil {
			return nil, nil, err
		}
		o, b = append(o, mine), append(b, other)
	}
	return o, b, nil
}

// telling shows how many rounds are done.
func (b *Bench) telling(what string, rounds int) func(round int) {
	return func(round int) { b.Progress.Tell(what, round, rounds) }
}

// Print takes the progress away and prints one figure.
func (b *Bench) Print(f figure.Figure) error {
	b.Progress.End()
	return b.Printer.Print(f)
}

func repeat(ctx context.Context, n int, measure func() (float64, error)) (figure.Sample, error) {
	v := make(figure.Sample, 0, n)
	for range n {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		ms, err := measure()
		if err != nil {
			return nil, err
		}
		v = append(v, ms)
	}
	return v, nil
}

// familyOf is the stock family, or six members of another supernet.
func familyOf(rt *ort.Runtime, supernet string) (*family.Family, family.Blobs, error) {
	if supernet != "" {
		return imageNetFamily(rt, supernet)
	}
	f, err := stock.Family()
	if err != nil {
		return nil, nil, err
	}
	return &f.Family, f, nil
}

func millis(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }

// imageNetFamily cuts six sub-networks of growing cost, with the supernet's own
// BN statistics, which are right for speed and meaningless for accuracy, and the
// six levels of top-1 published for Dynamic-OFA as labels.
func imageNetFamily(rt *ort.Runtime, path string) (*family.Family, family.Blobs, error) {
	net, err := ofa.Load(path)
	if err != nil {
		return nil, nil, err
	}
	checkpoint, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	blobs, desc := family.MemoryBlobs{}, net.Description()
	f := &family.Family{Schema: family.Schema, Name: "bench", Supernet: blobs.Add(checkpoint),
		Classes: make([]string, net.Classes())}
	if f.Describe, err = desc.Marshal(); err != nil {
		return nil, nil, err
	}
	for i, a := range []struct {
		k        int
		e        float64
		depth, r int
		top1     float64
	}{{3, 3, 2, 160, 0.74202}, {3, 3, 2, 192, 0.74968}, {3, 4, 3, 192, 0.76134}, {5, 4, 3, 208, 0.7754},
		{5, 6, 3, 224, 0.78346}, {7, 6, 4, 224, 0.7903}} {
		sub, err := net.Cut(desc.Uniform(a.k, a.e, a.depth, a.r))
		if err != nil {
			return nil, nil, err
		}
		input := workshop.Noise(3 * a.r * a.r)
		logits, err := workshop.Infer(sub, workshop.Loader(rt, 1), input)
		if err != nil {
			return nil, nil, err
		}
		f.Members = append(f.Members, family.Member{Name: fmt.Sprintf("s%d", i), Arch: sub.Arch(), MMACs: sub.MMACs(),
			Top1: a.top1, Top5: 0.9, Images: 0,
			Stats: blobs.Add(family.FloatBytes(sub.Stats())), Canary: blobs.Add(resident.Canary(input, logits))})
	}
	return f, blobs, nil
}
