package governor

import (
	"fmt"
	"runtime"
	"testing"
	"time"
)

// largest is a full family, for cost.
func largest() []Member {
	var members []Member
	for j := range MaxMembers {
		members = append(members, Member{Name: string(rune('a' + j)), Top1: 0.7 + 0.01*float64(j),
			Latency: ms(2 + float64(j))})
	}
	return members
}

// mustBatching has members that take four images in the time of two.
func mustBatching(tb testing.TB, members []Member) *Governor {
	tb.Helper()
	g := mustGovernor(tb, members, Mode{})
	for j, m := range members {
		if err := g.SetBatch(j, 2*m.Latency); err != nil {
			tb.Fatal(err)
		}
	}
	return g
}

func TestDecideAndObserveDoNotAllocate(t *testing.T) {
	g := mustBatching(t, largest())
	waiting := make([]time.Duration, 32)
	now := time.Duration(0)
	allocs := testing.AllocsPerRun(1000, func() {
		now += ms(100)
		for i := range waiting {
			waiting[i] = now + ms(100)
		}
		g.Arrive(now)
		d := g.Decide(now, Queue{Deadline: now + ms(50), Waiting: waiting, Ready: 8})
		g.Observe(now+d.Predicted, d.Member, d.Batch, d.Predicted)
	})
	if allocs != 0 {
		t.Errorf("got %v allocations per job, want none", allocs)
	}
}

func BenchmarkDecide(b *testing.B) {
	for _, members := range [][]Member{six(), largest()} {
		b.Run(fmt.Sprintf("%d members", len(members)), func(b *testing.B) {
			g := mustBatching(b, members)
			g.Observe(ms(5), 3, 1, ms(5))
			waiting := make([]time.Duration, 16)
			for i := range waiting {
				waiting[i] = ms(100)
			}
			b.ReportAllocs()
			for b.Loop() {
				g.Decide(ms(10), Queue{Deadline: ms(60), Waiting: waiting, Ready: 7})
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
	for name, tables := range map[string]*Tables{"alone": nil, "with shared tables": new(Tables)} {
		b.Run(name, func(b *testing.B) {
			first := mustShare(b, tables)
			b.ReportAllocs()
			for b.Loop() {
				mustShare(b, tables)
			}
			runtime.KeepAlive(first)
		})
	}
}
