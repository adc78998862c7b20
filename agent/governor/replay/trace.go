// Package replay runs the runtime manager and the field's other policies over
// recorded load, and says how far each stays behind one that knows the future.
//
//	                    ┌──────── latency of the member chosen ───────┐
//	                    ▼                                             │
//	trace ── step ──▶ Policy ── member ──▶ latency at this step ──────┴──▶ Score
//	                    ▲
//	Arrivals ── queue ──┘                  (Simulate instead of Run)
//
// A trace has the latency of every member at every step, so that any policy can
// be asked what it would have done. The one rule: a policy learns the latency of
// the member it chose and nothing else; only one with a Hint method is told the
// load. The policy of Limber is governor.Governor itself, not a copy of it.
package replay

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/limber-edge/limber/agent/governor"
)

// Step is one moment of a trace.
type Step struct {
	At      time.Duration   // since the beginning
	Phase   int             // number of the stretch of constant load; 0 is unloaded
	Load    int             // what the load generator was set to, such as CPU-bound processes
	Latency []time.Duration // of every member, run at this moment
}

// Trace is a recording; it has at least one step, and a phase 0.
type Trace []Step

// The bounds of a trace that Read takes.
const (
	maxLine  = 4096    // bytes
	maxSteps = 1 << 20 // half a day at the usual pace
)

// Read reads a trace: a line a step, with its seconds, phase and load, then the
// latencies of members in milliseconds. Empty lines and those that begin with #
// are skipped. An error names the line.
func Read(r io.Reader, members int) (Trace, error) {
	var t Trace
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	n := 1
	for ; lines.Scan(); n++ {
		text := strings.TrimSpace(lines.Text())
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		s, err := readStep(strings.Fields(text), members)
		if err == nil && len(t) > 0 && s.At < t[len(t)-1].At {
			err = fmt.Errorf("%v is before the step above", s.At)
		}
		if err == nil && len(t) == maxSteps {
			err = fmt.Errorf("more than %d steps", maxSteps)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		t = append(t, s)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("line %d: %w", n, err)
	}
	if !slices.ContainsFunc(t, Step.quiet) {
		return nil, fmt.Errorf("no step of phase 0, which is unloaded and gives the members' profile")
	}
	return t, nil
}

func readStep(fields []string, members int) (Step, error) {
	if len(fields) != 3+members {
		return Step{}, fmt.Errorf("%d fields, want %d: seconds, phase, load and the latencies of the %d members whose "+
			"top-1 was given", len(fields), 3+members, members)
	}
	seconds, err := number(fields[0])
	if err != nil {
		return Step{}, fmt.Errorf("seconds: %w", err)
	}
	s := Step{At: ms(1e3 * seconds), Latency: make([]time.Duration, members)}
	if s.Phase, err = strconv.Atoi(fields[1]); err != nil {
		return Step{}, fmt.Errorf("phase: %w", err)
	}
	if s.Load, err = strconv.Atoi(fields[2]); err != nil {
		return Step{}, fmt.Errorf("load: %w", err)
	}
	for i, f := range fields[3:] {
		latency, err := number(f)
		if err == nil && ms(latency) <= 0 {
			err = fmt.Errorf("%s ms is not positive", f)
		}
		if err != nil {
			return Step{}, fmt.Errorf("latency of member %d: %w", i, err)
		}
		s.Latency[i] = ms(latency)
	}
	return s, nil
}

// number reads a number from 0 to a day of milliseconds.
func number(text string) (float64, error) {
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0, err
	}
	if !(v >= 0 && v <= 24*3600*1e3) {
		return 0, fmt.Errorf("%s is not between 0 and 24 hours", text)
	}
	return v, nil
}

// ms converts milliseconds to the nearest nanosecond.
func ms(x float64) time.Duration { return time.Duration(math.Round(x * float64(time.Millisecond))) }

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// quiet tells that nothing competed at this step.
func (s Step) quiet() bool { return s.Phase == 0 }

// String is the line that Read reads.
func (s Step) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%.4f %d %d", s.At.Seconds(), s.Phase, s.Load)
	for _, l := range s.Latency {
		fmt.Fprintf(&b, " %.4f", milliseconds(l))
	}
	return b.String()
}

// Members are sub-networks with these values of top-1, profiled by phase 0: the
// median of each one's latency. They are named s0, s1 and so on. One that took
// no longer than the one before counts as barely slower: policies want an order.
// The error is governor.New's about top-1 that does not rise.
func (t Trace) Members(top1 []float64) ([]governor.Member, error) {
	members := make([]governor.Member, len(top1))
	for j := range members {
		var quiet []time.Duration
		for _, s := range t {
			if s.quiet() {
				quiet = append(quiet, s.Latency[j])
			}
		}
		slices.Sort(quiet)
		members[j] = governor.Member{Name: fmt.Sprintf("s%d", j), Top1: top1[j], Latency: quiet[len(quiet)/2]}
		if j > 0 {
			members[j].Latency = max(members[j].Latency, members[j-1].Latency+1)
		}
	}
	if _, err := governor.New(members, governor.Mode{}, nil); err != nil {
		return nil, fmt.Errorf("phase 0: %w", err)
	}
	return members, nil
}

// stretch is a run of steps under one load, as half-open indices.
type stretch struct{ from, to int }

func (t Trace) stretches() (all []stretch) {
	from := 0
	for i := 1; i <= len(t); i++ {
		if i == len(t) || t[i].Phase != t[from].Phase || t[i].Load != t[from].Load {
			all = append(all, stretch{from, i})
			from = i
		}
	}
	return all
}
