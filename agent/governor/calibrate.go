package governor

const (
	tooSlow = 5 // inferences in a row beyond the histograms that contradict a profile
	tooFast = 8 // inferences in a row below the histograms that contradict it
)

// contradiction watches for latencies that no load explains: beyond the last
// bin, or faster than an unloaded device can be. One is an outlier; a run of
// them means that the profiles are wrong, such as taken on another device, on
// a busy one, or before its clock was cut. Profiles are then scaled together. It
// is in snapshots.
type contradiction struct {
	Runs  int
	Slow  bool
	Ratio float64 // to the profile, the one of the run closest to 1
}

// meet takes the ratio of one latency to its profile. It returns the factor to
// scale the profiles with, if there is one.
func (c *contradiction) meet(ratio float64) (scale float64, ok bool) {
	if ratio >= binLow && ratio < binHigh {
		*c = contradiction{}
		return 0, false
	}
	slow := ratio >= binHigh
	switch {
	case c.Runs == 0 || slow != c.Slow:
		*c = contradiction{Slow: slow, Ratio: ratio}
	case slow:
		c.Ratio = min(c.Ratio, ratio)
	default:
		c.Ratio = max(c.Ratio, ratio)
	}
	c.Runs++
	if slow && c.Runs < tooSlow || !slow && c.Runs < tooFast {
		return 0, false
	}
	scale = c.Ratio
	*c = contradiction{}
	return scale, true
}

// rescale multiplies every profile and starts the belief afresh.
func (g *Grid) rescale(scale float64) {
	for j := range g.single {
		for _, t := range []*timing{&g.single[j], &g.batch[j]} {
			if t.table != nil {
				t.profile *= scale
				t.table = newTable(t.profile)
			}
		}
		g.adjust(j)
	}
	g.met, g.filtered, g.predicted = g.prior, g.prior, g.prior
}
