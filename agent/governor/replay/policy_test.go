package replay

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/governor"
)

// published are the six levels of Dynamic-OFA.
var published = []float64{0.74202, 0.74968, 0.76134, 0.7754, 0.78346, 0.7903}

func deadlines() []time.Duration { return []time.Duration{ms(16), ms(24), ms(32), ms(48)} }

// mustShared reads one of the traces that lie beside the project.
func mustShared(t *testing.T, name string) (Trace, []governor.Member) {
	t.Helper()
	path := filepath.Join("..", "..", "..", "..", "shared", "data", "traces", name)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("the recorded trace is not beside this checkout: %v", err)
	}
	return mustTrace(t, path)
}

func mustTrace(t *testing.T, path string) (Trace, []governor.Member) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	trace, err := Read(f, len(published))
	if err != nil {
		t.Fatal(err)
	}
	members, err := trace.Members(published)
	if err != nil {
		t.Fatal(err)
	}
	return trace, members
}

func TestLoadGridDecidesLikeItsReference(t *testing.T) {
	raw, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	var want struct {
		Top1      []float64
		Profile   []time.Duration
		Deadlines []time.Duration
		Steps     []struct {
			Latency []time.Duration
			Pick    []int // by deadline
		}
	}
	if err := json.Unmarshal(raw, &want); err != nil {
		t.Fatal(err)
	}
	var members []governor.Member
	for i, top1 := range want.Top1 {
		members = append(members, governor.Member{Top1: top1, Latency: want.Profile[i]})
	}
	for i, deadline := range want.Deadlines {
		g := newLoadGrid(members)
		for n, s := range want.Steps {
			got, _ := g.Decide(0, governor.Queue{Deadline: deadline})
			if got != s.Pick[i] {
				t.Fatalf("deadline %v, step %d: got %d, want %d", deadline, n, got, s.Pick[i])
			}
			g.Observe(0, got, s.Latency[got])
		}
	}
}

// scores are what the policies reach on a trace, pooled over deadlines.
func scores(t Trace, members []governor.Member, deadlines []time.Duration) map[string]Score {
	all := map[string]Score{}
	for _, c := range Choosers(members) {
		var s []Score
		for _, d := range deadlines {
			s = append(s, Judge(t, d, members, c.Choose(t, d)))
		}
		all[c.Name] = Pool(s)
	}
	return all
}

// reached is what the policies reach on the traces that were given, map[string]Score
// by the name of a trace: two tests judge it.
var reached sync.Map

// mustScores are those on a trace that was given.
func mustScores(t *testing.T, name string) map[string]Score {
	t.Helper()
	trace, members := mustShared(t, name)
	s, ok := reached.Load(name)
	if !ok {
		s, _ = reached.LoadOrStore(name, scores(trace, members, deadlines()))
	}
	return s.(map[string]Score)
}

// TestReplayReproducesThePublishedTable holds the rivals to the figures that
// were published for them: mean regret, misses and steady switches in percent.
func TestReplayReproducesThePublishedTable(t *testing.T) {
	for _, tt := range []struct {
		trace, policy          string
		regret, missed, steady float64
		down, up               int
	}{
		{"cpu-hogs-1.txt", "dynamic-ofa", 12.63, 12.66, 1.5, 61, 20},
		{"cpu-hogs-1.txt", "one-step", 5.90, 5.54, 10.3, 5, 10},
		{"cpu-hogs-1.txt", "alert", 2.13, 1.22, 21.6, 1, 4},
		{"cpu-hogs-1.txt", "loadgrid", 1.58, 0.66, 4.1, 1, 8},
		{"cpu-bursts.txt", "dynamic-ofa", 13.94, 13.89, 1.3, 21, 10},
		{"cpu-bursts.txt", "one-step", 5.69, 5.23, 9.9, 4, 9},
		{"cpu-bursts.txt", "alert", 2.38, 1.27, 22.2, 1, 2},
		{"cpu-bursts.txt", "loadgrid", 1.67, 0.49, 3.8, 1, 7},
	} {
		got := mustScores(t, tt.trace)[tt.policy]
		if math.Abs(100*got.Regret-tt.regret) > 0.0051 || math.Abs(100*got.Missed-tt.missed) > 0.0051 ||
			math.Abs(100*got.Steady-tt.steady) > 0.051 {
			t.Errorf("%s, %s: got regret %.3f, missed %.3f, steady %.2f; want %.2f, %.2f, %.1f",
				tt.trace, tt.policy, 100*got.Regret, 100*got.Missed, 100*got.Steady, tt.regret, tt.missed, tt.steady)
		}
		if Median(got.Down) != tt.down || Median(got.Up) != tt.up {
			t.Errorf("%s, %s: settled in %d and %d, want %d and %d", tt.trace, tt.policy, Median(got.Down), Median(got.Up),
				tt.down, tt.up)
		}
	}
}

// off changes each profile by up to a share, keeping their order.
func off(members []governor.Member, share float64, seed uint64) []governor.Member {
	r := rand.New(rand.NewPCG(seed, 0))
	for {
		changed := slices.Clone(members)
		for i := range changed {
			changed[i].Latency = time.Duration(float64(changed[i].Latency) * (1 + share*(2*r.Float64()-1)))
		}
		if slices.IsSortedFunc(changed, func(a, b governor.Member) int { return int(a.Latency - b.Latency) }) {
			return changed
		}
	}
}

func regretOfLimber(t Trace, members []governor.Member) float64 {
	var s []Score
	for _, d := range deadlines() {
		s = append(s, Judge(t, d, members, Run(t, d, newLimber(members))))
	}
	return Pool(s).Regret
}

// TestR1_LimberOnRecordedLoad holds the manager that devices run to what issue and
// user were promised, on the traces that were given and those recorded here.
func TestR1_LimberOnRecordedLoad(t *testing.T) {
	gained, possible, above, traces := 0.0, 0.0, 0.0, 0.0
	for _, name := range []string{"cpu-hogs-1.txt", "cpu-bursts.txt"} {
		trace, members := mustShared(t, name)
		s := mustScores(t, name)
		limber, hint, alert, ofa, phase := s["limber"], s["limber+hint"], s["alert"], s["dynamic-ofa"], s["phase-oracle"]
		if limber.Regret >= alert.Regret || hint.Regret >= limber.Regret {
			t.Errorf("%s: regret %.2f %%, with a hint %.2f %%, ALERT %.2f %%", name, 100*limber.Regret, 100*hint.Regret,
				100*alert.Regret)
		}
		if limber.Missed > 0.12*ofa.Missed || limber.Missed > 0.03*s["static:5"].Missed {
			t.Errorf("%s: missed %.2f %%; Dynamic-OFA %.2f %%, the largest member %.2f %%", name, 100*limber.Missed,
				100*ofa.Missed, 100*s["static:5"].Missed)
		}
		if 100*limber.Steady > 5 || Median(limber.Down) > 3 || Median(limber.Up) > 6 {
			t.Errorf("%s: %.1f steady switches per 100, settled down in %d and up in %d", name, 100*limber.Steady,
				Median(limber.Down), Median(limber.Up))
		}
		gained += limber.Accuracy - s["best-static"].Accuracy
		possible += phase.Accuracy - s["best-static"].Accuracy
		above += 100 * (limber.Regret - phase.Regret)
		traces++
		for seed := range uint64(2) {
			wrong := regretOfLimber(trace, off(members, 0.15, seed))
			t.Logf("%s, profiles off by up to 15 %%, draw %d: regret %.2f %%, %.2f %% with the right ones", name, seed,
				100*wrong, 100*limber.Regret)
			if wrong > limber.Regret+0.006 {
				t.Errorf("%s, profiles off: regret %.2f %%, with the right ones %.2f %%", name, 100*wrong, 100*limber.Regret)
			}
		}
	}
	t.Logf("regret %.2f points above the phase oracle's, %.2f of its gain over the best static member", above/traces,
		gained/possible)
	if gained < 0.70*possible || above > 0.65*traces {
		t.Errorf("gained %.2f of what is possible, regret %.2f points above the phase oracle's", gained/possible,
			above/traces)
	}
}

// TestR1_LimberUnderOtherKindsOfLoad holds it to ALERT where memory, processes of
// low priority and a control group's quota slow the members down. The traces
// were recorded by `limber bench record` on two cores, where the largest member
// takes 10 ms.
func TestR1_LimberUnderOtherKindsOfLoad(t *testing.T) {
	for _, name := range []string{"memory-low.txt", "quota-cpu.txt"} {
		trace, members := mustTrace(t, filepath.Join("testdata", name))
		s := scores(trace, members, []time.Duration{ms(6.3), ms(9.5), ms(12.6), ms(19)})
		limber, hint, alert, phase := s["limber"], s["limber+hint"], s["alert"], s["phase-oracle"]
		t.Logf("%s: regret %.2f %%, with a hint %.2f %%, loadgrid %.2f %%, ALERT %.2f %%, phase oracle %.2f %%", name,
			100*limber.Regret, 100*hint.Regret, 100*s["loadgrid"].Regret, 100*alert.Regret, 100*phase.Regret)
		if limber.Regret >= alert.Regret || limber.Regret >= s["loadgrid"].Regret || hint.Regret >= limber.Regret {
			t.Errorf("%s: regret %.2f %%, with a hint %.2f %%, loadgrid %.2f %%, ALERT %.2f %%", name,
				100*limber.Regret, 100*hint.Regret, 100*s["loadgrid"].Regret, 100*alert.Regret)
		}
		if limber.Missed >= alert.Missed || 100*limber.Steady > 5 {
			t.Errorf("%s: missed %.2f %%, ALERT %.2f %%; %.1f steady switches per 100", name, 100*limber.Missed,
				100*alert.Missed, 100*limber.Steady)
		}
	}
}

func TestLimberInAQueue(t *testing.T) {
	for _, name := range []string{"cpu-hogs-1.txt", "cpu-bursts.txt"} {
		trace, members := mustShared(t, name)
		for seed := range uint64(2) {
			sum := 0.0
			for _, p := range Patterns() {
				jobs := p.Arrivals(trace[len(trace)-1].At, seed)
				got := Simulate(trace, jobs, p.Deadline, members, newLimber(members))
				base := Simulate(trace, jobs, p.Deadline, members, static{member: 0})
				sum += 100 * (got.Accuracy - base.Accuracy) / 4
				if met := 100 * (got.Met - base.Met); met < -1 {
					t.Errorf("%s, %v, seed %d: got %+.2f %% attained over the smallest member, want at least -1", name, p, seed, met)
				}
			}
			if sum < 2.5 {
				t.Errorf("%s, seed %d: got %+.2f points over the smallest member, want at least +2.5", name, seed, sum)
			}
		}
	}
}

// TestR8_AnOutlierDoesNotFreezeTheQueue has one inference take twenty times as
// long, and looks at the jobs that arrive a second later.
func TestR8_AnOutlierDoesNotFreezeTheQueue(t *testing.T) {
	trace, members := mustShared(t, "cpu-hogs-1.txt")
	p := Patterns()[1]
	jobs := p.Arrivals(trace[len(trace)-1].At, 1)
	for at := 3 * time.Second; at < 120*time.Second; at += 20 * time.Second {
		calm := attainedBetween(trace, jobs, p, members, at+time.Second, at+4*time.Second, -1)
		hit := attainedBetween(trace, jobs, p, members, at+time.Second, at+4*time.Second, at)
		if hit < 0.9*calm {
			t.Errorf("an outlier at %v: %.2f attained from a second later, %.2f without", at, hit, calm)
		}
	}
}

// attainedBetween simulates jobs that arrive between two moments, and before,
// and counts the former.
func attainedBetween(t Trace, jobs []time.Duration, p Pattern, members []governor.Member, from, to,
	stall time.Duration) float64 {
	slow := slices.Clone(t)
	if i := slices.IndexFunc(t, func(s Step) bool { return s.At >= stall }); stall >= 0 && i >= 0 {
		slow[i].Latency = slices.Clone(t[i].Latency)
		for j := range slow[i].Latency {
			slow[i].Latency[j] *= 20
		}
	}
	split := func(at time.Duration) []time.Duration {
		n, _ := slices.BinarySearch(jobs, at)
		return jobs[:n]
	}
	before, all := split(from), split(to)
	a := Simulate(slow, before, p.Deadline, members, newLimber(members))
	b := Simulate(slow, all, p.Deadline, members, newLimber(members))
	n := float64(len(all) - len(before))
	return (b.Met*float64(len(all)) - a.Met*float64(len(before))) / max(n, 1)
}

func ExamplePattern_String() {
	fmt.Println(Patterns()[0])
	// Output: 10/40 D60
}
