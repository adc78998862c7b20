package governor

import (
	"encoding/json"
	"os"
	"testing"
	"time"
)

// golden is what testdata/reference.py decides on a trace it made up.
type golden struct {
	Top1      []float64
	Profile   []time.Duration
	Deadlines []time.Duration
	Steps     []struct {
		At           time.Duration
		Hogs         int
		Latency      []time.Duration
		Pick, Hinted []int // by deadline
	}
	Queues []struct {
		Deadline time.Duration
		Arrivals []time.Duration
		Members  []int // by arrival, -1 for a shed job
	}
}

func mustGolden(t *testing.T) (golden, []Member) {
	t.Helper()
	raw, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	var g golden
	if err := json.Unmarshal(raw, &g); err != nil {
		t.Fatal(err)
	}
	var members []Member
	for j, top1 := range g.Top1 {
		members = append(members, Member{Name: string(rune('a' + j)), Top1: top1, Latency: g.Profile[j]})
	}
	return g, members
}

func TestPickDecidesLikeTheReference(t *testing.T) {
	want, members := mustGolden(t)
	for i, deadline := range want.Deadlines {
		plain, hinted := NewGrid(members), NewGrid(members)
		for n, s := range want.Steps {
			got := plain.Pick(deadline)
			plain.Observe(got, s.Latency[got])
			hinted.Hint(s.Hogs)
			gotHinted := hinted.Pick(deadline)
			hinted.Observe(gotHinted, s.Latency[gotHinted])
			if got != s.Pick[i] || gotHinted != s.Hinted[i] {
				t.Fatalf("deadline %v, step %d: got %d and %d with the hint, want %d and %d", deadline, n, got, gotHinted, s.Pick[i], s.Hinted[i])
			}
		}
	}
}

func TestQueueDecidesLikeTheReference(t *testing.T) {
	want, members := mustGolden(t)
	var trace []step
	for _, s := range want.Steps {
		trace = append(trace, step{at: s.At, latency: s.Latency})
	}
	for _, q := range want.Queues {
		s := reference(members)
		var got []int
		decide := s.decide
		s.decide = func(now time.Duration, line Queue) (int, bool) {
			member, shed := decide(now, line)
			if shed {
				got = append(got, -1)
			} else {
				got = append(got, member)
			}
			return member, shed
		}
		simulate(trace, q.Arrivals, q.Deadline, s)
		for n := range q.Members {
			if got[n] != q.Members[n] {
				t.Fatalf("deadline %v, job %d: got %d, want %d", q.Deadline, n, got[n], q.Members[n])
			}
		}
	}
}
