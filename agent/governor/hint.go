package governor

const (
	hints         = 8   // distinct hints; a greater one counts as the last
	hintTrust     = 0.6 // in a change of the hint, before anything was seen
	leastTrust    = 0.05
	mostTrust     = 0.9
	hintTrustStep = 0.1 // towards what the next latency said of it
	hintWeight    = 2.0 // inferences the first guess about a hint counts for
	hintMemory    = 200 // inferences that what a hint meant is remembered for
)

// hint is an outside opinion of the load, the number of busy competitors read
// just before an inference, and what experience says it is worth. It is
// in snapshots.
type hint struct {
	Given   bool
	Load    int
	Trust   float64
	Seen    [hints]belief // levels met under each hint, in inferences
	Before  belief        // what the filter predicted before the hint moved it
	Jump    belief        // where the hint sent it
	Pending bool          // a jump not yet judged by an observation
}

// newHint guesses that no competitors mean an unloaded device, most of the time.
func newHint(prior belief) hint {
	h := hint{Trust: hintTrust}
	for load := range h.Seen {
		quiet := 0.2
		if load == 0 {
			quiet = 0.8
		}
		for k, p := range prior {
			if k < unloaded {
				h.Seen[load][k] = hintWeight * quiet * p / priorQuiet
			} else {
				h.Seen[load][k] = hintWeight * (1 - quiet) * p / (1 - priorQuiet)
			}
		}
	}
	return h
}

// Hint tells the filter how many others compete for the processor, read just
// before the inference that comes next. Only a change moves the belief, and
// only as far as earlier changes were right. A hint that is late or noisy is
// worth nothing: debounce it.
func (g *Grid) Hint(competitors int) {
	h := &g.hint
	load := min(max(competitors, 0), hints-1)
	if h.Given && load != h.Load {
		h.Before, h.Jump, h.Pending = g.predicted, normalised(h.Seen[load]), true
		g.predicted = mix(h.Jump, h.Before, h.Trust)
		g.filtered = g.predicted
	}
	h.Given, h.Load = true, load
}

// judge compares the hint's jump with the belief it replaced, now that an
// observation tells which of them was the better forecast.
func (h *hint) judge(likelihood belief) {
	if !h.Pending {
		return
	}
	h.Pending = false
	stayed, jumped := 0.0, 0.0
	for k, l := range likelihood {
		stayed += h.Before[k] * l
		jumped += h.Jump[k] * l
	}
	right := h.Trust * jumped / (h.Trust*jumped + (1-h.Trust)*stayed)
	h.Trust = min(mostTrust, max(leastTrust, h.Trust+hintTrustStep*(right-h.Trust)))
}

// learn remembers which levels were met under the standing hint.
func (h *hint) learn(filtered belief) {
	if !h.Given {
		return
	}
	seen := &h.Seen[h.Load]
	sum := 0.0
	for k, w := range filtered {
		seen[k] += w
		sum += seen[k]
	}
	if sum <= hintMemory {
		return
	}
	for k := range seen {
		seen[k] *= 0.5
	}
}

func normalised(b belief) belief {
	sum := 0.0
	for _, w := range b {
		sum += w
	}
	for k := range b {
		b[k] /= sum
	}
	return b
}
