// Package bench measures Limber against named baselines, in turns in one run.
//
//	Core      queue, governor and session against the bare session   (a pipeline here)
//	Memory    members as the agent keeps them against plain sessions (processes)
//	E2E       a frame's whole way against the sum of its parts       (broker, agent: processes)
//	Overload  answers in time beyond the capacity against it         (broker, agent: processes)
//	Record    what every member takes under a scripted load: a trace
//	Governor  policies replayed on a trace, against one that knows the future
//	Live      policies serving frames under the same load            (pipelines here)
//
// The one rule: ours and base do the same work with the same member on the same
// input, and take turns so short that a machine whose speed drifts slows both.
// Load, pictures, figures and the agent itself are in packages of their own.
//
// Processes are of the very program that measures: it must answer to `broker`,
// `agent`, `coldstart` (ColdStart, BareStart), `lodge` (Probe), and to `hog` of
// package load.
package bench

import (
	"context"
	"io"
	"time"

	"github.com/limber-edge/limber/agent/bench/figure"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/stock"
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

// repeat collects n measurements.
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
