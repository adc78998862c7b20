package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent/governor/replay"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/resident"
	"github.com/limber-edge/limber/family/stock"
	"github.com/limber-edge/limber/family/workshop"
)

// recordArgs are the flags of `bench record`.
type recordArgs struct {
	supernet, out, schedule string
	seed                    uint64
}

const defaultSchedule = "12s idle, 8s cpu:1, 12s idle, 8s cpu:2, 12s idle, 8s cpu:4, 12s idle"

func newBenchRecord() *cobra.Command {
	var a recordArgs
	c := &cobra.Command{
		Use:   "record",
		Short: "Record what every member takes under a scripted load, for bench governor",
		Long: `Run every member at each step, in random order, while a scripted load comes and
goes, and write a trace that "bench governor" replays. Until it is whole it is called
FILE.part, where it stays if the recording ends early. A script is a list of stages,
each a duration and a load:

  idle       nothing; the first stage must be idle
  cpu:N      N processes that compute
  memory:N   N processes that copy memory
  low:N      N processes that compute at a low priority
  quota:N    N percent of one CPU for the members, by a control group (needs root);
             the load beside them is not limited
  A+B        both

Members are the stock family's, and with --supernet six sub-networks of an
OFA-MobileNetV3 for ImageNet instead.`,
		Example: `  limber bench record --out cpu.txt
  limber bench record --supernet ofa_mbv3_w1.0.pth --out mixed.txt \
      --schedule '12s idle, 8s memory:1, 6s idle, 8s cpu:1+low:2, 6s quota:40, 8s idle'`,
		Args: exactly(0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) error { return a.run(c) },
	}
	c.Flags().StringVar(&a.supernet, "supernet", "", "checkpoint of an OFA-MobileNetV3 to cut six members from")
	c.Flags().StringVar(&a.out, "out", "", "file for the trace (default: standard output)")
	c.Flags().StringVar(&a.schedule, "schedule", defaultSchedule, "the script of the load")
	c.Flags().Uint64Var(&a.seed, "seed", 1, "of the order of members within a step")
	return c
}

func (a *recordArgs) run(c *cobra.Command) error {
	stages, err := parseSchedule(a.schedule)
	if err != nil {
		return usageError{fmt.Errorf("limber bench record: --schedule: %w", err)}
	}
	r := recorder{random: rand.New(rand.NewPCG(a.seed, 0)), progress: newProgress(c.ErrOrStderr())}
	if err := r.load.prepare(stages); err != nil {
		return err
	}
	measure := func(w io.Writer) error { return a.measure(c.Context(), &r, stages, w) }
	if a.out == "" {
		err = measure(c.OutOrStdout())
	} else {
		err = fillFile(a.out, measure)
	}
	r.progress.end()
	return errors.Join(err, r.load.clear())
}

func (a *recordArgs) measure(ctx context.Context, r *recorder, stages []stage, w io.Writer) error {
	rt, err := workshop.OpenRuntime()
	if err != nil {
		return err
	}
	cache, err := os.MkdirTemp("", "limber-bench-")
	if err != nil {
		return errors.Join(err, rt.Close())
	}
	err = r.open(rt, a.supernet, cache)
	if err == nil {
		err = r.record(ctx, stages, w)
	}
	return errors.Join(err, closeSessions(r.sessions), rt.Close(), os.RemoveAll(cache))
}

// fillFile makes the file when it is whole: half a trace looks like a whole one.
// After an error what was written is in name.part.
func fillFile(name string, fill func(io.Writer) error) error {
	if target, err := filepath.EvalSymlinks(name); err == nil {
		name = target // the link stays
	}
	if i, err := os.Stat(name); err == nil && !i.Mode().IsRegular() {
		return fillDevice(name, fill)
	}
	part := name + ".part"
	f, err := os.CreateTemp(filepath.Dir(name), ".limber-*") // an earlier part stays until there is more
	if err != nil {
		return err
	}
	err = errors.Join(fill(f), f.Chmod(0o644), f.Close())
	if err == nil {
		return os.Rename(f.Name(), name)
	}
	if i, e := os.Stat(f.Name()); e != nil || i.Size() == 0 {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if e := os.Rename(f.Name(), part); e != nil {
		return errors.Join(err, e)
	}
	return fmt.Errorf("%w; what was written until then is in %s", err, part)
}

// fillDevice writes to what is no file, such as /dev/null or a pipe, and must
// not be replaced by one.
func fillDevice(name string, fill func(io.Writer) error) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(fill(f), f.Close())
}

// recorder measures members in turns.
type recorder struct {
	random   *rand.Rand
	progress *progress
	sessions []family.Session
	inputs   [][]float32
	logits   []float32
	load     load
}

// benchFamily is the stock family, or six members of another supernet.
func benchFamily(rt *ort.Runtime, supernet string) (*family.Family, family.Blobs, error) {
	if supernet != "" {
		return imageNetFamily(rt, supernet)
	}
	f, err := stock.Family()
	if err != nil {
		return nil, nil, err
	}
	return &f.Family, f, nil
}

func (r *recorder) open(rt *ort.Runtime, supernet, cache string) error {
	fam, blobs, err := benchFamily(rt, supernet)
	if err != nil {
		return err
	}
	r.logits = make([]float32, len(fam.Classes))
	r.progress.say("loading members")
	r.sessions, err = openSessions(resident.New(rt, fam, blobs, cache, ort.DefaultOptions(), nil), len(fam.Members))
	if err != nil {
		return err
	}
	for _, m := range fam.Members {
		r.inputs = append(r.inputs, workshop.Noise(3*m.Arch.R*m.Arch.R))
	}
	return nil
}

// warmUp is how often each member runs before the recording.
const warmUp = 20

// record writes a line a step. However it ends, what was measured until then is
// written.
func (r *recorder) record(ctx context.Context, stages []stage, w io.Writer) (err error) {
	for range warmUp {
		if _, err := r.step(); err != nil {
			return err
		}
	}
	b := bufio.NewWriter(w)
	defer func() {
		if e := b.Flush(); err == nil {
			err = e
		}
	}()
	began := time.Now()
	for phase, s := range stages {
		if err := r.load.set(s); err != nil {
			return err
		}
		for end := time.Now().Add(s.length); time.Now().Before(end); {
			if ctx.Err() != nil {
				return fmt.Errorf("stopped in stage %d of %d, after %v of recording", phase+1, len(stages), time.Since(began).Round(100*time.Millisecond))
			}
			r.progress.tell("recording, stage", phase+1, len(stages))
			at := time.Since(began)
			latency, err := r.step()
			if err != nil {
				return err
			}
			if _, err := fmt.Fprintln(b, replay.Step{At: at, Phase: phase, Load: s.load(), Latency: latency}); err != nil {
				return err
			}
		}
	}
	return nil
}

// step runs every member once, in random order.
func (r *recorder) step() ([]time.Duration, error) {
	latency := make([]time.Duration, len(r.sessions))
	for _, i := range r.random.Perm(len(r.sessions)) {
		start := time.Now()
		if err := r.sessions[i].Run(r.logits, r.inputs[i]); err != nil {
			return nil, err
		}
		latency[i] = time.Since(start)
	}
	return latency, nil
}
