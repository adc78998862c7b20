package workshop

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/resident"
	"github.com/limber-edge/limber/family/search"
)

// Ways are those in which a family's members are measured: every combination.
type Ways struct {
	Providers []string // execution providers
	Threads   []int    // of an inference
	Batches   []int    // images of an inference
	Rounds    int      // inferences of each
}

// Latency is what one member takes in one way.
type Latency struct {
	Member    string  `json:"member"`
	Provider  string  `json:"provider"`
	Threads   int     `json:"threads"`
	Batch     int     `json:"batch"`
	P50       float64 `json:"p50_ms"` // of the whole batch
	P95       float64 `json:"p95_ms"`
	CVPercent float64 `json:"cv_percent"`        // standard deviation over mean
	PerSecond float64 `json:"images_per_second"` // at the median
	Runs      int     `json:"runs"`
}

// Profile measures how long members take on this machine. All of them take turns. A
// provider that is not usable is left out, and noted.
func (s Shop) Profile(ctx context.Context, f *family.Folder, ways Ways) (lines []Latency, err error) {
	room, err := openScratch()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, room.Close()) }()
	p := profiler{shop: s, room: room, fam: f}
	defer func() { err = errors.Join(err, p.close()) }()
	if err := p.prepareAll(ways); err != nil {
		return nil, err
	}
	if len(p.probes) == 0 {
		return nil, fmt.Errorf("none of the execution providers %s is usable", strings.Join(ways.Providers, ", "))
	}
	runs, err := search.Turns(ctx, p.probes, ways.Rounds, s.Progress.Tell)
	if err != nil {
		return nil, err
	}
	for i := range p.lines {
		p.lines[i].fill(runs[i])
	}
	return p.lines, nil
}

// profiler holds what takes turns.
type profiler struct {
	shop   Shop
	room   *scratch
	fam    *family.Folder
	lines  []Latency
	probes []search.Probe // by line
}

func (p *profiler) prepareAll(ways Ways) error {
	for _, provider := range ways.Providers {
		if err := p.room.rt.Provides(provider); err != nil {
			p.shop.Progress.Note("left out: " + err.Error())
			continue
		}
		for _, threads := range ways.Threads {
			for _, batch := range ways.Batches {
				p.shop.Progress.Say(fmt.Sprintf("preparing %s with %d threads and batches of %d", provider, threads, batch))
				if err := p.prepare(ort.Options{Provider: provider, Threads: threads}, batch); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// prepare makes every member ready in one way.
func (p *profiler) prepare(o ort.Options, batch int) error {
	shelf, err := p.room.shelf(p.fam, o, p.shop.Guard)
	if err != nil {
		return err
	}
	for i, m := range p.fam.Members {
		probe, err := p.probe(shelf, i, batch)
		if err != nil {
			return fmt.Errorf("member %s on %s, batches of %d: %w", m.Name, o, batch, err)
		}
		p.lines = append(p.lines, Latency{Member: m.Name, Provider: o.Provider, Threads: o.Threads, Batch: batch})
		p.probes = append(p.probes, probe)
	}
	return nil
}

// probe is the agent's own session with a batch of images.
func (p *profiler) probe(shelf *resident.Shelf, member, batch int) (search.Probe, error) {
	if batch > 1 && p.fam.Foreign() {
		return nil, errors.New("a foreign model takes one image at a time")
	}
	session, err := shelf.Session(member)
	if err != nil {
		return nil, err
	}
	r := p.fam.Members[member].Arch.R
	return timed{session, slices.Repeat([][]float32{make([]float32, 3*r*r)}, batch),
		make([]float32, batch*len(p.fam.Classes))}, nil
}

// timed is a session with what it runs on.
type timed struct {
	family.Session
	in  [][]float32
	out []float32
}

func (t timed) Run() error { return t.Session.Run(t.out, t.in...) }

func (p *profiler) close() error {
	var errs []error
	for _, probe := range p.probes {
		errs = append(errs, probe.Close())
	}
	return errors.Join(errs...)
}

func (l *Latency) fill(ms []float64) {
	p50, p95, cv := resident.Spread(ms)
	l.P50, l.P95, l.CVPercent, l.Runs = p50, p95, 100*cv, len(ms)
	l.PerSecond = 1000 * float64(l.Batch) / l.P50
}
