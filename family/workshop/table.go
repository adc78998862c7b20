package workshop

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ofa"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/resident"
	"github.com/limber-edge/limber/family/search"
	"github.com/limber-edge/limber/store"
)

// A TableOrder says which latency table to measure.
type TableOrder struct {
	Supernet    string // checkpoint of the network that is handed in beside it
	Resolutions []int  // pixels a side, of those the supernet was trained for
	Threads     int    // of an inference
	Rounds      int    // runs of each layer
	Out         string // folder to write to
}

// device is what a table depends on; it lies beside the files.
type device struct {
	Supernet family.Digest `json:"supernet"`
	Runtime  string        `json:"runtime"` // ONNX Runtime
	CPU      family.Digest `json:"cpu"`     // of its features
	Options  string        `json:"options"` // execution provider and threads
}

const deviceFile = "device.json"

// Table measures every layer that a sub-network can consist of, alone, and notes how
// well sums of them tell the latency of whole networks. Files that are there already,
// measured in the same way on the same device, are kept.
func (s Shop) Table(ctx context.Context, net *ofa.Supernet, o TableOrder) (err error) {
	rt, err := OpenRuntime()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rt.Close()) }()
	if err := o.claim(rt); err != nil {
		return err
	}
	if err := s.measureTable(ctx, net, o, prober(rt, o.Threads)); err != nil {
		return err
	}
	return s.compareTable(ctx, net, o, prober(rt, o.Threads))
}

// claim makes the folder this device's, or finds that it is.
func (o TableOrder) claim(rt *ort.Runtime) error {
	checkpoint, err := os.ReadFile(o.Supernet)
	if err != nil {
		return fmt.Errorf("supernet: %w", err)
	}
	how := ort.DefaultOptions()
	how.Threads = o.Threads
	b, err := json.Marshal(device{family.DigestOf(checkpoint), rt.Version(), family.DigestOf([]byte(resident.CPU())),
		how.String()})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(o.Out, 0o755); err != nil {
		return fmt.Errorf("latency table: %w", err)
	}
	path := filepath.Join(o.Out, deviceFile)
	found, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return store.WriteFile(path, b)
	case err != nil:
		return fmt.Errorf("latency table: %w", err)
	case string(found) != string(b):
		return fmt.Errorf("%s holds a table of another supernet, device or number of threads; name another folder", o.Out)
	}
	return nil
}

func (s Shop) measureTable(ctx context.Context, net *ofa.Supernet, o TableOrder, probe search.Prober) error {
	for i, r := range o.Resolutions {
		path := filepath.Join(o.Out, fmt.Sprintf("%d_lookup_table.json", r))
		if _, err := os.Stat(path); err == nil {
			s.Progress.Note(path + ": kept")
			continue
		}
		tell := func(_ string, done, of int) {
			s.Progress.Tell(fmt.Sprintf("%d pixels", r), done, of)
		}
		rows, err := search.MeasureTable(ctx, net, r, o.Rounds, probe, tell)
		if ctx.Err() != nil {
			return fmt.Errorf("interrupted after %d of %d resolutions; the same command goes on from there",
				i, len(o.Resolutions))
		} else if err != nil {
			return fmt.Errorf("latency table of %d pixels: %w", r, err)
		}
		b, err := json.MarshalIndent(rows, "", " ")
		if err != nil {
			return err
		}
		if err := store.WriteFile(path, append(b, '\n')); err != nil {
			return err
		}
		s.Progress.Note(fmt.Sprintf("%s: %d rows", path, len(rows)))
	}
	return nil
}

// compared is how many whole networks a table is compared with.
const compared = 20

// compare says how well sums of rows tell the latency of whole networks.
func (s Shop) compareTable(ctx context.Context, net *ofa.Supernet, o TableOrder, probe search.Prober) error {
	layout, err := search.LayoutOf(net)
	if err != nil {
		return err
	}
	layout.Resolutions = slices.Sorted(slices.Values(o.Resolutions))
	space, err := search.SpaceOf(layout.Description)
	if err != nil {
		return err
	}
	table, err := search.ReadTable(os.DirFS(o.Out), layout, space)
	if err != nil {
		return fmt.Errorf("%s: %w", o.Out, err)
	}
	archs := search.Candidates(layout.Description, search.Plan{Samples: compared, Seed: rand.Uint64()})
	s.Progress.Say("whole networks")
	whole, err := search.Timer{Net: net, Probe: probe, Runs: 20}.Times(ctx, archs)
	if ctx.Err() != nil {
		return errors.New("interrupted; the table itself is whole")
	} else if err != nil {
		return err
	}
	said, err := comparison(table, archs, whole)
	if err != nil {
		return err
	}
	s.Progress.Note(said)
	return nil
}

// comparison says how far sums of rows are from the latencies of whole networks, in ms.
func comparison(table *search.Table, archs []family.Arch, whole []float64) (string, error) {
	sums, ratios := make([]float64, len(archs)), make([]float64, len(archs))
	for i, arch := range archs {
		ms, err := table.Latency(arch)
		if err != nil {
			return "", err
		}
		sums[i], ratios[i] = ms, ms/whole[i]
	}
	slices.Sort(ratios)
	return fmt.Sprintf("%d whole networks on %s: the sum of their rows is %.2f times their latency "+
		"(median; %.2f to %.2f), rank correlation %.3f",
		len(archs), runtime.GOARCH, ratios[len(ratios)/2], ratios[0], ratios[len(ratios)-1], search.Kendall(sums, whole)), nil
}
