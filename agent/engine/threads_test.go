package engine

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
)

func TestInferencesHaveMoreThreadsWhileOthersLeaveProcessorsFree(t *testing.T) {
	const unknown = -1.0
	for _, tt := range []struct {
		name   string
		others func(second int) float64 // % of four processors
		multi  []int                    // seconds at which that changes
	}{
		{"idle", func(int) float64 { return 0 }, []int{10}},
		{"a little goes on in any system", func(int) float64 { return 5 }, []int{10}},
		{"half of a processor is in use", func(int) float64 { return 12 }, nil},
		{"nothing is known", func(int) float64 { return unknown }, nil},
		{"a task now and then", func(s int) float64 { return 25 * float64(s%8/7) }, nil},
		{"a task that comes to stay", func(s int) float64 { return 25 * float64(s/30) }, []int{10, 30}},
		{"half of a processor does not disturb", func(s int) float64 { return 12 * float64(min(1, s/20)) }, []int{10}},
		{"a task that comes back soon waits longer", func(s int) float64 { return 25 * float64(s/20%2) }, []int{10, 20}},
		{"and then for free processors of twice the time", func(s int) float64 {
			if s >= 20 && s < 22 || s >= 50 && s < 52 {
				return 25
			}
			return 0
		}, []int{10, 20, 42, 50, 92}},
	} {
		p, start := newThreadPolicy(4), time.Now()
		var changes []int
		for second := range 120 {
			was, others := p.multi, tt.others(second)
			known := &others
			if others == unknown {
				known = nil
			}
			if p.look(start.Add(time.Duration(second)*time.Second), known) != was {
				changes = append(changes, second)
			}
		}
		if !slices.Equal(changes, tt.multi) {
			t.Errorf("%s: changed at %v, want %v", tt.name, changes, tt.multi)
		}
	}
}

func TestWhatCouldNotChangeRests(t *testing.T) {
	p, start, none, all := newThreadPolicy(4), time.Now(), 0.0, 100.0
	for second := range 11 {
		p.look(start.Add(time.Duration(second)*time.Second), &none)
	}
	if !p.multi {
		t.Fatal("not more after ten idle seconds")
	}
	now := start.Add(11 * time.Second)
	if p.look(now, &all) {
		t.Fatal("more while others use all")
	}
	p.stay(now, true)
	for second := range 10 {
		if !p.look(now.Add(time.Duration(second)*time.Second), &all) {
			t.Errorf("tried again after %d s", second)
		}
	}
	if p.look(now.Add(threadsWait), &all) {
		t.Errorf("not tried again after %v", threadsWait)
	}
}

var onThree = family.Variant{Provider: family.CPU, Threads: 3}

// withCores has four processors, and members that take so long on three threads.
func withCores(r *rig, latency ...time.Duration) {
	r.cfg.Threads, r.cfg.Cores = 0, 4
	r.add(onThree, latency...)
}

func TestABackendWithMoreThreadsServesWhileOthersLeaveProcessorsFree(t *testing.T) {
	simulate(t, func(r *rig) { withCores(r, 1*ms, 2*ms, 3*ms) }, func(t *testing.T, r *rig) {
		if r.loaders[onThree].profiled != 1 || r.cpu.profiled != 1 {
			t.Errorf("profiles: %d of three threads and %d of one; want one of each", r.loaders[onThree].profiled,
				r.cpu.profiled)
		}
		pass(time.Minute)
		if v := r.Status().Variant; v != single {
			t.Errorf("while others use all: got %v", v)
		}
		r.machine.set(50, 0)
		pass(12 * time.Second)
		if v := r.Status().Variant; v != onThree {
			t.Errorf("while others use nothing: got %v", v)
		}
		r.tells(wire.EventProvider, "cpu/3 took over from cpu/1 with 3 members")
		if r.cpu.open != 0 || !slices.Equal(r.loaders[onThree].pinned, []int{0}) {
			t.Errorf("%d sessions of the old one are open, %v pinned of the new one", r.cpu.open, r.loaders[onThree].pinned)
		}
		if got := r.ask(job(0.89, time.Minute)); got.Reason != "" {
			t.Errorf("got %+v, want an answer", got)
		}
		r.machine.set(50, 60)
		pass(2 * time.Second)
		if v := r.Status().Variant; v != single {
			t.Errorf("while others use half: got %v", v)
		}
		r.tells(wire.EventProvider, "cpu/1 took over from cpu/3 with 3 members")
	})
}

func TestAFixedMemberThatMoreThreadsMakeNotWorthwhileStaysFixed(t *testing.T) {
	simulate(t, func(r *rig) {
		withCores(r, 1*ms, 4*ms, 3*ms)
		r.cfg.Mode = mode(t, "fixed:middle")
		r.machine.set(50, 0)
	}, func(t *testing.T, r *rig) {
		pass(time.Minute)
		if s := r.Status(); s.Variant != single || s.Mode != r.cfg.Mode || r.loaders[onThree].open != 0 {
			t.Errorf("got %v in mode %v with %d other sessions, want one thread", s.Variant, s.Mode, r.loaders[onThree].open)
		}
	})
}

func TestMoreThreadsThatAreOfNoUseAreGivenUp(t *testing.T) {
	simulate(t, func(r *rig) {
		withCores(r, 2*ms, 4*ms, 7*ms)
		r.machine.set(50, 0)
	}, func(t *testing.T, r *rig) {
		pass(time.Minute)
		r.tells(wire.EventProvider,
			"3 threads are of no use here: an inference by large takes 7.00 ms with them, 8.00 ms with one")
		if v := r.Status().Variant; v != single {
			t.Errorf("got %v", v)
		}
	})
}

func TestWhereMemoryIsShortOneThreadComesMemberByMemberAndMoreDoNot(t *testing.T) {
	simulate(t, func(r *rig) {
		withCores(r, 1*ms, 2*ms, 3*ms)
		r.machine.set(50, 0)
	}, func(t *testing.T, r *rig) {
		pass(12 * time.Second)
		r.machine.set(5, 60)
		pass(2 * time.Second)
		if s := r.Status(); s.Variant != single || s.State != Degraded {
			t.Errorf("got %v, %s %q; want one thread and members left out", s.Variant, s.State, s.Detail)
		}
		r.machine.set(12, 0)
		pass(time.Hour)
		if v := r.Status().Variant; v != single {
			t.Errorf("got %v while memory is short", v)
		}
	})
}

func TestThreadsThatTheConfigurationNamesStay(t *testing.T) {
	simulate(t, func(r *rig) {
		withCores(r, 1*ms, 2*ms, 3*ms)
		r.cfg.Threads = 1
		r.machine.set(50, 0)
	}, func(t *testing.T, r *rig) {
		pass(time.Minute)
		if r.Status().Variant != single || r.loaders[onThree].profiled > 0 {
			t.Errorf("got %v after %d profiles of more threads", r.Status().Variant, r.loaders[onThree].profiled)
		}
	})
}

func TestTheProfileOfMoreThreadsIsTakenBeforeAnythingElseRuns(t *testing.T) {
	st := mustStore(t)
	again(t, st, func(r *rig) { withCores(r, 1*ms, 2*ms, 3*ms) }, func(t *testing.T, r *rig) {
		first, then, _ := strings.Cut(r.log.String(), "measuring the family on more threads, once")
		if strings.Contains(first, "preparing the family") || !strings.Contains(then,
			"preparing the family for this device, once") {
			t.Errorf("got the log %s", r.log)
		}
	})
	again(t, st, func(r *rig) { withCores(r, 1*ms, 2*ms, 3*ms) }, func(t *testing.T, r *rig) {
		if n := len(r.loaders[onThree].made); n > 0 {
			t.Errorf("at the next start %d sessions on more threads were made, want none", n)
		}
	})
}
