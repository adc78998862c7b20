package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/workshop"
)

// profileArgs are the flags of `family profile`.
type profileArgs struct {
	family string
	ways   workshop.Ways
	json   bool
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
		PreRunE: func(*cobra.Command, []string) error { return a.check() },
		RunE:    onFamily(&a.family, a.run),
	}
	familyFlag(c, &a.family)
	f := c.Flags()
	f.StringSliceVar(&a.ways.Providers, "providers", []string{ort.CPU},
		"execution providers: "+strings.Join(ort.Providers(), ", "))
	f.IntSliceVar(&a.ways.Threads, "threads", []int{1}, "threads of an inference")
	f.IntSliceVar(&a.ways.Batches, "batch", []int{1}, "images of an inference")
	f.IntVar(&a.ways.Rounds, "rounds", 50, "inferences of each")
	f.BoolVar(&a.json, "json", false, "print a JSON object a line")
	return c
}

func (a *profileArgs) check() error {
	if slices.Min(slices.Concat(a.ways.Threads, a.ways.Batches, []int{a.ways.Rounds})) < 1 {
		return usagef("limber family profile: --threads, --batch and --rounds want at least 1")
	}
	known := ort.Providers()
	if len(a.ways.Providers) == 0 {
		return usagef("limber family profile: --providers is empty: known are %s", strings.Join(known, ", "))
	}
	for _, p := range a.ways.Providers {
		if !slices.Contains(known, p) {
			return usagef("limber family profile: --providers %s: known are %s", p, strings.Join(known, ", "))
		}
	}
	return nil
}

func (a *profileArgs) run(c *cobra.Command, f *family.Folder) error {
	shop, progress := newShop(c)
	progress.notes = c.ErrOrStderr() // lines are all that is printed
	lines, err := shop.Profile(c.Context(), f, a.ways)
	progress.End()
	if err != nil {
		return err
	}
	const head = "member\tprovider\tthreads\tbatch\tp50 ms\tp95 ms\tcv %\timages/s\truns"
	return printList(c.OutOrStdout(), a.json, lines, 0, head, func(l workshop.Latency) string {
		return fmt.Sprintf("%s\t%s\t%d\t%d\t%.3f\t%.3f\t%.1f\t%.0f\t%d", l.Member, l.Provider, l.Threads, l.Batch, l.P50,
			l.P95, l.CVPercent, l.PerSecond, l.Runs)
	})
}

func newFamilyTable() *cobra.Command {
	var o workshop.TableOrder
	c := &cobra.Command{
		Use:   "table",
		Short: "Measure a latency table of this device, layer by layer",
		Long: `Measure every layer that a sub-network of a supernet can consist of, alone, on this
device, and write the published form of a latency table: a file
R_lookup_table.json for each resolution R, a row for each layer,

  "expanded_conv-input:80x80x24-output:40x40x32-expand:96-kernel:5-stride:2-idskip:0-se:0-hs:0":
    {"count": 90, "mean": 1.234, "std": 0.056}

in milliseconds: mean and standard deviation of the faster nine tenths of the
runs, less what it costs to run a model of nothing. "family search" reads it.
The sum of a network's rows is compared with whole networks at the end: layers
measured alone convert their inputs, which neighbours in a network need not.

Nothing else should run on the device meanwhile. Resolutions that are in the
folder already, measured in the same way on the same device, are kept.`,
		Example: `  limber family table --supernet ofa.pth --resolutions 160,192,224 --out ./table
  limber family search --accuracy-predictor acc_predictor.pth --latency-table ./table`,
		RunE: func(c *cobra.Command, _ []string) error { return measureTable(c, o) },
	}
	f := c.Flags()
	f.StringVar(&o.Supernet, "supernet", "", "PyTorch checkpoint, with its description X.json beside X.pth (required)")
	f.StringVar(&o.Out, "out", "", "folder to write to (required)")
	f.IntSliceVar(&o.Resolutions, "resolutions", nil, "pixels a side (default: all of the supernet's)")
	f.IntVar(&o.Threads, "threads", 1, "threads of an inference")
	f.IntVar(&o.Rounds, "rounds", 100, "runs of each layer")
	return c
}

func measureTable(c *cobra.Command, o workshop.TableOrder) error {
	if err := needed("limber family table", "supernet", o.Supernet, "out", o.Out); err != nil {
		return err
	}
	if o.Threads < 1 || o.Rounds < 1 {
		return usagef("limber family table: --threads and --rounds want at least 1")
	}
	shop, progress := newShop(c)
	defer progress.End()
	net, err := shop.LoadSupernet(o.Supernet)
	if err != nil {
		return err
	}
	known := net.Description().Resolutions
	if len(o.Resolutions) == 0 {
		o.Resolutions = known
	}
	if err := knownPixels("limber family table", o.Resolutions, known); err != nil {
		return err
	}
	return shop.Table(c.Context(), net, o)
}

// knownPixels tells whether a supernet can take these resolutions.
func knownPixels(command string, resolutions, known []int) error {
	if len(resolutions) == 0 {
		return usagef("%s: --resolutions is empty, choose from %v", command, known)
	}
	for _, r := range resolutions {
		if !slices.Contains(known, r) {
			return usagef("%s: --resolutions %d: the supernet was trained for %v", command, r, known)
		}
	}
	return nil
}
