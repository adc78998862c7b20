package search

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ofa"
)

// Table adds up the latency of a network from published or measured latencies
// of its layers. It is safe for concurrent use.
//
// A table is a folder with a file R_lookup_table.json for each resolution R,
// an object of rows
//
//	"expanded_conv-input:112x112x24-output:56x56x32-expand:144-kernel:3-stride:2-idskip:0-se:0-hs:0":
//	    {"count": 79, "mean": 104.3, "std": 29.5}
//
// in milliseconds. The keys are made from a Layout; every one that the search
// space needs must be there. Tables of OFA-ProxylessNASNets, of which none was
// published, have the same form: their feature mix lies before the pool, so it
// is the row Conv_1, there is no Conv_2, and every block ends in se:0-hs:0. What
// a table says is not monotone: measured rows are noisy, and its rows leave out
// what happens between layers.
type Table struct {
	space Space
	rows  map[int]costs // by resolution
}

// costs are the milliseconds of one resolution.
type costs struct {
	static float64
	// block is indexed by stage, position (0 the first, 1 those behind it),
	// kernel size and expand ratio.
	block [][2][][]float64
}

// maxTable bounds a table's file; the published ones take 15 kB.
const maxTable = 4 << 20

// ReadTable reads the files of the space's resolutions.
func ReadTable(dir fs.FS, layout Layout, space Space) (*Table, error) {
	if len(layout.Stages) != len(space.Stages) || len(layout.Strides) != len(space.Stages)+1 {
		return nil, fmt.Errorf("latency table: the layout is of %s with %d stages, the search space has %d", layout.Kind,
			len(layout.Stages), len(space.Stages))
	}
	t := &Table{space: space, rows: make(map[int]costs)}
	for _, r := range space.Resolutions {
		name := fmt.Sprintf("%d_lookup_table.json", r)
		rows, err := readRows(dir, name)
		if err != nil {
			return nil, fmt.Errorf("latency table: %w", err)
		}
		if t.rows[r], err = rows.costs(layout, space, r); err != nil {
			return nil, fmt.Errorf("latency table: %s: %w", name, err)
		}
	}
	return t, nil
}

// MACTable is a table of a supernet's multiply-accumulates instead of a latency:
// what it adds up is exact, in millions.
func MACTable(net *ofa.Supernet, resolutions []int) (*Table, error) {
	layout, err := LayoutOf(net)
	if err != nil {
		return nil, err
	}
	layout.Resolutions = resolutions
	space, err := SpaceOf(layout.Description)
	if err != nil {
		return nil, err
	}
	t := &Table{space: space, rows: make(map[int]costs)}
	for _, r := range space.Resolutions {
		sections, err := sectionsOf(net, r)
		if err != nil {
			return nil, err
		}
		rows := make(tableRows, len(sections))
		for key, s := range sections {
			rows[key] = s.MMACs()
		}
		if t.rows[r], err = rows.costs(layout, space, r); err != nil {
			return nil, fmt.Errorf("table of multiply-accumulates: %w", err)
		}
	}
	return t, nil
}

// tableRows are the mean milliseconds by key.
type tableRows map[string]float64

func readRows(dir fs.FS, name string) (tableRows, error) {
	f, err := dir.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxTable+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	rows, err := parseRows(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return rows, nil
}

// parseRows reads one file. A row needs a mean that can be a latency; what else
// it tells is not used.
func parseRows(b []byte) (tableRows, error) {
	if len(b) > maxTable {
		return nil, fmt.Errorf("more than %d bytes: this is no latency table", maxTable)
	}
	var file map[string]struct {
		Mean *float64 `json:"mean"`
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	if err := dec.Decode(&file); err != nil {
		return nil, fmt.Errorf("read the rows: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the rows")
	}
	rows := make(tableRows, len(file))
	for key, row := range file {
		if row.Mean == nil || !(*row.Mean >= 0 && *row.Mean < 1e9) {
			return nil, fmt.Errorf("row %.200q has no mean of 0 to 1e9 milliseconds", key)
		}
		rows[key] = *row.Mean
	}
	return rows, nil
}

func (t tableRows) mean(key string) (float64, error) {
	ms, ok := t[key]
	if !ok {
		return 0, fmt.Errorf("there is no row %s: is it a table of this supernet?", key)
	}
	return ms, nil
}

// costs looks up everything an architecture of the resolution can consist of.
func (t tableRows) costs(layout Layout, space Space, resolution int) (costs, error) {
	var c costs
	for _, key := range layout.staticKeys(resolution) {
		ms, err := t.mean(key)
		if err != nil {
			return costs{}, err
		}
		c.static += ms
	}
	in := ofa.Map{Side: half(half(resolution, layout.StemStride), layout.Strides[0]), Channels: layout.First}
	for stage, blocks := range space.Stages {
		var position [2][][]float64
		for i := range min(blocks.Slots, len(position)) { // a stage of one block has none behind it
			first := i == 0
			options, err := t.options(layout, space, stage+1, in, first)
			if err != nil {
				return costs{}, err
			}
			position[i] = options
			in = layout.blockOf(stage+1, in, first, 0, 0).Out
		}
		c.block = append(c.block, position)
	}
	return c, nil
}

// options looks up a block with every kernel size and expand ratio.
func (t tableRows) options(layout Layout, space Space, stage int, in ofa.Map, first bool) ([][]float64, error) {
	options := make([][]float64, len(space.KS))
	for k, kernel := range space.KS {
		for _, ratio := range space.E {
			ms, err := t.mean(keyOf(layout.blockOf(stage, in, first, ofa.Expanded(in.Channels, ratio), kernel), 0, false))
			if err != nil {
				return nil, err
			}
			options[k] = append(options[k], ms)
		}
	}
	return options, nil
}

// Latency adds up the milliseconds of one inference.
func (t *Table) Latency(a family.Arch) (float64, error) {
	c, ok := t.rows[a.R]
	if !ok {
		return 0, fmt.Errorf("the latency table was not read for %d pixels", a.R)
	}
	if len(a.D) != len(t.space.Stages) || len(a.KS) != t.space.slots() || len(a.E) != len(a.KS) {
		return 0, fmt.Errorf("architecture: wants %d d, %d ks and as many e, got %d, %d and %d", len(t.space.Stages),
			t.space.slots(), len(a.D), len(a.KS), len(a.E))
	}
	ms := c.static
	for i, stage := range t.space.Stages {
		for j := range min(a.D[i], stage.Slots) {
			k, e := slices.Index(t.space.KS, a.KS[stage.First+j]), slices.Index(t.space.E, a.E[stage.First+j])
			if k < 0 || e < 0 {
				return 0, fmt.Errorf("the latency table was not read for kernel size %d with expand ratio %v", a.KS[stage.First+j],
					a.E[stage.First+j])
			}
			ms += c.block[i][min(j, 1)][k][e]
		}
	}
	return ms, nil
}
