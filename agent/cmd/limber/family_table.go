package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ofa"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/resident"
	"github.com/limber-edge/limber/family/search"
)

// tableArgs are the flags of `family table`.
type tableArgs struct {
	supernet, out   string
	resolutions     []int
	threads, rounds int
}

func newFamilyTable() *cobra.Command {
	var a tableArgs
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
		Args: exactly(0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) error { return a.run(c) },
	}
	f := c.Flags()
	f.StringVar(&a.supernet, "supernet", "", "PyTorch checkpoint, with its description X.json beside X.pth (required)")
	f.StringVar(&a.out, "out", "", "folder to write to (required)")
	f.IntSliceVar(&a.resolutions, "resolutions", nil, "pixels a side (default: all of the supernet's)")
	f.IntVar(&a.threads, "threads", 1, "threads of an inference")
	f.IntVar(&a.rounds, "rounds", 100, "runs of each layer")
	return c
}

// device is what a table depends on; it lies beside the files.
type device struct {
	Supernet family.Digest `json:"supernet"`
	Runtime  string        `json:"runtime"` // ONNX Runtime
	CPU      family.Digest `json:"cpu"`     // of its features
	Options  string        `json:"options"` // execution provider and threads
}

const deviceFile = "device.json"

func (a *tableArgs) run(c *cobra.Command) (err error) {
	if err := needed("limber family table", "supernet", a.supernet, "out", a.out); err != nil {
		return err
	}
	if a.threads < 1 || a.rounds < 1 {
		return usageError{errors.New("limber family table: --threads and --rounds want at least 1")}
	}
	net, err := loadSupernet(c.ErrOrStderr(), a.supernet)
	if err != nil {
		return err
	}
	if len(a.resolutions) == 0 {
		a.resolutions = net.Description().Resolutions
	}
	for _, r := range a.resolutions {
		if !slices.Contains(net.Description().Resolutions, r) {
			return usageError{fmt.Errorf("limber family table: --resolutions %d: the supernet was trained for %v", r, net.Description().Resolutions)}
		}
	}
	rt, err := openRuntime()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rt.Close()) }()
	if err := a.claim(rt); err != nil {
		return err
	}
	progress := newProgress(c.ErrOrStderr())
	defer progress.End()
	if err := a.measure(c, net, prober(rt, a.threads), progress); err != nil {
		return err
	}
	return a.compare(c, net, prober(rt, a.threads), progress)
}

// claim makes the folder this device's, or finds that it is.
func (a *tableArgs) claim(rt *ort.Runtime) error {
	checkpoint, err := os.ReadFile(a.supernet)
	if err != nil {
		return fmt.Errorf("supernet: %w", err)
	}
	o := ort.DefaultOptions()
	o.Threads = a.threads
	b, err := json.Marshal(device{family.DigestOf(checkpoint), rt.Version(), family.DigestOf([]byte(resident.CPU())), o.String()})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(a.out, 0o755); err != nil {
		return fmt.Errorf("latency table: %w", err)
	}
	path := filepath.Join(a.out, deviceFile)
	found, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return writeWhole(path, b)
	case err != nil:
		return fmt.Errorf("latency table: %w", err)
	case string(found) != string(b):
		return fmt.Errorf("%s holds a table of another supernet, device or number of threads; name another folder", a.out)
	}
	return nil
}

// measure writes the files that are not there.
func (a *tableArgs) measure(c *cobra.Command, net *ofa.Supernet, probe search.Prober, progress *progress) error {
	for i, r := range a.resolutions {
		path := filepath.Join(a.out, fmt.Sprintf("%d_lookup_table.json", r))
		if _, err := os.Stat(path); err == nil {
			progress.Note(c.OutOrStdout(), path+": kept")
			continue
		}
		tell := func(_ string, done, of int) {
			progress.Tell(fmt.Sprintf("%d pixels", r), done, of)
		}
		rows, err := search.MeasureTable(c.Context(), net, r, a.rounds, probe, tell)
		if c.Context().Err() != nil {
			return fmt.Errorf("interrupted after %d of %d resolutions; the same command goes on from there", i, len(a.resolutions))
		} else if err != nil {
			return fmt.Errorf("latency table of %d pixels: %w", r, err)
		}
		b, err := json.MarshalIndent(rows, "", " ")
		if err != nil {
			return err
		}
		if err := writeWhole(path, append(b, '\n')); err != nil {
			return err
		}
		progress.Note(c.OutOrStdout(), fmt.Sprintf("%s: %d rows", path, len(rows)))
	}
	return nil
}

// compared is how many whole networks a table is compared with.
const compared = 20

// compare says how well sums of rows tell the latency of whole networks.
func (a *tableArgs) compare(c *cobra.Command, net *ofa.Supernet, probe search.Prober, progress *progress) error {
	layout, err := search.LayoutOf(net)
	if err != nil {
		return err
	}
	layout.Resolutions = slices.Sorted(slices.Values(a.resolutions))
	space, err := search.SpaceOf(layout.Description)
	if err != nil {
		return err
	}
	table, err := search.ReadTable(os.DirFS(a.out), layout, space)
	if err != nil {
		return fmt.Errorf("%s: %w", a.out, err)
	}
	archs := search.Candidates(layout.Description, search.Plan{Samples: compared, Seed: rand.Uint64()})
	progress.Say("whole networks")
	whole, err := search.Timer{Net: net, Probe: probe, Runs: 20}.Times(c.Context(), archs)
	if err != nil {
		return interrupted(c.Context(), err)
	}
	progress.End()
	return printComparison(c.OutOrStdout(), table, archs, whole)
}

func interrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return errors.New("interrupted; the table itself is whole")
	}
	return err
}

func printComparison(w io.Writer, table *search.Table, archs []family.Arch, whole []float64) error {
	sums, ratios := make([]float64, len(archs)), make([]float64, len(archs))
	for i, arch := range archs {
		ms, err := table.Latency(arch)
		if err != nil {
			return err
		}
		sums[i], ratios[i] = ms, ms/whole[i]
	}
	slices.Sort(ratios)
	_, err := fmt.Fprintf(w, "%d whole networks on %s: the sum of their rows is %.2f times their latency (median; %.2f to %.2f), rank correlation %.3f\n",
		len(archs), runtime.GOARCH, ratios[len(ratios)/2], ratios[0], ratios[len(ratios)-1], search.Kendall(sums, whole))
	return err
}
