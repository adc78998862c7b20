package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent/fleet/controller"
	"github.com/limber-edge/limber/agent/wire"
)

// rolloutShadow are the flags that say how a family is compared.
type rolloutShadow struct {
	only    bool
	percent float64
}

func (a *rolloutShadow) flags(c *cobra.Command) {
	c.Flags().BoolVar(&a.only, "shadow-only", false, "compare a family with the one in use, and have no device take it")
	c.Flags().Float64Var(&a.percent, "shadow-percent", wire.Shadow{}.Share(),
		"of its frames, and of the time, that a device compares at most")
}

// compare has the spec be as the flags say.
func (a *rolloutStart) compare(c *cobra.Command) error {
	s := &a.spec
	asked := c.Flags().Changed("shadow-percent")
	switch {
	case !a.shadow.only && !asked:
		return nil
	case a.family == "":
		return usagef("--shadow-only and --shadow-percent are of a --family: nothing else is compared")
	case a.shadow.only && a.probation != "":
		return usagef("--probation is of a family that is taken into use; with --shadow-only none is")
	}
	s.Shadow = &wire.Shadow{Only: a.shadow.only}
	if asked {
		s.Shadow.Percent = &a.shadow.percent
	}
	if a.shadow.only && !c.Flags().Changed("soak") {
		s.SoakMS = nil // there is nothing to be observed
	}
	return nil
}

// shadowLines are what devices found, as a table by device and one by the values of labels;
// none where nothing was compared.
func shadowLines(d wire.Rollout, of controller.Labels) []string {
	found := controller.Agreements(d.Devices)
	if len(found) == 0 {
		return nil
	}
	figures := func(a wire.Agreement) []string {
		p95 := "-"
		if a.P95MS != nil {
			p95 = fmt.Sprintf("%.4g ms", *a.P95MS)
		}
		share := float64(a.Agreed) / float64(a.Frames)
		return []string{fmt.Sprint(a.Frames), fmt.Sprintf("%.6g", share), p95, fmt.Sprint(a.Missed)}
	}
	head := []string{"FRAMES", "AGREEMENT", "P95", "MISSED"}
	rows := [][]string{append([]string{"DEVICE"}, head...)}
	for _, one := range found {
		rows = append(rows, append([]string{one.Device}, figures(*one.Shadow)...))
	}
	lines := append([]string{""}, table(rows)...)
	sums := controller.ByLabel(d.Devices, of)
	if len(sums) == 0 {
		return lines
	}
	rows = [][]string{append([]string{"LABEL", "DEVICES"}, head...)}
	for _, sum := range sums {
		rows = append(rows, append([]string{sum.Label + "=" + sum.Value, fmt.Sprint(sum.Devices)}, figures(sum.Agreement)...))
	}
	return append(append(lines, ""), table(rows)...)
}
