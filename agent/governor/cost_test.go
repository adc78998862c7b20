package governor

import (
	"fmt"
	"testing"
	"time"
)

// largest is a full family, for cost.
func largest() []Member {
	var members []Member
	for j := range MaxMembers {
		members = append(members, Member{Name: string(rune('a' + j)), Top1: 0.7 + 0.01*float64(j), Latency: ms(2 + float64(j))})
	}
	return members
}

func TestDecideAndObserveDoNotAllocate(t *testing.T) {
	g := mustGovernor(t, largest(), Mode{})
	waiting := make([]time.Duration, 32)
	now := time.Duration(0)
	allocs := testing.AllocsPerRun(1000, func() {
		now += ms(20)
		for i := range waiting {
			waiting[i] = now + ms(100)
		}
		g.Arrive(now)
		d := g.Decide(now, Queue{Deadline: now + ms(50), Waiting: waiting})
		g.Observe(now+ms(5), d.Member, 1, ms(5))
	})
	if allocs != 0 {
		t.Errorf("got %v allocations per job, want none", allocs)
	}
}

func BenchmarkDecide(b *testing.B) {
	for _, members := range [][]Member{six(), largest()} {
		b.Run(fmt.Sprintf("%d members", len(members)), func(b *testing.B) {
			g := mustGovernor(b, members, Mode{})
			g.Observe(ms(5), 3, 1, ms(5))
			waiting := make([]time.Duration, 16)
			for i := range waiting {
				waiting[i] = ms(100)
			}
			b.ReportAllocs()
			for b.Loop() {
				g.Decide(ms(10), Queue{Deadline: ms(60), Waiting: waiting})
			}
		})
	}
}

func BenchmarkObserve(b *testing.B) {
	g := mustGovernor(b, largest(), Mode{})
	now := time.Duration(0)
	b.ReportAllocs()
	for b.Loop() {
		now += ms(10)
		g.Observe(now, 3, 1, ms(5))
	}
}

func BenchmarkNew(b *testing.B) {
	for b.Loop() {
		mustGovernor(b, six(), Mode{})
	}
}
