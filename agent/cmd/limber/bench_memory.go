package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ofa"
	"github.com/limber-edge/limber/family/onnx"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/stock"
	"github.com/limber-edge/limber/family/workshop"
)

func newBenchMemory() *cobra.Command {
	var asJSON bool
	var supernet string
	c := &cobra.Command{
		Use:   "memory",
		Short: "What resident members take",
		Long: `Measure, in turns, in processes of their own, all members of a family resident
and run many times each:

  resident  anonymous memory that the sessions added, against plain sessions of
            the same models: optimised when loaded, weights copied and packed
  create    making the sessions, against the same
  run       the sum of the members' median latencies, against the same: what is
            saved must not be paid for here

Every figure is a median of ` + fmt.Sprint(rounds) + ` rounds. Members are the stock family's, and with
--supernet six sub-networks of an OFA-MobileNetV3 for ImageNet.`,
		Example: `  limber bench memory
  limber bench memory --supernet ofa_mbv3_w1.0.pth --json`,
		Args: exactly(0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) (err error) {
			b := memoryBench{printer: printer{w: c.OutOrStdout(), asJSON: asJSON}, progress: newProgress(c.ErrOrStderr()), rounds: rounds}
			if b.folder, err = os.MkdirTemp("", "limber-bench-"); err != nil {
				return err
			}
			err = b.run(c.Context(), supernet)
			b.progress.end()
			return errors.Join(err, os.RemoveAll(b.folder))
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a figure")
	c.Flags().StringVar(&supernet, "supernet", "", "checkpoint of an OFA-MobileNetV3 to cut six more members from")
	return c
}

type memoryBench struct {
	printer
	progress *progress
	folder   string
	rounds   int
}

// lodger is one model that a process of the benchmark keeps resident.
type lodger struct {
	Path      string    `json:"path"`
	Optimized bool      `json:"optimized"` // by ort.Optimize, as the agent keeps it
	Shape     ort.Shape `json:"shape"`
}

// lodging is what a process of the benchmark found.
type lodging struct {
	AnonMiB  float64 `json:"anon_mib"`  // added by the sessions
	CreateMS float64 `json:"create_ms"` // all sessions together
	RunMS    float64 `json:"run_ms"`    // sum of the sessions' median runs
}

func (b *memoryBench) run(ctx context.Context, supernet string) error {
	rt, err := workshop.OpenRuntime()
	if err != nil {
		return err
	}
	plain, ours, err := b.models(rt, supernet)
	version := rt.Version()
	if err = errors.Join(err, rt.Close()); err != nil {
		return err
	}
	b.note("ONNX Runtime %s, %s, spinning off; base and ours run the same models on the same input", version, ort.DefaultOptions())
	for i := range plain {
		if err := b.family(ctx, []string{"stock", "w1.0"}[i], plain[i], ours[i]); err != nil {
			return err
		}
	}
	return nil
}

// models writes the members of both families twice: as they are, and optimised.
func (b *memoryBench) models(rt *ort.Runtime, supernet string) (plain, ours [][]lodger, err error) {
	f, err := stock.Family()
	if err != nil {
		return nil, nil, err
	}
	families, blobs := []*family.Family{&f.Family}, []family.Blobs{f}
	if supernet != "" {
		fam, blob, err := imageNetFamily(rt, supernet)
		if err != nil {
			return nil, nil, err
		}
		families, blobs = append(families, fam), append(blobs, blob)
	}
	for i := range families {
		p, o, err := b.lodgers(rt, families[i], blobs[i])
		if err != nil {
			return nil, nil, err
		}
		plain, ours = append(plain, p), append(ours, o)
	}
	return plain, ours, nil
}

func (b *memoryBench) lodgers(rt *ort.Runtime, f *family.Family, blobs family.Blobs) (plain, ours []lodger, err error) {
	desc, err := ofa.ParseDescription(f.Describe)
	if err != nil {
		return nil, nil, err
	}
	checkpoint, err := blobs.Blob(f.Supernet)
	if err != nil {
		return nil, nil, err
	}
	net, err := ofa.Parse(checkpoint, desc)
	if err != nil {
		return nil, nil, err
	}
	for i, m := range f.Members {
		b.progress.tell("models", i, len(f.Members))
		sub, err := net.Member(m, blobs)
		if err != nil {
			return nil, nil, err
		}
		model, err := sub.Model(onnx.Dynamic)
		if err != nil {
			return nil, nil, err
		}
		p := lodger{Path: filepath.Join(b.folder, f.Name+m.Name+".onnx"), Shape: shapeOf(sub)}
		o := lodger{Path: filepath.Join(b.folder, f.Name+m.Name+"-optimized.onnx"), Shape: p.Shape, Optimized: true}
		err = errors.Join(os.WriteFile(p.Path, model, 0o600), rt.Optimize(model, o.Path, o.Shape, ort.DefaultOptions()))
		if err != nil {
			return nil, nil, err
		}
		plain, ours = append(plain, p), append(ours, o)
	}
	b.progress.end()
	return plain, ours, nil
}

// family measures one family both ways, in turns.
func (b *memoryBench) family(ctx context.Context, name string, plain, ours []lodger) error {
	var memory, create, runs [2][]float64
	for round := range b.rounds {
		b.progress.tell(name, round, b.rounds)
		for i, members := range [][]lodger{ours, plain} {
			found, err := lodge(ctx, members)
			if err != nil {
				return err
			}
			memory[i], create[i], runs[i] = append(memory[i], found.AnonMiB), append(create[i], found.CreateMS), append(runs[i], found.RunMS)
		}
	}
	b.progress.end()
	members := fmt.Sprintf(" %s, %d members", name, len(ours))
	if err := b.print(newFigure("memory", "resident"+members, "MiB", memory[0], memory[1], 0.30, 0.15)); err != nil {
		return err
	}
	if err := b.print(newFigure("memory", "create"+members, "ms", create[0], create[1], 0.35, 0.20)); err != nil {
		return err
	}
	return b.print(newFigure("memory", "run"+members, "ms", runs[0], runs[1], 1.05, 1))
}

// lodge lets a process of its own keep the members resident.
func lodge(ctx context.Context, members []lodger) (lodging, error) {
	spec, err := json.Marshal(members)
	if err != nil {
		return lodging{}, err
	}
	exe, err := os.Executable()
	if err != nil {
		return lodging{}, err
	}
	c := exec.CommandContext(ctx, exe, "lodge")
	c.Stdin, c.Stderr = bytes.NewReader(spec), os.Stderr
	out, err := c.Output()
	if err != nil {
		return lodging{}, fmt.Errorf("lodge: %w", err)
	}
	var found lodging
	return found, json.Unmarshal(out, &found)
}

// newLodge is the process that the benchmark starts.
func newLodge() *cobra.Command {
	return &cobra.Command{
		Use:    "lodge",
		Short:  "Keep the models named on standard input resident, and say what that took",
		Args:   exactly(0, "no arguments"),
		Hidden: true,
		RunE: func(c *cobra.Command, _ []string) error {
			var members []lodger
			if err := json.NewDecoder(c.InOrStdin()).Decode(&members); err != nil {
				return err
			}
			found, err := takeIn(members)
			if err != nil {
				return err
			}
			return json.NewEncoder(c.OutOrStdout()).Encode(found)
		},
	}
}

// lodgerRuns is how often each session runs.
const lodgerRuns = 30

// takeIn makes a session of each model and runs it.
func takeIn(members []lodger) (found lodging, err error) {
	rt, err := workshop.OpenRuntime()
	if err != nil {
		return found, err
	}
	before, err := anonymous()
	if err != nil {
		return found, err
	}
	for _, m := range members {
		o := ort.DefaultOptions()
		o.Optimized = m.Optimized
		begin := time.Now()
		s, err := rt.NewSession(m.Path, m.Shape, o)
		if err != nil {
			return found, err
		}
		found.CreateMS += float64(time.Since(begin)) / 1e6
		defer s.Close() // freeing memory at the end of the process
		in, out := workshop.Noise(3*m.Shape.R*m.Shape.R), make([]float32, m.Shape.Classes)
		var ms []float64
		for range lodgerRuns {
			begin := time.Now()
			if err := s.Run(out, in); err != nil {
				return found, err
			}
			ms = append(ms, float64(time.Since(begin))/1e6)
		}
		found.RunMS += median(ms)
	}
	after, err := anonymous()
	found.AnonMiB = after - before
	return found, err
}

// anonymous is this process's anonymous memory in MiB. The kernel adds up what
// each processor counted only now and then, so it is off by a little.
func anonymous() (float64, error) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if kb, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(kb), "kB")), 64)
			return n / 1024, err
		}
	}
	return 0, errors.New("/proc/self/status says nothing of anonymous memory")
}
