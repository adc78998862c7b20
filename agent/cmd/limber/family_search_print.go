package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/search"
)

func (a *searchArgs) print(w io.Writer, front search.Front) error {
	if len(a.macs) > 0 {
		return a.printMACs(w, front)
	}
	return printAnswers(w, a.json, "ms", answers(front, a.limits))
}

// searchLine is one line of `family search --json`.
type searchLine struct {
	MaxLatency float64     `json:"max_latency_ms"`
	Feasible   bool        `json:"feasible"` // if not, the rest is the fastest sub-network
	Arch       family.Arch `json:"arch"`
	Accuracy   float64     `json:"accuracy"` // predictor's scale
	Latency    float64     `json:"latency_ms"`
}

// answers reads the front at each limit, or at ten over its range.
func answers(front search.Front, limits []float64) []searchLine {
	if len(limits) == 0 {
		limits = search.Steps(front[0].Latency, front[len(front)-1].Latency, 10)
	}
	var lines []searchLine
	for _, l := range limits {
		found, ok := front.Within(l)
		lines = append(lines, searchLine{MaxLatency: l, Feasible: ok, Arch: found.Arch, Accuracy: found.Accuracy,
			Latency: found.Latency})
	}
	return lines
}

// macLine is one line of `family search --max-mmacs --json`.
type macLine struct {
	Max      float64     `json:"max_mmacs"`
	Feasible bool        `json:"feasible"`
	Arch     family.Arch `json:"arch"`
	Accuracy float64     `json:"accuracy"` // predictor's scale
	MMACs    float64     `json:"mmacs"`
}

// printMACs answers limits of MMACs, which are what the front has for latencies.
func (a *searchArgs) printMACs(w io.Writer, front search.Front) error {
	lines := answers(front, a.macs)
	if !a.json {
		return printAnswers(w, false, "MMACs", lines)
	}
	var macs []macLine
	for _, l := range lines {
		macs = append(macs, macLine{Max: l.MaxLatency, Feasible: l.Feasible, Arch: l.Arch, Accuracy: l.Accuracy,
			MMACs: l.Latency})
	}
	return printLines(w, macs)
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
		return fmt.Sprintf("%.1f\t%.1f\t%.2f\t%d\t%s\t%s\t%s", l.MaxLatency, l.Latency, 100*l.Accuracy, l.Arch.R,
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
