package bench

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

	"github.com/limber-edge/limber/agent/bench/load"
	"github.com/limber-edge/limber/agent/governor/replay"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/resident"
)

// Recording is a trace to be made.
type Recording struct {
	Stages   []load.Stage
	Supernet string // of the members; empty: the stock family's
	Seed     uint64 // of the order of members within a step
	Out      string // file; until the trace is whole it is called Out.part
}

// Record runs every member at each step, in random order, while a scripted load
// comes and goes. The trace goes to the bench's writer if no file is named.
func Record(ctx context.Context, b Bench, rt *ort.Runtime, o Recording) (err error) {
	r := recorder{Bench: b, random: rand.New(rand.NewPCG(o.Seed, 0))}
	if err := r.load.Prepare(o.Stages); err != nil {
		return err
	}
	measure := func(w io.Writer) error {
		err := r.open(rt, o.Supernet)
		if err == nil {
			err = r.record(ctx, o.Stages, w)
		}
		return errors.Join(err, closeSessions(r.sessions))
	}
	if o.Out == "" {
		err = measure(b.W)
	} else {
		err = fillFile(o.Out, measure)
	}
	return errors.Join(err, r.load.Clear())
}

// recorder measures members in turns.
type recorder struct {
	Bench
	random   *rand.Rand
	sessions []family.Session
	inputs   [][]float32
	logits   []float32
	load     load.Load
}

func (r *recorder) open(rt *ort.Runtime, supernet string) error {
	fam, blobs, err := familyOf(rt, supernet)
	if err != nil {
		return err
	}
	r.logits = make([]float32, len(fam.Classes))
	r.Progress.Say("loading members")
	r.sessions, err = openSessions(resident.New(rt, fam, blobs, r.Dir, ort.DefaultOptions(), nil), len(fam.Members))
	if err != nil {
		return err
	}
	r.inputs = noises(fam)
	return nil
}

// warmUp is how often each member runs before the recording.
const warmUp = 20

// record writes a line a step. However it ends, what was measured until then is
// written.
func (r *recorder) record(ctx context.Context, stages []load.Stage, w io.Writer) (err error) {
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
		if err := r.load.Set(s); err != nil {
			return err
		}
		for end := time.Now().Add(s.Length); time.Now().Before(end); {
			if ctx.Err() != nil {
				return fmt.Errorf("stopped in stage %d of %d, after %v of recording", phase+1, len(stages),
					time.Since(began).Round(100*time.Millisecond))
			}
			r.Progress.Tell("recording, stage", phase+1, len(stages))
			at := time.Since(began)
			latency, err := r.step()
			if err != nil {
				return err
			}
			if _, err := fmt.Fprintln(b, replay.Step{At: at, Phase: phase, Load: s.Count(),
				Latency: latency}); err != nil {
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
