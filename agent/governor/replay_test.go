package governor

import (
	"bufio"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// step is one moment of a recorded trace: what every member would have taken.
type step struct {
	at      time.Duration
	phase   int
	hogs    int
	latency []time.Duration
}

// phases are runs of steps under one load, as half-open index pairs.
func phases(trace []step) (runs [][2]int) {
	a := 0
	for t := 1; t <= len(trace); t++ {
		if t == len(trace) || trace[t].phase != trace[a].phase || trace[t].hogs != trace[a].hogs {
			runs = append(runs, [2]int{a, t})
			a = t
		}
	}
	return runs
}

var replayTop1 = [6]float64{0.74202, 0.74968, 0.76134, 0.7754, 0.78346, 0.7903}

// profiled are the members with the medians of phase 0, which is unloaded.
func profiled(trace []step) []Member {
	members := make([]Member, len(replayTop1))
	for j := range members {
		var quiet []time.Duration
		for _, s := range trace {
			if s.phase == 0 {
				quiet = append(quiet, s.latency[j])
			}
		}
		slices.Sort(quiet)
		members[j] = Member{Name: fmt.Sprintf("s%d", j), Top1: replayTop1[j], Latency: quiet[len(quiet)/2]}
	}
	return members
}

func mustTrace(t *testing.T, name string) []step {
	t.Helper()
	f, err := os.Open(filepath.Join("..", "..", "..", "shared", "data", "traces", name))
	if err != nil {
		t.Skipf("the recorded trace is not beside this checkout: %v", err)
	}
	defer f.Close()
	var trace []step
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) != 3+len(replayTop1) {
			continue
		}
		var n []float64
		for _, s := range fields {
			x, err := strconv.ParseFloat(s, 64)
			if err != nil {
				t.Fatal(err)
			}
			n = append(n, x)
		}
		s := step{at: ms(1e3 * n[0]), phase: int(n[1]), hogs: int(n[2])}
		for _, x := range n[3:] {
			s.latency = append(s.latency, ms(x))
		}
		trace = append(trace, s)
	}
	return trace
}

// ms converts milliseconds to the nearest nanosecond.
func ms(x float64) time.Duration { return time.Duration(math.Round(x * 1e6)) }

// outcome is what a policy reached on a trace with one deadline.
type outcome struct {
	accuracy, clairvoyant float64 // effective accuracy, points
	missed                float64 // fraction
	switches, steady      float64 // per inference; steady from the fifth of a phase
	down, up              []int   // inferences until settled
	choices               []int
}

func replay(trace []step, deadline time.Duration, pick func(step) int, observe func(int, time.Duration)) (o outcome) {
	n := float64(len(trace))
	for _, s := range trace {
		i := pick(s)
		o.choices = append(o.choices, i)
		if s.latency[i] <= deadline {
			o.accuracy += 100 * replayTop1[i] / n
		} else {
			o.missed += 1 / n
		}
		observe(i, s.latency[i])
		ideal := 0.0
		for j, l := range s.latency {
			if l <= deadline {
				ideal = max(ideal, 100*replayTop1[j])
			}
		}
		o.clairvoyant += ideal / n
	}
	o.countSwitches(trace)
	o.settle(trace, deadline)
	return o
}

func (o *outcome) countSwitches(trace []step) {
	steady := 0.0
	for t := 1; t < len(o.choices); t++ {
		if o.choices[t] != o.choices[t-1] {
			o.switches += 1 / float64(len(trace))
		}
	}
	for _, r := range phases(trace) {
		for t := r[0] + 4; t < r[1]; t++ {
			steady++
			if o.choices[t] != o.choices[t-1] {
				o.steady++
			}
		}
	}
	o.steady /= steady
}

// settle counts, for each change of load that needs a move, the inferences
// until the choice is within a point of the phase's best member.
func (o *outcome) settle(trace []step, deadline time.Duration) {
	for _, r := range phases(trace) {
		if r[0] == 0 || r[1]-r[0] < 8 {
			continue
		}
		var value [len(replayTop1)]float64
		top := 0
		for j := range value {
			for _, s := range trace[r[0]:r[1]] {
				if s.latency[j] <= deadline {
					value[j] += 100 * replayTop1[j] / float64(r[1]-r[0])
				}
			}
			if value[j] > value[top] {
				top = j
			}
		}
		first := o.choices[r[0]]
		if value[first] >= value[top]-1 {
			continue
		}
		n := 0
		for n < r[1]-r[0] && value[o.choices[r[0]+n]] < value[top]-1 {
			n++
		}
		if top < first {
			o.down = append(o.down, n)
		} else {
			o.up = append(o.up, n)
		}
	}
}

func median(n []int) int {
	n = slices.Sorted(slices.Values(n))
	return n[len(n)/2]
}

var replayDeadlines = [4]time.Duration{16 * time.Millisecond, 24 * time.Millisecond, 32 * time.Millisecond, 48 * time.Millisecond}

// summary pools the four deadlines.
type summary struct {
	regret         [4]float64 // percent of clairvoyant
	mean           float64
	missed, steady float64 // percent
	down, up       []int
}

func summarise(trace []step, start func() (pick func(step, time.Duration) int, observe func(step, int, time.Duration))) (s summary) {
	for i, d := range replayDeadlines {
		pick, observe := start()
		var at step
		o := replay(trace, d,
			func(x step) int { at = x; return pick(x, d) },
			func(m int, l time.Duration) { observe(at, m, l) })
		s.regret[i] = 100 * (1 - o.accuracy/o.clairvoyant)
		s.mean += s.regret[i] / 4
		s.missed += 25 * o.missed
		s.steady += 25 * o.steady
		s.down = append(s.down, o.down...)
		s.up = append(s.up, o.up...)
	}
	return s
}

func TestReplayReproducesTheReferencePolicy(t *testing.T) {
	for _, tt := range []struct {
		trace          string
		hint           bool
		regret         [4]float64
		missed, steady float64
		down, up       int
	}{
		{"cpu-hogs-1.txt", false, [4]float64{1.95, 1.73, 1.67, 0.94}, 0.66, 4.1, 1, 8},
		{"cpu-hogs-1.txt", true, [4]float64{1.99, 1.49, 1.48, 0.89}, 0.56, 4.3, -1, 2},
		{"cpu-bursts.txt", false, [4]float64{2.49, 1.96, 1.46, 0.77}, 0.49, 3.8, 1, 7},
		{"cpu-bursts.txt", true, [4]float64{2.03, 1.62, 1.31, 0.56}, 0.19, 3.5, 1, 3},
	} {
		t.Run(fmt.Sprintf("%s hint %v", tt.trace, tt.hint), func(t *testing.T) {
			trace := mustTrace(t, tt.trace)
			members := profiled(trace)
			got := summarise(trace, func() (func(step, time.Duration) int, func(step, int, time.Duration)) {
				g := NewGrid(members)
				pick := func(s step, d time.Duration) int {
					if tt.hint {
						g.Hint(s.hogs)
					}
					return g.Pick(d)
				}
				return pick, func(_ step, m int, l time.Duration) { g.Observe(m, l) }
			})
			for i, want := range tt.regret {
				if math.Abs(got.regret[i]-want) > 0.005+1e-9 {
					t.Errorf("regret at %v: got %.3f %%, want %.2f %%", replayDeadlines[i], got.regret[i], want)
				}
			}
			if math.Abs(got.missed-tt.missed) > 0.005+1e-9 || math.Abs(got.steady-tt.steady) > 0.05+1e-9 {
				t.Errorf("got %.3f %% missed, %.2f steady switches per 100; want %.2f, %.1f", got.missed, got.steady, tt.missed, tt.steady)
			}
			if tt.down >= 0 && median(got.down) != tt.down || median(got.up) != tt.up {
				t.Errorf("settled down in %v (median), up in %v; want %d, %d", got.down, got.up, tt.down, tt.up)
			}
		})
	}
}
