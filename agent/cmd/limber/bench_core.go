package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/resident"
	"github.com/limber-edge/limber/family/stock"
	"github.com/limber-edge/limber/family/workshop"
)

func newBenchCore() *cobra.Command {
	var asJSON bool
	var supernet string
	c := &cobra.Command{
		Use:   "core",
		Short: "What the agent adds to an inference, a switch and a start",
		Long: `Measure, in turns in one run:

  loop    a job through queue, governor and session, without MQTT and decoding,
          against a bare loop over the same session
  switch  the first job after a switch against the same member's steady latency
  batch   an image among four that a session infers at once, against one alone
  start   process start to the first answer, with a warm state, against loading
          ONNX Runtime, the smallest session and one run

Every figure is a median of ` + fmt.Sprint(rounds) + ` rounds. Members are the stock family's, and with
--supernet six sub-networks of an OFA-MobileNetV3 for ImageNet.`,
		Example: `  limber bench core
  limber bench core --supernet ofa_mbv3_w1.0.pth --json`,
		Args: exactly(0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) error {
			b := coreBench{printer: printer{w: c.OutOrStdout(), asJSON: asJSON}, progress: newProgress(c.ErrOrStderr())}
			return b.run(c.Context(), supernet)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a figure")
	c.Flags().StringVar(&supernet, "supernet", "", "checkpoint of an OFA-MobileNetV3 to cut six more members from")
	return c
}

type coreBench struct {
	printer
	progress *progress
	cache    string
}

func (b *coreBench) run(ctx context.Context, supernet string) error {
	rt, err := workshop.OpenRuntime()
	if err != nil {
		return err
	}
	b.cache, err = os.MkdirTemp("", "limber-bench-")
	if err != nil {
		return err
	}
	b.note("ONNX Runtime %s, %s, spinning off; base and ours use the same session and input", rt.Version(), ort.DefaultOptions())
	err = b.families(ctx, rt, supernet)
	err = errors.Join(err, rt.Close(), os.RemoveAll(b.cache))
	b.progress.end()
	return err
}

// families measures the stock members, then those of another supernet.
func (b *coreBench) families(ctx context.Context, rt *ort.Runtime, supernet string) error {
	f, err := stock.Family()
	if err != nil {
		return err
	}
	if err := b.family(ctx, rt, &f.Family, f, "stock"); err != nil {
		return err
	}
	started, err := b.start(ctx, rt)
	if err != nil {
		return err
	}
	if err := b.print(started); err != nil {
		return err
	}
	if supernet == "" {
		return nil
	}
	fam, blobs, err := imageNetFamily(rt, supernet)
	if err != nil {
		return err
	}
	return b.family(ctx, rt, fam, blobs, "w1.0")
}

func (b *coreBench) family(ctx context.Context, rt *ort.Runtime, fam *family.Family, blobs family.Blobs, name string) error {
	sessions, err := openSessions(resident.New(rt, fam, blobs, b.cache, ort.DefaultOptions(), nil), len(fam.Members))
	if err != nil {
		return err
	}
	var members []governor.Member
	for i, m := range fam.Members { // the governor only sees fixed modes here; any rising latency will do
		members = append(members, governor.Member{Name: m.Name, Top1: m.Top1, Latency: time.Duration(i+1) * time.Millisecond})
	}
	core, err := newCore(ctx, fam, sessions, members)
	if err != nil {
		return errors.Join(err, closeSessions(sessions))
	}
	err = b.parts(ctx, core, name)
	return errors.Join(err, core.close(), closeSessions(sessions))
}

// parts measures what there is to measure of each member.
func (b *coreBench) parts(ctx context.Context, core *core, name string) error {
	for _, part := range []struct {
		name    string
		measure func(context.Context, int) (figure, error)
	}{{"loop", core.loop}, {"switch", core.switching}, {"batch", core.batch}} {
		for i, m := range core.fam.Members {
			b.progress.tell(name+" "+part.name, i, len(core.fam.Members))
			f, err := part.measure(ctx, i)
			b.progress.end()
			if err != nil {
				return err
			}
			f.Name = fmt.Sprintf("%s %s %s", part.name, name, m.Name)
			if err := b.print(f); err != nil {
				return err
			}
		}
	}
	return nil
}

// turns is how often a round changes between ours and base.
const turns = 5

// runsOf is how many runs a round takes: half a second's worth, but 25 to 200.
func (c *core) runsOf(i int, out []float32) (int, error) {
	ms, err := c.bare(i, out)
	if err == nil {
		ms, err = c.bare(i, out)
	}
	return min(max(int(500/ms), 5*turns), 200), err
}

// loop measures jobs through the pipeline against the bare session, in turns.
func (c *core) loop(ctx context.Context, i int) (figure, error) {
	out := make([]float32, len(c.fam.Classes))
	n, err := c.runsOf(i, out)
	if err != nil {
		return figure{}, err
	}
	if err := c.fix(ctx, i); err != nil {
		return figure{}, err
	}
	var ours, base []float64
	for range rounds {
		mine, bare, err := inTurns(ctx, n, func() (float64, error) { return c.job(i) }, func() (float64, error) { return c.bare(i, out) })
		if err != nil {
			return figure{}, err
		}
		ours, base = append(ours, mine), append(base, bare)
	}
	b := median(base)
	goal, stretch := 1.03, 1.01
	if b < 10 {
		goal, stretch = (b+0.060)/b, (b+0.020)/b // 60 and 20 microseconds
	}
	return newFigure("core", "", "ms", ours, base, round4(goal), round4(stretch)), nil
}

// batch measures an image among governor.Batch against one alone.
func (c *core) batch(ctx context.Context, i int) (figure, error) {
	one, several := make([]float32, len(c.fam.Classes)), make([]float32, governor.Batch*len(c.fam.Classes))
	n, err := c.runsOf(i, one)
	if err != nil {
		return figure{}, err
	}
	var ours, base []float64
	for range rounds {
		mine, bare, err := inTurns(ctx, n, func() (float64, error) { return c.bare(i, several) }, func() (float64, error) { return c.bare(i, one) })
		if err != nil {
			return figure{}, err
		}
		ours, base = append(ours, mine), append(base, bare)
	}
	return newFigure("core", "", "ms", ours, base, 1, 0.8), nil
}

// inTurns repeats two measurements n times each, in short turns, as a machine's
// speed drifts, and returns their medians.
func inTurns(ctx context.Context, n int, ours, base func() (float64, error)) (o, b float64, err error) {
	var mine, other []float64
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
	return median(mine), median(other), nil
}

// switching measures the first job after a switch against the member's steady
// jobs.
func (c *core) switching(ctx context.Context, i int) (figure, error) {
	const tries = 9
	other := (i + len(c.fam.Members)/2) % len(c.fam.Members)
	var ours, base []float64
	for range rounds {
		var first []float64
		var steady []float64
		for range tries {
			if err := c.fix(ctx, other); err != nil {
				return figure{}, err
			}
			if _, err := repeat(ctx, 3, func() (float64, error) { return c.job(other) }); err != nil {
				return figure{}, err
			}
			if err := c.fix(ctx, i); err != nil {
				return figure{}, err
			}
			ms, err := repeat(ctx, 8, func() (float64, error) { return c.job(i) })
			if err != nil {
				return figure{}, err
			}
			first, steady = append(first, ms[0]), append(steady, ms[2:]...)
		}
		ours, base = append(ours, median(first)), append(base, median(steady))
	}
	b := median(base)
	return newFigure("core", "", "ms", ours, base, round4(max(1.15, (b+0.5)/b)), 1.05), nil
}

// repeat collects n measurements.
func repeat(ctx context.Context, n int, measure func() (float64, error)) ([]float64, error) {
	v := make([]float64, 0, n)
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
