package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent/fleet"
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

// agreements are what devices found when they compared a family, in the order of those that
// somebody should look at first.
func agreements(devices []wire.RolloutDevice) (all []wire.RolloutDevice) {
	for _, d := range devices {
		if d.Shadow != nil && d.Shadow.Frames > 0 {
			all = append(all, d)
		}
	}
	slices.SortStableFunc(all, func(a, b wire.RolloutDevice) int {
		return cmp.Compare(agreed(*a.Shadow), agreed(*b.Shadow))
	})
	return all
}

// agreed is the share of the frames, of which there are some.
func agreed(a wire.Agreement) float64 { return float64(a.Agreed) / float64(a.Frames) }

// labelled is what the devices with a value of a label found, all together. Its p95 is the
// mean of theirs, by their frames.
type labelled struct {
	Label   string `json:"label"`
	Value   string `json:"value"`
	Devices int    `json:"devices"`
	wire.Agreement
}

// add takes in what another device found.
func (l *labelled) add(a wire.Agreement) {
	switch {
	case a.P95MS == nil:
	case l.P95MS == nil:
		l.P95MS = a.P95MS
	default:
		sum := *l.P95MS*float64(l.Frames) + *a.P95MS*float64(a.Frames)
		l.P95MS = new(sum / float64(l.Frames+a.Frames))
	}
	l.Devices++
	l.Frames, l.Agreed, l.Missed = l.Frames+a.Frames, l.Agreed+a.Agreed, l.Missed+a.Missed
	l.Agreement.Agreement = new(agreed(l.Agreement))
}

// labels are those that operators gave a device.
type labels func(device string) map[string]string

func labelsOf(r *fleet.Registry) labels {
	return func(device string) map[string]string { return r.Device(device).Labels }
}

// byLabel are those of all labels that the devices have.
func byLabel(devices []wire.RolloutDevice, of labels) []labelled {
	sums := map[[2]string]labelled{}
	for _, d := range agreements(devices) {
		for label, value := range of(d.Device) {
			key := [2]string{label, value}
			sum, known := sums[key]
			if !known {
				sum = labelled{Label: label, Value: value}
			}
			sum.add(*d.Shadow)
			sums[key] = sum
		}
	}
	return slices.SortedFunc(maps.Values(sums), func(a, b labelled) int {
		return cmp.Or(cmp.Compare(a.Label, b.Label), cmp.Compare(a.Value, b.Value))
	})
}

// shadowLines are what devices found, as a table by device and one by the values of labels;
// none where nothing was compared.
func shadowLines(d wire.Rollout, labels labels) []string {
	found := agreements(d.Devices)
	if len(found) == 0 {
		return nil
	}
	figures := func(a wire.Agreement) []string {
		p95 := "-"
		if a.P95MS != nil {
			p95 = fmt.Sprintf("%.4g ms", *a.P95MS)
		}
		return []string{fmt.Sprint(a.Frames), fmt.Sprintf("%.4g", agreed(a)), p95, fmt.Sprint(a.Missed)}
	}
	head := []string{"FRAMES", "AGREEMENT", "P95", "MISSED"}
	rows := [][]string{append([]string{"DEVICE"}, head...)}
	for _, of := range found {
		rows = append(rows, append([]string{of.Device}, figures(*of.Shadow)...))
	}
	lines := append([]string{""}, table(rows)...)
	sums := byLabel(d.Devices, labels)
	if len(sums) == 0 {
		return lines
	}
	rows = [][]string{append([]string{"LABEL", "DEVICES"}, head...)}
	for _, of := range sums {
		rows = append(rows, append([]string{of.Label + "=" + of.Value, fmt.Sprint(of.Devices)}, figures(of.Agreement)...))
	}
	return append(append(lines, ""), table(rows)...)
}
