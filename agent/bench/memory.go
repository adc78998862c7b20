package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/limber-edge/limber/agent/bench/figure"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ofa"
	"github.com/limber-edge/limber/family/onnx"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/workshop"
)

// Memory measures what resident members take, those of the stock family and, if it
// is named, of another supernet.
func Memory(ctx context.Context, b Bench, rt *ort.Runtime, supernet string) error {
	m := memoryBench{Bench: b, rounds: Rounds, probe: probeProcess}
	return m.run(ctx, rt, supernet)
}

type memoryBench struct {
	Bench
	rounds int
	probe  func(context.Context, []Model) (Residence, error)
}

// Model is one that a process of the benchmark keeps resident.
type Model struct {
	Path      string    `json:"path"`
	Optimized bool      `json:"optimized"` // by ort.Optimize, as the agent keeps it
	Shape     ort.Shape `json:"shape"`
}

// Residence is what keeping models resident takes.
type Residence struct {
	AnonMiB  float64 `json:"anon_mib"`  // added by the sessions
	CreateMS float64 `json:"create_ms"` // all sessions together
	RunMS    float64 `json:"run_ms"`    // sum of the sessions' median runs
}

func (b *memoryBench) run(ctx context.Context, rt *ort.Runtime, supernet string) error {
	supernets := []string{""}
	if supernet != "" {
		supernets = append(supernets, supernet)
	}
	var plain, ours [][]Model
	for _, name := range supernets {
		fam, blobs, err := familyOf(rt, name)
		if err != nil {
			return err
		}
		p, o, err := b.written(rt, fam, blobs)
		if err != nil {
			return err
		}
		plain, ours = append(plain, p), append(ours, o)
	}
	b.Note("ONNX Runtime %s, %s, spinning off; base and ours run the same models on the same input", rt.Version(),
		ort.DefaultOptions())
	for i := range plain {
		if err := b.family(ctx, []string{"stock", "w1.0"}[i], plain[i], ours[i]); err != nil {
			return err
		}
	}
	return nil
}

// written writes the members of a family twice: as they are, and optimised.
func (b *memoryBench) written(rt *ort.Runtime, f *family.Family, blobs family.Blobs) (plain, ours []Model, err error) {
	net, err := supernetOf(f, blobs)
	if err != nil {
		return nil, nil, err
	}
	for i, m := range f.Members {
		b.Progress.Tell("models", i, len(f.Members))
		sub, err := net.Member(m, blobs)
		if err != nil {
			return nil, nil, err
		}
		model, err := sub.Model(onnx.Dynamic)
		if err != nil {
			return nil, nil, err
		}
		p := Model{Path: filepath.Join(b.Dir, f.Name+m.Name+".onnx"), Shape: shapeOf(sub)}
		o := Model{Path: filepath.Join(b.Dir, f.Name+m.Name+"-optimized.onnx"), Shape: p.Shape, Optimized: true}
		err = errors.Join(os.WriteFile(p.Path, model, 0o600), rt.Optimize(model, o.Path, o.Shape, ort.DefaultOptions()))
		if err != nil {
			return nil, nil, err
		}
		plain, ours = append(plain, p), append(ours, o)
	}
	b.Progress.End()
	return plain, ours, nil
}

// supernetOf is what a family's members are cut from.
func supernetOf(f *family.Family, blobs family.Blobs) (*ofa.Supernet, error) {
	desc, err := ofa.ParseDescription(f.Describe)
	if err != nil {
		return nil, err
	}
	checkpoint, err := blobs.Blob(f.Supernet)
	if err != nil {
		return nil, err
	}
	return ofa.Parse(checkpoint, desc)
}

// family measures one family both ways, in turns.
func (b *memoryBench) family(ctx context.Context, name string, plain, ours []Model) error {
	var memory, create, runs [2]figure.Sample
	for round := range b.rounds {
		b.Progress.Tell(name, round, b.rounds)
		for i, members := range [][]Model{ours, plain} {
			found, err := b.probe(ctx, members)
			if err != nil {
				return err
			}
			memory[i], create[i], runs[i] = append(memory[i], found.AnonMiB), append(create[i], found.CreateMS),
				append(runs[i], found.RunMS)
		}
	}
	members := fmt.Sprintf(" %s, %d members", name, len(ours))
	if err := b.Print(figure.New("memory", "resident"+members, "MiB", memory[0], memory[1], 0.30, 0.15)); err != nil {
		return err
	}
	if err := b.Print(figure.New("memory", "create"+members, "ms", create[0], create[1], 0.35, 0.20)); err != nil {
		return err
	}
	return b.Print(figure.New("memory", "run"+members, "ms", runs[0], runs[1], 1.05, 1))
}

// probeProcess lets a process of its own keep the members resident.
func probeProcess(ctx context.Context, members []Model) (Residence, error) {
	spec, err := json.Marshal(members)
	if err != nil {
		return Residence{}, err
	}
	exe, err := os.Executable()
	if err != nil {
		return Residence{}, err
	}
	c := exec.CommandContext(ctx, exe, "probe")
	c.Stdin, c.Stderr = bytes.NewReader(spec), os.Stderr
	out, err := c.Output()
	if err != nil {
		return Residence{}, fmt.Errorf("probe: %w", err)
	}
	var found Residence
	return found, json.Unmarshal(out, &found)
}

// probeRuns is how often each session runs.
const probeRuns = 30

// ProbeModels makes a session of each model that input lists as JSON, runs it, and
// says on output what that took.
func ProbeModels(rt *ort.Runtime, input io.Reader, output io.Writer) error {
	var models []Model
	if err := json.NewDecoder(input).Decode(&models); err != nil {
		return err
	}
	found, err := probe(rt, models)
	if err != nil {
		return err
	}
	return json.NewEncoder(output).Encode(found)
}

func probe(rt *ort.Runtime, models []Model) (found Residence, err error) {
	before, err := anonymous()
	if err != nil {
		return found, err
	}
	for _, m := range models {
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
		var ms figure.Sample
		for range probeRuns {
			begin := time.Now()
			if err := s.Run(out, in); err != nil {
				return found, err
			}
			ms = append(ms, float64(time.Since(begin))/1e6)
		}
		found.RunMS += ms.Median()
	}
	after, err := anonymous()
	found.AnonMiB = after - before
	return found, err
}

// anonymous is this process's anonymous memory in MiB.
func anonymous() (float64, error) { return anonymousOf("/proc/self/status") }

// anonymousOf is the same of the process whose status the file is. The kernel adds up
// what each processor counted only now and then, so it is off by a little.
func anonymousOf(status string) (float64, error) {
	b, err := os.ReadFile(status)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if kb, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(kb), "kB")), 64)
			return n / 1024, err
		}
	}
	return 0, fmt.Errorf("%s says nothing of anonymous memory", status)
}
