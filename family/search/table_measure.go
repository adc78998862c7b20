package search

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/limber-edge/limber/family/ofa"
	"github.com/limber-edge/limber/family/onnx"
)

// Row is a line of a latency table's file.
type Row struct {
	Count int     `json:"count"` // runs that the two others are of
	Mean  float64 `json:"mean"`  // milliseconds
	Std   float64 `json:"std"`   // milliseconds
}

// Prober makes a model ready to be timed, with one input and one output of
// float32 in these shapes.
type Prober func(model []byte, input string, in []int, output string, out []int) (Probe, error)

// Probe is a model ready to be timed.
type Probe interface {
	Run() error // the model once, on whatever is in its input
	Close() error
}

// What counts of the runs of a row: the slowest are those that something else
// got in the way of.
const (
	slowest  = 10 // one in so many is left out
	warmRuns = 3
)

// MeasureTable measures the rows of one resolution on this device: every
// section of every architecture, once. Rows take turns, so that a machine that
// grows slower favours none. What it costs to run a model of nothing is taken
// off: a whole network pays that once.
func MeasureTable(ctx context.Context, net *ofa.Supernet, resolution, rounds int, probe Prober,
	tell Progress) (rows map[string]Row, err error) {
	sections, err := sectionsOf(net, resolution)
	if err != nil {
		return nil, err
	}
	var keys []string
	var probes []Probe
	defer func() {
		for _, p := range probes {
			err = errors.Join(err, p.Close())
		}
	}()
	idle, err := idleProbe(probe)
	if err != nil {
		return nil, err
	}
	probes = append(probes, idle)
	for key, s := range sections {
		p, err := sectionProbe(s, probe)
		if err != nil {
			return nil, fmt.Errorf("row %s: %w", key, err)
		}
		keys, probes = append(keys, key), append(probes, p)
	}
	runs, err := Turns(ctx, probes, rounds, tell)
	if err != nil {
		return nil, err
	}
	rows = make(map[string]Row, len(keys))
	nothing := rowOf(runs[0]).Mean
	for i, key := range keys {
		row := rowOf(runs[i+1])
		row.Mean = max(row.Mean-nothing, 0)
		rows[key] = row
	}
	return rows, nil
}

// sectionsOf finds one example of every section, by key: the uniform
// architectures at full depth have them all.
func sectionsOf(net *ofa.Supernet, resolution int) (map[string]ofa.Section, error) {
	d, found := net.Description(), map[string]ofa.Section{}
	for _, k := range d.KS {
		for _, e := range d.E {
			sub, err := net.Cut(d.Uniform(k, e, slices.Max(d.D), resolution))
			if err != nil {
				return nil, err
			}
			sections := sub.Sections()
			for i, key := range keysOf(sections, resolution) {
				found[key] = sections[i]
			}
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("a latency table has rows of blocks with a kernel size and an expand ratio; %s has none, "+
			"measure whole sub-networks", d.Kind)
	}
	return found, nil
}

func sectionProbe(s ofa.Section, probe Prober) (Probe, error) {
	model, output, err := s.Model()
	if err != nil {
		return nil, err
	}
	out := []int{1, s.Out.Channels, s.Out.Side, s.Out.Side}
	if s.Classifier {
		out = out[:2]
	}
	return probe(model, ofa.InputName, []int{1, s.In.Channels, s.In.Side, s.In.Side}, output, out)
}

// idleProbe is a model of nothing.
func idleProbe(probe Prober) (Probe, error) {
	one := []int{1, 1, 1, 1}
	g := onnx.New("nothing", onnx.Value{Name: "in", Dims: one})
	g.Output(onnx.Value{Name: g.Node("Identity", "out", []string{"in"}), Dims: one})
	model, err := g.Marshal()
	if err != nil {
		return nil, err
	}
	return probe(model, "in", one, "out", one)
}

// Turns runs probes in turns and returns the milliseconds of each one's runs.
// It ends early with ctx's error.
func Turns(ctx context.Context, probes []Probe, rounds int, tell Progress) ([][]float64, error) {
	ms := make([][]float64, len(probes))
	for round := range warmRuns + rounds {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		tell("rounds", round, warmRuns+rounds)
		for i, p := range probes {
			began := time.Now()
			if err := p.Run(); err != nil {
				return nil, err
			}
			if round >= warmRuns {
				ms[i] = append(ms[i], float64(time.Since(began))/float64(time.Millisecond))
			}
		}
	}
	return ms, nil
}

func rowOf(ms []float64) Row {
	ms = slices.Sorted(slices.Values(ms))
	ms = ms[:len(ms)-len(ms)/slowest]
	row := Row{Count: len(ms)}
	for _, v := range ms {
		row.Mean += v / float64(len(ms))
	}
	for _, v := range ms {
		row.Std += (v - row.Mean) * (v - row.Mean) / float64(len(ms))
	}
	row.Std = math.Sqrt(row.Std)
	return row
}
