package engine

import (
	"errors"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
)

var onGPU = family.Variant{Provider: cuda, Threads: 1}

// withGPU has a GPU on which the middle member is not worth using.
func withGPU(r *rig) {
	r.cfg.Providers = []string{cuda, family.CPU}
	r.add(onGPU, 1*ms, 3*ms, 2*ms)
}

func TestAFixedModeOutlivesBackendsWithoutItsMember(t *testing.T) {
	simulate(t, func(r *rig) {
		withGPU(r)
		r.cfg.Mode = mode(t, "fixed:middle")
	}, func(t *testing.T, r *rig) {
		gpu, fixed := r.loaders[onGPU], mode(t, "fixed:middle")
		if s := r.Status(); s.Variant != onGPU || s.Mode != (governor.Mode{}) || s.Target != fixed {
			t.Errorf("on the GPU: got %v in mode %v, target %v; want balanced instead", s.Variant, s.Mode, s.Target)
		}
		r.tells(wire.EventFault, "middle is not among the members in use on cuda/1; balanced is used until it is")
		gpu.change(func(l *fakeLoader) { l.gone = errors.New("CUDA failure 999") })
		r.ask(job(0, time.Minute))
		pass(time.Second)
		if s := r.Status(); s.Variant != single || s.Mode != fixed || s.Target != fixed {
			t.Errorf("on the CPU: got %v in mode %v, target %v; want the mode obeyed again", s.Variant, s.Mode, s.Target)
		}
		if got := r.ask(job(0, time.Minute)); got.member != "middle" {
			t.Errorf("got an answer by %s, want one by the fixed member", got.member)
		}
		gpu.change(func(l *fakeLoader) { l.gone = nil })
		pass(time.Hour)
		if s := r.Status(); s.Variant != onGPU || s.Mode != (governor.Mode{}) || s.Target != fixed {
			t.Errorf("on the GPU again: got %v in mode %v, target %v", s.Variant, s.Mode, s.Target)
		}
	})
}

func TestAGPUTakesOverWhileTheCPUServes(t *testing.T) {
	simulate(t, func(r *rig) {
		r.cfg.Providers = []string{"tensorrt", cuda, family.CPU}
		r.add(onGPU, 1*ms, 3*ms, 2*ms).slow = time.Minute
	}, func(t *testing.T, r *rig) {
		r.wants(Ready, "")
		if got := r.ask(job(0, time.Minute)); got.Reason != "" || r.Status().Variant != single {
			t.Errorf("meanwhile: got %+v on %v, want an answer of the CPU", got, r.Status().Variant)
		}
		pass(4 * time.Minute)
		s := r.Status()
		if s.Variant != onGPU || len(s.Members) != 2 || s.Members[1].Name != "large" || s.Members[1].Profile.P50ms != 2 ||
			s.State != Ready {
			t.Errorf("got %v, %d members, %s %q; want the GPU with its front", s.Variant, len(s.Members), s.State, s.Detail)
		}
		r.tells(wire.EventProvider,
			"tensorrt is given up until the next start: tensorrt: the library lacks it; set ONNXRUNTIME_LIB; cpu serves")
		r.tells(wire.EventProgress, "cuda: preparing member 1 of 3; cpu serves")
		r.tells(wire.EventProvider, "cuda took over from cpu with 2 members")
		if got := r.ask(job(0, time.Minute)); got.Reason != "" || r.cpu.open != 0 {
			t.Errorf("got %+v with %d sessions of the CPU open, want an answer and none", got, r.cpu.open)
		}
		if n := r.Snapshot().Jobs; n != 2 {
			t.Errorf("%d jobs are counted, want those of the CPU too", n)
		}
		if err := r.SetMode(t.Context(), mode(t, "fixed:middle")); err == nil ||
			err.Error() != "mode fixed:middle: no such member in use; there are small, large" {
			t.Errorf("a member that only the CPU has on its front: got %v", err)
		}
		if err := r.SetMode(t.Context(), mode(t, "fixed:small")); err != nil || r.Status().Mode.Member() != "small" {
			t.Errorf("got %v, %v; want the mode in force", r.Status().Mode, err)
		}
	})
}

func TestTheCPUServesWhereNoMemberPassesOnTheGPU(t *testing.T) {
	simulate(t, func(r *rig) {
		withGPU(r)
		r.loaders[onGPU].gone = errors.New("canary: a logit is far from the stored one")
	}, func(t *testing.T, r *rig) {
		r.tells(wire.EventProvider,
			"cuda is given up until the next start: no member of family test can be used: member 0: canary")
		r.wants(Ready, "")
		if got := r.ask(job(0, time.Minute)); got.Reason != "" {
			t.Errorf("got %+v, want an answer", got)
		}
	})
}

func TestR11_AGPUThatDisappearsIsReplacedByTheCPUAndTriedAgain(t *testing.T) {
	simulate(t, withGPU, func(t *testing.T, r *rig) {
		gpu := r.loaders[onGPU]
		gpu.change(func(l *fakeLoader) { l.gone = errors.New("CUDA failure 999") })
		for range 3 {
			if got := r.ask(job(0, time.Minute)); got.Reason != "" || got.Top == nil {
				t.Errorf("got %+v, want an answer", got)
			}
		}
		pass(time.Second)
		r.wants(Degraded, "cuda failed and is tried again; cpu serves")
		r.tells(wire.EventProvider, "cuda failed: CUDA failure 999; cpu serves, the next attempt is in 5s")
		gpu.change(func(l *fakeLoader) { l.tried = nil })
		failed := time.Now().Add(-time.Second)
		pass(time.Hour)
		var pauses []time.Duration
		for _, at := range gpu.tried[:9] {
			pauses = append(pauses, at.Sub(failed))
			failed = at
		}
		want := []time.Duration{5, 10, 20, 40, 80, 160, 320, 600, 600}
		for i := range want {
			if want[i] *= time.Second; pauses[i].Round(time.Second) != want[i] {
				t.Errorf("pause %d: got %v, want %v", i, pauses[i], want[i])
			}
		}
		gpu.change(func(l *fakeLoader) { l.gone = nil })
		pass(11 * time.Minute)
		if s := r.Status(); s.Variant != onGPU || s.State != Ready {
			t.Errorf("got %v, %s %q; want the GPU again", s.Variant, s.State, s.Detail)
		}
		if n := r.Snapshot(); n.Jobs != 3 || n.Refused != 0 {
			t.Errorf("got %+v, want three jobs, none refused", n.Counts)
		}
	})
}

func TestAProviderThatServedForLongIsTriedSoonAgain(t *testing.T) {
	simulate(t, withGPU, func(t *testing.T, r *rig) {
		gpu := r.loaders[onGPU]
		fail := func(pause string) {
			gpu.change(func(l *fakeLoader) { l.gone = errors.New("CUDA failure 999") })
			r.ask(job(0, time.Minute))
			pass(time.Second)
			r.tells(wire.EventProvider, "the next attempt is in "+pause)
			gpu.change(func(l *fakeLoader) { l.gone = nil })
			pass(time.Minute)
			if v := r.Status().Variant; v != onGPU {
				t.Fatalf("got %v after a pause of %s", v, pause)
			}
		}
		fail("5s")
		fail("10s")
		pass(11 * time.Minute)
		r.events.all = nil
		fail("5s")
	})
}

func TestAProviderIsNotTriedWhileMemoryIsShort(t *testing.T) {
	simulate(t, withGPU, func(t *testing.T, r *rig) {
		gpu := r.loaders[onGPU]
		gpu.change(func(l *fakeLoader) { l.gone = errors.New("CUDA failure 999") })
		r.ask(job(0, time.Minute))
		pass(time.Second)
		gpu.change(func(l *fakeLoader) { l.made, l.gone = nil, nil })
		tight(r)
		pass(time.Hour)
		if n := len(gpu.made); n > 0 {
			t.Errorf("%d sessions were made", n)
		}
		r.machine.set(90, 100)
		pass(time.Hour)
		if v := r.Status().Variant; v != onGPU {
			t.Errorf("got %v with room again", v)
		}
	})
}

func TestWithoutAnyMemberOnTheCPUTheFailedProvidersSessionsGoOn(t *testing.T) {
	simulate(t, withGPU, func(t *testing.T, r *rig) {
		r.cpu.change(func(l *fakeLoader) { l.faults[0], l.faults[1] = errors.New("canary"), errors.New("canary") })
		r.loaders[onGPU].change(func(l *fakeLoader) { l.gone = errors.New("CUDA failure 999") })
		if got := r.ask(job(0, time.Minute)); got.member != "large" || got.Reason != "" {
			t.Errorf("got %+v, want the answer of the CPU's session", got)
		}
		r.cpu.change(func(l *fakeLoader) { l.faults[2] = errors.New("canary") })
		pass(time.Second)
		if s := r.Status(); s.Loading {
			t.Errorf("got %+v, want nothing loaded any more", s)
		}
		r.answeredBy("large")
		r.loaders[onGPU].change(func(l *fakeLoader) { l.gone = nil })
		pass(time.Minute)
		r.wants(Ready, "")
	})
}

func TestAMemberAtFaultIsMeasuredWhenTheGPUCanUseIt(t *testing.T) {
	st := mustStore(t)
	again(t, st, func(r *rig) {
		withGPU(r)
		r.loaders[onGPU].faults[2] = errors.New("memory is short")
	}, func(t *testing.T, r *rig) {
		r.tells(wire.EventFault, "a member cannot be used on cuda/1: member 2: memory is short")
		if s := r.Status(); s.Variant != onGPU || s.State != Degraded || s.Members[len(s.Members)-1].Name != "middle" {
			t.Errorf("got %v, %s, %+v; want the GPU without the best", s.Variant, s.State, s.Members)
		}
	})
	again(t, st, withGPU, func(t *testing.T, r *rig) {
		if s := r.Status(); s.Variant != onGPU || s.Members[len(s.Members)-1].Name != "large" ||
			r.loaders[onGPU].profiled != 1 {
			t.Errorf("got %v, %+v after %d profiles; want the best member measured", s.Variant, s.Members,
				r.loaders[onGPU].profiled)
		}
	})
	again(t, st, withGPU, func(t *testing.T, r *rig) {
		if r.loaders[onGPU].profiled != 0 || r.Status().Variant != onGPU {
			t.Errorf("%d profiles, want the stored one used", r.loaders[onGPU].profiled)
		}
	})
}

func TestMemoryAndHangsAreAttendedToBetweenTheMembersOfAnotherProvider(t *testing.T) {
	simulate(t, func(r *rig) {
		withGPU(r)
		r.loaders[onGPU].slow = 10 * time.Minute
		r.cpu.hang[2] = 1
		r.cfg.Mode = mode(t, "fixed:large")
	}, func(t *testing.T, r *rig) {
		if got := r.ask(job(0, time.Minute)); got.Reason != wire.Internal {
			t.Errorf("got %+v, want an interrupted run", got)
		}
		pass(11 * time.Minute)
		r.answeredBy("large")
		if v := r.Status().Variant; v != single {
			t.Errorf("got %v, want the GPU still to be prepared", v)
		}
	})
}
