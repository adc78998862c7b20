package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ofa"
	"github.com/limber-edge/limber/family/search"
	"github.com/limber-edge/limber/family/workshop"
)

// searchArgs are the flags of `family search`.
type searchArgs struct {
	predictor, table string
	supernet         string
	resolutions      []int
	limits           []float64 // ms
	macs             []float64 // MMACs, instead
	climbs           int
	seed             uint64
	json             bool
}

func newFamilySearch() *cobra.Command {
	var a searchArgs
	c := &cobra.Command{
		Use:   "search",
		Short: "Find the most accurate sub-network for each latency, by estimates",
		Long: `Find the most accurate sub-network for each latency, by the published accuracy
predictor and a latency table: a published one of OFA-MobileNetV3 w1.2, or one that
"family table" measured here, of the supernet that --supernet then names. With
--max-mmacs it is multiply-accumulates that are limited, and no table is needed.

One search works out the whole front and answers for every limit; without one, for
ten over the whole range. A limit that nothing meets is answered with the fastest
sub-network there is. The same seed gives the same answer.

The table is a folder of files R_lookup_table.json, one for each resolution R, in
milliseconds. Accuracy is on the predictor's own scale, 4 to 6 points above what
ImageNet's validation images then say; the order is right.`,
		Example: `  limber family search --accuracy-predictor acc_predictor.pth --latency-table ./jetson-cpu
  limber family search --accuracy-predictor acc_predictor.pth --latency-table ./jetson-gpu \
      --resolutions 192,208,224 --max-latency 21 --max-latency 26 --json
  limber family search --accuracy-predictor acc_predictor.pth --supernet ofa.pth --max-mmacs 300`,
		RunE: func(c *cobra.Command, _ []string) error { return a.run(c) },
	}
	f := c.Flags()
	f.StringVar(&a.predictor, "accuracy-predictor", "", "checkpoint of the accuracy predictor (required)")
	f.StringVar(&a.table, "latency-table", "", "folder of the latency table (required without --max-mmacs)")
	f.IntSliceVar(&a.resolutions, "resolutions", []int{160, 176, 192, 208, 224},
		"input resolutions to choose from, pixels a side")
	f.Float64SliceVar(&a.limits, "max-latency", nil, "the most an inference may take, in ms; may be given again")
	f.StringVar(&a.supernet, "supernet", "", "checkpoint of the supernet (default: the published OFA-MobileNetV3 w1.2)")
	f.Float64SliceVar(&a.macs, "max-mmacs", nil, "the most millions of multiply-accumulates; may be given again")
	f.IntVar(&a.climbs, "climbs", search.DefaultClimbs, "ascents of the search; fewer take less time and miss more")
	f.Uint64Var(&a.seed, "seed", 1, "of the search")
	f.BoolVar(&a.json, "json", false, "print a JSON object for each limit")
	return c
}

func (a *searchArgs) run(c *cobra.Command) error {
	if err := a.check(); err != nil {
		return err
	}
	shop, progress := newShop(c)
	query, err := a.query(shop)
	if err != nil {
		return err
	}
	front, err := search.Find(c.Context(), query, progress.Tell)
	progress.End()
	if err != nil {
		return err
	}
	return a.print(c.OutOrStdout(), front)
}

func (a *searchArgs) check() error {
	wants := []string{"accuracy-predictor", a.predictor, "latency-table", a.table}
	if len(a.macs) > 0 {
		wants = []string{"accuracy-predictor", a.predictor, "supernet", a.supernet}
	}
	if err := needed("limber family search", wants...); err != nil {
		return err
	}
	if len(a.macs) > 0 && (a.table != "" || len(a.limits) > 0) {
		return usagef("limber family search: limit either latency, by a table, or MMACs")
	}
	if a.climbs < 1 {
		return usagef("limber family search: --climbs %d: wants at least 1", a.climbs)
	}
	for _, l := range slices.Concat(a.limits, a.macs) {
		if !(l > 0) || math.IsInf(l, 0) {
			return usagef("limber family search: --max-latency or --max-mmacs %v: wants a number above 0", l)
		}
	}
	return nil
}

func (a *searchArgs) query(shop workshop.Shop) (search.Query, error) {
	predictor, err := search.LoadPredictor(a.predictor)
	if err != nil {
		return search.Query{}, err
	}
	layout, net, err := a.layout(shop)
	if err != nil {
		return search.Query{}, err
	}
	known := layout.Resolutions
	layout.Resolutions = slices.Compact(slices.Sorted(slices.Values(a.resolutions)))
	if err := knownPixels("limber family search", layout.Resolutions, known); err != nil {
		return search.Query{}, err
	}
	space, err := search.SpaceOf(layout.Description)
	if err != nil {
		return search.Query{}, err
	}
	q := search.Query{Space: space, Accuracy: predictor, Limits: slices.Concat(a.limits, a.macs), Seed: a.seed,
		Climbs: a.climbs}
	if len(a.macs) > 0 {
		q.Latency, err = search.MACTable(net, layout.Resolutions)
		return q, err
	}
	if q.Latency, err = search.ReadTable(os.DirFS(a.table), layout, space); err != nil {
		return search.Query{}, fmt.Errorf("%s: %w", a.table, err)
	}
	return q, nil
}

// layout is that of the supernet named, which is nil for the published one.
func (a *searchArgs) layout(shop workshop.Shop) (search.Layout, *ofa.Supernet, error) {
	if a.supernet == "" {
		return search.PublishedLayout(1.2), nil, nil
	}
	net, err := shop.LoadSupernet(a.supernet)
	if err != nil {
		return search.Layout{}, nil, err
	}
	layout, err := search.LayoutOf(net)
	return layout, net, err
}

func (a *searchArgs) print(w io.Writer, front search.Front) error {
	lines, unit := answers(front, slices.Concat(a.limits, a.macs)), "ms"
	if len(a.macs) > 0 { // which are what the front has for latencies
		unit = "MMACs"
	}
	if len(a.macs) == 0 || !a.json {
		return printAnswers(w, a.json, unit, lines)
	}
	macs := make([]macLine, len(lines))
	for i, l := range lines {
		macs[i] = macLine(l)
	}
	return printLines(w, macs)
}

// searchLine is one line of `family search --json`.
type searchLine struct {
	Max      float64     `json:"max_latency_ms"`
	Feasible bool        `json:"feasible"` // if not, the rest is the fastest sub-network
	Arch     family.Arch `json:"arch"`
	Accuracy float64     `json:"accuracy"` // predictor's scale
	Cost     float64     `json:"latency_ms"`
}

// answers reads the front at each limit, or at ten over its range.
func answers(front search.Front, limits []float64) []searchLine {
	if len(limits) == 0 {
		limits = search.Steps(front[0].Latency, front[len(front)-1].Latency, 10)
	}
	var lines []searchLine
	for _, l := range limits {
		found, ok := front.Within(l)
		lines = append(lines, searchLine{l, ok, found.Arch, found.Accuracy, found.Latency})
	}
	return lines
}

// macLine is one line of `family search --max-mmacs --json`.
type macLine struct {
	Max      float64     `json:"max_mmacs"`
	Feasible bool        `json:"feasible"`
	Arch     family.Arch `json:"arch"`
	Accuracy float64     `json:"accuracy"` // predictor's scale
	Cost     float64     `json:"mmacs"`
}

// printAnswers prints lines whose limits and costs are in some unit.
func printAnswers(w io.Writer, asJSON bool, unit string, lines []searchLine) error {
	head := "limit " + unit + "\t" + unit + "\taccuracy %\tpixels\tkernel sizes by stage\texpand ratios by stage\t"
	return printList(w, asJSON, lines, 0, head, func(l searchLine) string {
		remark := ""
		if !l.Feasible {
			remark = "nothing has so little; this has the least"
		}
		kernels, ratios := byStage(l.Arch)
		return fmt.Sprintf("%.1f\t%.1f\t%.2f\t%d\t%s\t%s\t%s", l.Max, l.Cost, 100*l.Accuracy, l.Arch.R,
			kernels, ratios, remark)
	})
}

// byStage writes a digit for each block that is used, a word for each stage.
func byStage(a family.Arch) (kernels, ratios string) {
	var k, e []string
	slots := len(a.KS) / len(a.D)
	for stage, depth := range a.D {
		first := stage * slots
		k = append(k, strings.ReplaceAll(digits(a.KS[first:first+depth]), " ", ""))
		e = append(e, strings.Join(strings.Fields(strings.Trim(fmt.Sprint(a.E[first:first+depth]), "[]")), ""))
	}
	return strings.Join(k, " "), strings.Join(e, " ")
}
