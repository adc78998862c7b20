package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/resident"
	"github.com/limber-edge/limber/family/search"
)

// profileArgs are the flags of `family profile`.
type profileArgs struct {
	family           string
	providers        []string
	threads, batches []int
	rounds           int
	json             bool
}

func newFamilyProfile() *cobra.Command {
	var a profileArgs
	c := &cobra.Command{
		Use:   "profile",
		Short: "Measure the members of a family on this device",
		Long: `Measure how long the members of a family take on this device, for every execution
provider with every number of threads and every size of batch asked for. All of
them take turns, so that a machine that grows slower favours none, and warm up
first. They run in sessions as the agent's. Nothing else should run meanwhile: "cv"
is standard deviation over mean, and tells whether it did.

The agent takes a profile of its own, see "limber agent --help"; this one is for
choosing the threads it runs with.`,
		Example: `  limber family profile
  limber family profile --family mine.family --threads 1,2,4 --batch 1,8 --json`,
		Args: exactly(0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) error { return a.run(c) },
	}
	familyFlag(c, &a.family)
	f := c.Flags()
	f.StringSliceVar(&a.providers, "providers", []string{ort.CPU}, "execution providers: "+strings.Join(ort.Providers(), ", "))
	f.IntSliceVar(&a.threads, "threads", []int{1}, "threads of an inference")
	f.IntSliceVar(&a.batches, "batch", []int{1}, "images of an inference")
	f.IntVar(&a.rounds, "rounds", 50, "inferences of each")
	f.BoolVar(&a.json, "json", false, "print a JSON object a line")
	return c
}

// profileLine is one line of `family profile --json`.
type profileLine struct {
	Member    string  `json:"member"`
	Provider  string  `json:"provider"`
	Threads   int     `json:"threads"`
	Batch     int     `json:"batch"`
	P50       float64 `json:"p50_ms"` // of the whole batch
	P95       float64 `json:"p95_ms"`
	CVPercent float64 `json:"cv_percent"`
	PerSecond float64 `json:"images_per_second"` // at the median
	Runs      int     `json:"runs"`
}

func (a *profileArgs) check() error {
	for _, n := range slices.Concat(a.threads, a.batches, []int{a.rounds}) {
		if n < 1 {
			return usageError{errors.New("limber family profile: --threads, --batch and --rounds want at least 1")}
		}
	}
	known := ort.Providers()
	if len(a.providers) == 0 {
		return usageError{fmt.Errorf("limber family profile: --providers is empty: known are %s", strings.Join(known, ", "))}
	}
	for _, p := range a.providers {
		if !slices.Contains(known, p) {
			return usageError{fmt.Errorf("limber family profile: --providers %s: known are %s", p, strings.Join(known, ", "))}
		}
	}
	return nil
}

func (a *profileArgs) run(c *cobra.Command) (err error) {
	if err := a.check(); err != nil {
		return err
	}
	f, err := openFamily(a.family)
	if err != nil {
		return err
	}
	defer f.Close()
	rt, err := openRuntime()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rt.Close()) }()
	cache, err := os.MkdirTemp("", "limber-profile-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(cache)) }()

	progress := newProgress(c.ErrOrStderr())
	defer progress.End()
	p := profiler{rt: rt, fam: f, cache: cache}
	defer func() { err = errors.Join(err, p.close()) }()
	for _, provider := range a.providers {
		if err := rt.Provides(provider); err != nil {
			progress.Note(c.ErrOrStderr(), "left out: "+err.Error())
			continue
		}
		for _, threads := range a.threads {
			for _, batch := range a.batches {
				progress.Say(fmt.Sprintf("preparing %s with %d threads and batches of %d", provider, threads, batch))
				if err := p.prepare(ort.Options{Provider: provider, Threads: threads}, batch); err != nil {
					return err
				}
			}
		}
	}
	if len(p.probes) == 0 {
		return fmt.Errorf("none of the execution providers %s is usable", strings.Join(a.providers, ", "))
	}
	runs, err := search.Turns(c.Context(), p.probes, a.rounds, progress.Tell)
	if err != nil {
		return err
	}
	progress.End()
	for i := range p.lines {
		p.lines[i].fill(runs[i])
	}
	if a.json {
		return printJSON(c.OutOrStdout(), p.lines)
	}
	return printLatencies(c.OutOrStdout(), p.lines)
}

// profiler holds what takes turns.
type profiler struct {
	rt     *ort.Runtime
	fam    *family.Folder
	cache  string
	lines  []profileLine
	probes []search.Probe // by line
}

// prepare makes every member ready in one way.
func (p *profiler) prepare(o ort.Options, batch int) error {
	cache := filepath.Join(p.cache, o.Provider) // a shelf sweeps what is not its own
	if err := os.MkdirAll(cache, 0o700); err != nil {
		return err
	}
	shelf := resident.New(p.rt, &p.fam.Family, p.fam, cache, o, newTrial())
	for i, m := range p.fam.Members {
		probe, err := p.probe(shelf, i, batch)
		if err != nil {
			return fmt.Errorf("member %s on %s, batches of %d: %w", m.Name, o, batch, err)
		}
		p.lines = append(p.lines, profileLine{Member: m.Name, Provider: o.Provider, Threads: o.Threads, Batch: batch})
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
	return timed{session, slices.Repeat([][]float32{make([]float32, 3*r*r)}, batch), make([]float32, batch*len(p.fam.Classes))}, nil
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

// fill computes the figures from runs in milliseconds.
func (l *profileLine) fill(ms []float64) {
	slices.Sort(ms)
	var sum, square float64
	for _, v := range ms {
		sum, square = sum+v, square+v*v
	}
	mean := sum / float64(len(ms))
	l.P50, l.P95, l.Runs = ms[len(ms)/2], ms[len(ms)*95/100], len(ms)
	l.CVPercent = 100 * math.Sqrt(max(0, square/float64(len(ms))-mean*mean)) / mean
	l.PerSecond = 1000 * float64(l.Batch) / l.P50
}

func printLatencies(w io.Writer, lines []profileLine) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "member\tprovider\tthreads\tbatch\tp50 ms\tp95 ms\tcv %\timages/s\truns")
	for _, l := range lines {
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%.3f\t%.3f\t%.1f\t%.0f\t%d\n", l.Member, l.Provider, l.Threads, l.Batch, l.P50, l.P95, l.CVPercent, l.PerSecond, l.Runs)
	}
	return t.Flush()
}
