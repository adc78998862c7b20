package logbook

import (
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/governor"
)

// nowhere is an output that keeps nothing.
type nowhere struct{}

func (nowhere) write([]byte, bool) error { return nil }
func (nowhere) close() error             { return nil }

// round is what a pipeline asks for one job.
func round(b *Book, now time.Duration, waiting []time.Duration) {
	b.Arrive(now)
	d := b.Decide(now, governor.Queue{Deadline: now + 50*ms, Overhead: ms, Waiting: waiting})
	b.Observe(now+5*ms, d.Member, 1, 5*ms)
	b.Ended(true)
}

func TestACallAllocatesNothingWithAndWithoutALog(t *testing.T) {
	for name, log := range map[string]*Log{"without": nil, "with": newLog(nowhere{}, 1<<30, about())} {
		t.Run(name, func(t *testing.T) {
			b := New(mustGovernor(t), log)
			if log != nil {
				d := &desk{Book: b, tb: t, log: log, ended: make(chan struct{})}
				go d.run()
				defer d.shut()
			}
			now, waiting := time.Duration(0), make([]time.Duration, 16)
			got := testing.AllocsPerRun(5000, func() {
				now += 20 * ms
				for i := range waiting {
					waiting[i] = now + 100*ms
				}
				round(b, now, waiting)
			})
			if got != 0 {
				t.Errorf("got %v allocations per job, want none", got)
			}
		})
	}
}

func BenchmarkJob(b *testing.B) {
	bench := func(name string, ask func(now time.Duration), done func()) {
		b.Run(name, func(b *testing.B) {
			now := time.Duration(0)
			b.ReportAllocs()
			for b.Loop() {
				now += 20 * ms
				ask(now)
			}
			done()
		})
	}
	g := mustGovernor(b)
	bench("governor alone", func(now time.Duration) {
		g.Arrive(now)
		d := g.Decide(now, governor.Queue{Deadline: now + 50*ms, Overhead: ms})
		g.Observe(now+5*ms, d.Member, 1, 5*ms)
	}, func() {})
	plain := New(mustGovernor(b), nil)
	bench("no log", func(now time.Duration) { round(plain, now, nil) }, func() {})
	d := newDesk(b, To(b.TempDir()+"/decisions.log", 64<<20, about()))
	bench("log", func(now time.Duration) { round(d.Book, now, nil) }, func() {})
	d.shut()
}
