package replay

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/governor"
)

// two members of which the larger fits 3 ms only in phase 0.
func two(t testing.TB) (Trace, []governor.Member) {
	t.Helper()
	var trace Trace
	for i := range 40 {
		s := Step{At: ms(50 * float64(i)), Latency: []time.Duration{ms(1), ms(2)}}
		if i >= 20 {
			s.Phase, s.Load, s.Latency = 1, 2, []time.Duration{ms(1.5), ms(5)}
		}
		trace = append(trace, s)
	}
	members, err := trace.Members([]float64{0.7, 0.8})
	if err != nil {
		t.Fatal(err)
	}
	return trace, members
}

func near(a, b float64) bool { return math.Abs(a-b) < 1e-9 }

func TestOraclesKnowTheFuture(t *testing.T) {
	trace, members := two(t)
	want := append(slices.Repeat([]int{1}, 20), slices.Repeat([]int{0}, 20)...)
	if got := Clairvoyant(trace, ms(3)); !slices.Equal(got, want) {
		t.Errorf("clairvoyant: got %v", got)
	}
	if got := PhaseOracle(trace, ms(3), members); !slices.Equal(got, want) {
		t.Errorf("phase oracle: got %v", got)
	}
	if got := BestStatic(trace, ms(3), members); !slices.Equal(got, slices.Repeat([]int{0}, 40)) {
		t.Errorf("best static: got %v", got)
	}
}

func TestScoreCountsMissesSwitchesAndSettling(t *testing.T) {
	trace, members := two(t)
	choices := append(slices.Repeat([]int{1}, 23), slices.Repeat([]int{0}, 17)...) // three late
	choices[30] = shed
	got := Judge(trace, ms(3), members, choices)
	if !near(got.Missed, 4./40) || !near(got.Accuracy, (20*0.8+16*0.7)/40) || !near(got.Regret,
		1-(20*0.8+16*0.7)/(20*0.8+20*0.7)) {
		t.Errorf("got %+v", got)
	}
	if !near(got.Switches, 1./40) || !near(got.Steady, 0) || !slices.Equal(got.Down, []int{3}) || got.Up != nil {
		t.Errorf("got %+v", got)
	}
	pooled := Pool([]Score{got, {Accuracy: got.Accuracy, Up: []int{5}}})
	if !near(pooled.Missed, 2./40) || !slices.Equal(pooled.Down, []int{3}) || !slices.Equal(pooled.Up, []int{5}) {
		t.Errorf("pooled: got %+v", pooled)
	}
	if Median(nil) != 0 || Median([]int{5, 1, 3}) != 3 || Median([]int{4, 1}) != 4 {
		t.Error("median: want the upper one, 0 of none")
	}
}

// spy is a policy that notes what it is told.
type spy struct {
	told  []time.Duration
	hints []int
}

func (s *spy) Arrive(time.Duration)                             {}
func (s *spy) Decide(time.Duration, governor.Queue) (int, bool) { return 1, false }
func (s *spy) Observe(_ time.Duration, _ int, latency time.Duration) {
	s.told = append(s.told, latency)
}

type hintedSpy struct{ spy }

func (s *hintedSpy) Hint(load int) { s.hints = append(s.hints, load) }

func TestAPolicyLearnsOnlyOfItsOwnChoices(t *testing.T) {
	trace, members := two(t)
	var s spy
	Run(trace, ms(3), &s)
	for i, l := range s.told {
		if l != trace[i].Latency[1] {
			t.Fatalf("step %d: told %v", i, l)
		}
	}
	var h hintedSpy
	Run(trace, ms(3), &h)
	if len(h.hints) != len(trace) || h.hints[0] != 0 || h.hints[39] != 2 {
		t.Errorf("hints: got %v", h.hints)
	}
	for _, e := range Field(members) {
		_, takes := e.New().(hinted)
		if takes != (e.Name == "limber+hint") {
			t.Errorf("%s is told the load: %v", e.Name, takes)
		}
	}
}

func TestEveryPolicyIsDeterministic(t *testing.T) {
	trace, members := two(t)
	jobs := Pattern{50, 200, ms(20)}.Arrivals(trace[len(trace)-1].At, 1)
	for _, e := range Field(members) {
		if a, b := Run(trace, ms(3), e.New()), Run(trace, ms(3), e.New()); !slices.Equal(a, b) {
			t.Errorf("%s chose %v, then %v", e.Name, a, b)
		}
		if a, b := Simulate(trace, jobs, ms(20), members, e.New()), Simulate(trace, jobs, ms(20), members, e.New()); a != b {
			t.Errorf("%s: %+v, then %+v", e.Name, a, b)
		}
	}
}

func TestArrivalsComeInBurstsAndAreTheSameForASeed(t *testing.T) {
	p := Pattern{10, 40, ms(60)}
	jobs := p.Arrivals(time.Hour, 1)
	// 1.5 s at 10 a second, then 0.4 s at 40.
	if rate := float64(len(jobs)) / 3600; rate < 15.3 || rate > 17.3 {
		t.Errorf("got %.1f jobs a second, want about 16.3", rate)
	}
	if !slices.Equal(jobs, p.Arrivals(time.Hour, 1)) || slices.Equal(jobs, p.Arrivals(time.Hour, 2)) {
		t.Error("a seed does not tell the arrivals")
	}
	if !slices.IsSorted(jobs) {
		t.Error("arrivals are not in order")
	}
}
