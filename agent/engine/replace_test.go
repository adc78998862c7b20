package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/pipeline"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
)

// another is a family of these members, which take 2, 4, 6 ... ms on the CPU; more may
// be done to its loader there.
func (r *rig) another(name string, members ...string) (Source, *fakeLoader) {
	f := &family.Family{Schema: family.Schema, Name: name, Supernet: family.DigestOf(nil), Classes: []string{"cat", "dog"}}
	l := &fakeLoader{family: f, variant: single, hang: map[int]int{}, faults: make([]error, len(members))}
	for i, m := range members {
		f.Members = append(f.Members, family.Member{Name: m, Top1: 0.7 + float64(i)/10, Arch: family.Arch{R: 4}})
		l.latency = append(l.latency, time.Duration(2*i+2)*ms)
	}
	r.others = append(r.others, l)
	return Source{Family: f, Preprocess: plain, Open: opener(map[family.Variant]*fakeLoader{single: l})}, l
}

// on adds a way to run a family.
func (r *rig) on(s *Source, v family.Variant, latency ...time.Duration) *fakeLoader {
	l := &fakeLoader{family: s.Family, variant: v, latency: latency, hang: map[int]int{}, faults: make([]error,
		len(latency))}
	r.others = append(r.others, l)
	before := s.Open
	s.Open = func(other family.Variant) (Loader, error) {
		if other == v {
			return l, nil
		}
		return before(other)
	}
	return l
}

// mustReplace has another family take over.
func (r *rig) mustReplace(s Source) {
	r.Helper()
	if err := r.Replace(r.Context(), s); err != nil {
		r.Fatal(err)
	}
	if got := r.Status().Family; got != s.Family {
		r.Errorf("got family %s in use, want %s", got.Name, s.Family.Name)
	}
}

// refused wants Replace to fail, and nothing to have changed.
func (r *rig) refused(s Source, reason wire.Reason, says string) {
	r.Helper()
	before := r.Status()
	err := r.Replace(r.Context(), s)
	refusal, _ := errors.AsType[*wire.Refusal](err)
	if refusal == nil || refusal.Reason != reason || !strings.Contains(err.Error(), says) {
		r.Errorf("got %v, want %s and %q", err, reason, says)
	}
	if now := r.Status(); now.Family != before.Family || now.Profile != before.Profile {
		r.Errorf("got family %s in use, want %s", now.Family.Name, before.Family.Name)
	}
	r.closed(s.Family)
}

// closed wants no session of a family to be open.
func (r *rig) closed(f *family.Family) {
	r.Helper()
	for _, l := range append(r.others, r.cpu) {
		l.change(func(l *fakeLoader) {
			if l.family.Digest() == f.Digest() && (l.open != 0 || len(l.pinned) != 0) {
				r.Errorf("%s, %s: %d sessions are open, %v pinned", f.Name, l.variant, l.open, l.pinned)
			}
		})
	}
}

func TestAnotherFamilyTakesOver(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		for range 3 {
			r.ask(job(0, time.Minute))
		}
		r.ask(job(0.99, time.Minute))
		old := r.deps.Family
		if got := r.Tally(); got.Family != old || got.Answered != 3 || got.Refused != 1 || got.P95 == 0 {
			t.Errorf("before: got %+v", got)
		}
		<-r.Changed()
		next, l := r.another("next", "one", "two")
		r.mustReplace(next)
		<-r.Changed()
		if r.closed(old); !slices.Equal(l.pinned, []int{0}) || l.profiled != 1 {
			t.Errorf("got %v pinned, %d profiles; want the smallest, and one", l.pinned, l.profiled)
		}
		if got := r.Tally(); got != (Tally{Family: next.Family}) {
			t.Errorf("at the hand-over: got %+v, want nothing counted", got)
		}
		got := make(chan string, 1)
		r.Submit(job(0, time.Minute), func(a *Answer) { got <- a.Family.Name + " " + a.Member.Name })
		if name := <-got; name != "next two" {
			t.Errorf("got an answer by %s", name)
		}
		r.Submit(job(0.99, time.Minute), func(a *Answer) { got <- a.Family.Name + " " + string(a.Reason) })
		if name := <-got; name != "next infeasible" {
			t.Errorf("got %s", name)
		}
		pass(200 * ms) // then whoever comes is served
		r.ask(pipeline.Job{Tensor: make([]float32, 3*4*4), Received: time.Now(), Deadline: ms, Floor: 0.75})
		s, tally := r.Status(), r.Tally()
		if len(s.Members) != 2 || s.Profile.Family != next.Family.Digest() || s.Operating.Name != "two" {
			t.Errorf("got %+v", s)
		}
		if tally.Answered != 2 || tally.Missed != 1 || tally.Refused != 1 || tally.P95 < 3*ms || tally.P95 > 5*ms {
			t.Errorf("got %+v", tally)
		}
		if s := r.Snapshot(); s.Jobs != 7 || s.Refused != 2 || s.Missed != 1 {
			t.Errorf("got %+v of both families", s.Counts)
		}
		r.wants(Ready, "")
		r.tells(wire.EventProgress, "family next: preparing member 2 of 2; family test serves")
		r.tells(wire.EventProgress, "family next took over from family test with 2 members")
	})
}

func TestTheModeOutlivesAFamilyWithoutItsMember(t *testing.T) {
	simulate(t, func(r *rig) { r.cfg.Mode = mode(t, "fixed:middle") }, func(t *testing.T, r *rig) {
		next, _ := r.another("next", "one", "two")
		r.mustReplace(next)
		if s := r.Status(); s.Mode != (governor.Mode{}) || s.Target != r.cfg.Mode {
			t.Errorf("got mode %v, target %v; want balanced instead", s.Mode, s.Target)
		}
		r.tells(wire.EventFault, "mode fixed:middle: middle is not among the members in use on cpu/1; balanced is used")
		r.mustReplace(r.deps.Source)
		if s := r.Status(); s.Mode != r.cfg.Mode || s.Target != r.cfg.Mode {
			t.Errorf("back: got mode %v, target %v; want the mode obeyed again", s.Mode, s.Target)
		}
		r.answeredBy("middle")
		if err := r.SetMode(t.Context(), mode(t, "low-latency")); err != nil {
			t.Fatal(err)
		}
		r.mustReplace(next)
		if s := r.Status(); s.Mode != mode(t, "low-latency") || s.Target != s.Mode {
			t.Errorf("got mode %v, target %v; want that of the family before", s.Mode, s.Target)
		}
	})
}

func TestAFamilyThatCannotBeUsedIsRefusedAndTheOneBeforeStays(t *testing.T) {
	canary := errors.New("canary: a logit is far from the stored one")
	for _, tt := range []struct {
		name   string
		spoil  func(*Source, *fakeLoader)
		reason wire.Reason
		says   string
	}{
		{"no member passes", func(_ *Source, l *fakeLoader) { l.gone = canary }, wire.Unsupported,
			"family next cannot be used: no member of family next can be used: member 0: canary: a logit is far from the " +
				"stored one; family test stays"},
		{"the disk is full", func(_ *Source, l *fakeLoader) { l.faults = []error{canary, family.ErrNoRoom} }, wire.NoSpace,
			"member 1: the disk is full"},
		{"no runtime", func(s *Source, _ *fakeLoader) { s.Open, s.Fault = nil, errors.New("no ONNX Runtime") },
			wire.Unsupported, "no ONNX Runtime"},
		{"not on the CPU", func(s *Source, l *fakeLoader) { s.Open = opener(nil) }, wire.Unsupported, "the library lacks it"},
		{"no preprocessing", func(s *Source, _ *fakeLoader) { s.Preprocess = family.Preprocess{} }, wire.Unsupported, "resize"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			simulate(t, nil, func(t *testing.T, r *rig) {
				next, l := r.another("next", "one", "two")
				tt.spoil(&next, l)
				r.refused(next, tt.reason, tt.says)
				r.wants(Ready, "")
				r.answeredBy("large")
			})
		})
	}
}

func TestMembersOfAFamilyThatCannotBeUsedAreLeftOut(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		next, l := r.another("next", "one", "two", "three")
		l.faults[1] = errors.New("canary: a logit is far from the stored one")
		r.mustReplace(next)
		r.wants(Degraded, "a member cannot be used: member 1: canary")
		if s := r.Status(); len(s.Members) != 2 || s.Members[1].Name != "three" {
			t.Errorf("got %d members", len(s.Members))
		}
		r.tells(wire.EventFault, "a member cannot be used: member 1: canary")
		l.change(func(l *fakeLoader) { l.faults[1] = nil })
		r.mustReplace(r.deps.Source)
		r.mustReplace(next)
		if r.wants(Ready, ""); len(r.Status().Members) != 3 {
			t.Errorf("got %d members, want the one that can be used now", len(r.Status().Members))
		}
	})
}

func TestADeviceWithoutAMemberIsRevivedByAnotherFamily(t *testing.T) {
	simulate(t, func(r *rig) { r.cpu.gone = errors.New("canary") }, func(t *testing.T, r *rig) {
		r.wants(Unavailable, "no member of family test")
		next, _ := r.another("next", "one")
		r.mustReplace(next)
		<-r.Ready()
		r.wants(Ready, "")
		r.answeredBy("one")
	})
}

func TestJobsThatWaitForAMemberGoToTheFamilyThatTakesOver(t *testing.T) {
	st := mustStore(t)
	again(t, st, nil, func(*testing.T, *rig) {})
	again(t, st, func(r *rig) {
		r.cpu.slow = time.Minute
		r.cpu.faults[0] = errors.New("canary")
	}, func(t *testing.T, r *rig) {
		answers := make(chan string, 2)
		r.Submit(job(0, time.Hour), func(a *Answer) { answers <- a.Family.Name + " " + a.Detail })
		next, _ := r.another("next", "one")
		r.mustReplace(next) // when the first member has failed
		if got := <-answers; got != "next " || slices.Max(r.cpu.made) > 0 {
			t.Errorf("got an answer by %q after sessions of members %v", got, r.cpu.made)
		}
		if got := r.Snapshot().Counts; got != (pipeline.Counts{Jobs: 1}) {
			t.Errorf("got %+v, want the job counted once, and not as refused", got)
		}
		r.closed(r.deps.Family)
	})
}

func TestTwoFamiliesInARowAndBack(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		second, two := r.another("second", "a", "b")
		third, three := r.another("third", "c", "d")
		for range 40 {
			r.ask(job(0, time.Minute))
		}
		r.mustReplace(second)
		learned := func() string {
			b, err := r.deps.State.Cell("experience-cpu-before")
			if err != nil {
				return err.Error()
			}
			return string(b)
		}
		r.mustReplace(third)
		if got := learned(); !strings.Contains(got, string(r.deps.Family.Digest())) {
			t.Errorf("what was learned with the first family: got %q", got)
		}
		r.answeredBy("d")
		r.mustReplace(second)
		r.answeredBy("b")
		r.mustReplace(r.deps.Source)
		r.answeredBy("large")
		if r.cpu.profiled != 1+2 || two.profiled != 1+2 || three.profiled != 1 { // two beside each that was new
			t.Errorf("%d, %d, %d profiles were taken, want one of each family", r.cpu.profiled, two.profiled, three.profiled)
		}
		r.closed(second.Family)
		r.closed(third.Family)
	})
}

func TestWhatWasLearnedWithTheFamilyBeforeIsThereWhenItComesBack(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		for range 40 {
			r.ask(job(0, time.Minute))
		}
		next, _ := r.another("next", "one", "two")
		r.mustReplace(next)
		before := saved(t, r.deps.State).Learned.Bias["large"]
		r.ask(job(0, time.Minute))
		r.mustReplace(r.deps.Source)
		for range 10 {
			r.ask(job(0, time.Minute))
		}
		r.mustReplace(next)
		if now := saved(t, r.deps.State).Learned.Bias["large"]; before.Seen == 0 || now.Seen <= before.Seen {
			t.Errorf("got %+v, want it to go on from %+v", now, before)
		}
	})
}

func TestReplaceIsGivenUpAtAnyMoment(t *testing.T) {
	for moment := range 30 {
		t.Run(fmt.Sprint(moment), func(t *testing.T) {
			simulate(t, nil, func(t *testing.T, r *rig) {
				next, l := r.another("next", "one", "two", "three")
				l.slow = 7 * ms
				r.Submit(job(0, time.Minute), func(*Answer) {})
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(moment)*ms)
				defer cancel()
				err := r.Replace(ctx, next)
				name := r.Status().Family.Name
				if err == nil && name != "next" || err != nil && (name != "test" || !errors.Is(err, context.DeadlineExceeded)) {
					t.Errorf("got %v with family %s in use", err, name)
				}
				pass(time.Second)
				if r.ask(job(0, time.Minute)); err == nil {
					r.closed(r.deps.Family)
				} else {
					r.closed(next.Family)
				}
			})
		})
	}
}

func TestAFamilyThatHangsWhileItIsPreparedIsGivenUpAndAnotherFollows(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		stuck, l := r.another("stuck", "one", "two")
		l.slow = time.Hour
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		before := time.Now()
		if err := r.Replace(ctx, stuck); !errors.Is(err, context.DeadlineExceeded) || time.Since(before) != time.Minute {
			t.Errorf("got %v after %v", err, time.Since(before))
		}
		r.answeredBy("large")
		next, _ := r.another("next", "three")
		r.mustReplace(next)
		if since := time.Since(before); since < time.Hour || since > time.Hour+time.Minute {
			t.Errorf("the next one took over after %v, want the first to be out of the way", since)
		}
		r.closed(stuck.Family)
	})
}

func TestTasksAreDoneWhileAFamilyIsPrepared(t *testing.T) {
	simulate(t, withHangs(1), func(t *testing.T, r *rig) {
		next, l := r.another("next", "one", "two")
		l.slow = time.Minute
		done := make(chan error, 1)
		go func() { done <- r.Replace(t.Context(), next) }()
		pass(time.Second)
		r.ask(job(0, time.Minute))
		pass(time.Second)
		r.answeredBy("large")
		r.cpu.change(func(l *fakeLoader) {
			if n := slices.Index(l.made[3:], 2); n < 0 {
				t.Errorf("sessions of members %v were made, want a new one after the hang", l.made)
			}
		})
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestAFamilyTakesOverWhereverTheLoaderIs(t *testing.T) {
	for i, o := range occasions() {
		for moment := i % everyMoment; moment < 30; moment += everyMoment {
			o.at(t, moment, func(t *testing.T, r *rig) {
				next, l := r.another("next", "one", "two")
				l.slow = time.Duration(moment%3) * 5 * ms
				r.mustReplace(next)
				r.closed(r.deps.Family)
				for _, l := range r.loaders {
					l.change(func(l *fakeLoader) { l.made = nil })
				}
				pass(time.Hour)
				for v, l := range r.loaders {
					if len(l.made) > 0 {
						t.Errorf("%s: members %v of the family before were made", v, l.made)
					}
				}
				r.answeredBy("two")
				r.wants(Ready, "")
			})
		}
	}
}

func TestTheNewFamilyGoesOnToProvidersAndThreads(t *testing.T) {
	t.Run("a GPU", func(t *testing.T) {
		simulate(t, withGPU, func(t *testing.T, r *rig) {
			next, _ := r.another("next", "one", "two")
			gpu := r.on(&next, onGPU, 1*ms, 2*ms)
			gpu.slow = time.Minute
			r.mustReplace(next)
			if s := r.Status(); s.Variant != single {
				t.Errorf("got %v first", s.Variant)
			}
			r.closed(r.deps.Family)
			pass(3 * time.Minute)
			if s := r.Status(); s.Variant != onGPU || s.Family != next.Family {
				t.Errorf("got %v of family %s", s.Variant, s.Family.Name)
			}
			gpu.change(func(l *fakeLoader) { l.gone = errors.New("CUDA failure 999") })
			r.answeredBy("two")
			pass(time.Second)
			r.wants(Degraded, "cuda failed and is tried again; cpu serves")
		})
	})
	t.Run("more threads", func(t *testing.T) {
		simulate(t, func(r *rig) { withCores(r, 2*ms, 4*ms, 8*ms) }, func(t *testing.T, r *rig) {
			next, _ := r.another("next", "one", "two")
			three := r.on(&next, onThree, 1*ms, 2*ms)
			r.mustReplace(next)
			r.machine.set(50, 0)
			pass(15 * time.Second)
			if s := r.Status(); s.Variant != onThree || s.Family != next.Family || three.profiled != 1 {
				t.Errorf("got %v of family %s, %d profiles", s.Variant, s.Family.Name, three.profiled)
			}
		})
	})
}

func TestAnotherCallWaitsUntilAFamilyIsReplaced(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		first, l := r.another("first", "one")
		second, _ := r.another("second", "two")
		l.slow = time.Minute
		var order []string
		var both sync.WaitGroup
		for _, s := range []Source{first, second} {
			both.Go(func() {
				if err := r.Replace(t.Context(), s); err != nil {
					t.Error(err)
				}
				order = append(order, r.Status().Family.Name)
			})
			synctest.Wait()
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.Replace(ctx, second); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("one that has no time: got %v", err)
		}
		both.Wait()
		if !slices.Equal(order, []string{"first", "second"}) {
			t.Errorf("got %v", order)
		}
	})
}

func TestNoFamilyTakesOverAfterTheEnd(t *testing.T) {
	st := mustStore(t)
	synctest.Test(t, func(t *testing.T) {
		r := mustRig(t, st)
		r.start()
		next, _ := r.another("next", "one")
		synctest.Wait()
		r.end()
		if err := r.Replace(t.Context(), next); !errors.Is(err, pipeline.ErrClosed) {
			t.Errorf("got %v", err)
		}
	})
}

// taking is a machine on which every session takes so many percent of the memory, and
// one of another family so many.
func taking(r *rig, percent, others float64) {
	r.machine.mu.Lock()
	defer r.machine.mu.Unlock()
	r.machine.taken = func() (all float64) {
		r.cpu.change(func(l *fakeLoader) { all += percent * float64(l.open) })
		for _, l := range r.others {
			l.change(func(l *fakeLoader) { all += others * float64(l.open) })
		}
		return all
	}
}

func TestAFamilyIsPreparedInTheRoomThatTheOneBeforeMakes(t *testing.T) {
	for _, tt := range []struct {
		name            string
		left            float64 // %
		percent, others float64 // that a member takes of it; there are three of each family
		evicted         int     // of the first family while the next one is prepared
		members         int     // of the next one when it takes over
	}{
		{"both fit", 50, 6, 6, 0, 3},
		{"one makes room", 50, 8.5, 8.5, 1, 3},
		{"two make room", 50, 11, 11, 2, 3},
		{"not for all", 31, 2, 10, 2, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			simulate(t, nil, func(t *testing.T, r *rig) {
				next, _ := r.another("next", "one", "two", "three")
				taking(r, tt.percent, tt.others)
				r.machine.set(tt.left, 100)
				r.mustReplace(next)
				if n := len(r.events.of(wire.EventMemory)); n != tt.evicted || len(r.Status().Members) != tt.members {
					t.Errorf("%d members went, %d of the next family came; want %d and %d", n, len(r.Status().Members), tt.evicted,
						tt.members)
				}
				r.machine.set(200, 100)
				pass(time.Hour)
				if r.wants(Ready, ""); len(r.Status().Members) != 3 {
					t.Errorf("later: got %d members, want all", len(r.Status().Members))
				}
			})
		})
	}
}

func TestAFamilyWithoutRoomInMemoryIsRefusedAndTheOneBeforeComesBackWhole(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		next, l := r.another("next", "one", "two")
		tight(r)
		r.refused(next, wire.NoSpace, "memory has no room for it beside the members that serve: 5.0 % of the memory are left")
		if len(l.made) > 0 {
			t.Errorf("members %v were made", l.made)
		}
		r.wants(Degraded, "large is out of use")
		r.answeredBy("small")
		r.machine.set(50, 100)
		pass(time.Hour)
		r.wants(Ready, "")
		r.answeredBy("large")
	})
}

func TestMembersStayOutWhileTheNextFamilyIsPrepared(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		next, l := r.another("next", "one", "two")
		l.slow = 10 * time.Minute
		tight(r)
		pass(5 * time.Second)
		r.machine.set(50, 100)
		r.cpu.change(func(l *fakeLoader) { l.made = nil })
		r.mustReplace(next)
		if slices.Max(r.cpu.made) > 0 { // the smallest tells how busy the device is
			t.Errorf("members %v of the family before came back", r.cpu.made)
		}
	})
}

func TestAProfileIsTakenAsIfNobodyWereServed(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		next, l := r.another("next", "one", "two")
		for _, l := range []*fakeLoader{l, r.cpu} { // all takes three times as long while jobs are answered
			l.change(func(l *fakeLoader) {
				for i := range l.latency {
					l.latency[i] *= 3
				}
			})
		}
		r.mustReplace(next)
		if m := r.Status().Members; m[0].Profile.P50ms != 2 || m[1].Profile.P50ms != 4 {
			t.Errorf("got %v and %v ms, want 2 and 4", m[0].Profile.P50ms, m[1].Profile.P50ms)
		}
	})
}

func TestEveryJobIsAnsweredOnceByTheFamilyOfItsTime(t *testing.T) {
	const submitters, rounds = 4, 12
	r := mustRig(t, mustStore(t))
	r.cfg.QueueJobs, r.cfg.LogFolder, r.cfg.LogMiB = 1<<20, t.TempDir(), 1
	r.start()
	for s := r.Status(); s.State != Ready || s.Loading; s = r.Status() {
		<-time.After(ms)
	}
	next, l := r.another("next", "one", "two")
	l.slow = 2 * ms
	for _, l := range []*fakeLoader{l, r.cpu} {
		l.change(func(l *fakeLoader) { l.latency = []time.Duration{ms / 8, ms / 4, ms / 2}[:len(l.latency)] })
	}
	var submitted, answered atomic.Int64
	var turn atomic.Int64 // the family that took over last; odd while another one is on its way
	stop, work := make(chan struct{}), sync.WaitGroup{}
	names := map[string]int64{"test": 0, "next": 2}
	for range submitters {
		work.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				var calls atomic.Int64
				one, began := make(chan struct{}), turn.Load()
				submitted.Add(1)
				r.Submit(job(0.75*float64(submitted.Load()%2), time.Hour), func(a *Answer) {
					if calls.Add(1) > 1 {
						t.Error("a job was answered twice")
						return
					}
					defer close(one)
					answered.Add(1)
					if a.Reason != "" {
						t.Errorf("refused: %s %s", a.Reason, a.Detail)
						return
					}
					if began == turn.Load() && began%2 == 0 && names[a.Family.Name] != began%4 {
						t.Errorf("turn %d: got an answer by family %s", began, a.Family.Name)
					}
					if a.Family.Index(a.Member.Name) < 0 {
						t.Errorf("family %s has no member %s", a.Family.Name, a.Member.Name)
					}
				})
				<-one
			}
		})
	}
	for i := range rounds {
		turn.Add(1)
		r.mustReplace([]Source{next, r.deps.Source}[i%2])
		turn.Add(1)
		for before := answered.Load(); answered.Load() < before+20; {
			<-time.After(ms)
		}
	}
	close(stop)
	work.Wait()
	r.Drain(t.Context())
	if n := r.Snapshot(); submitted.Load() != answered.Load() || n.Jobs != uint64(answered.Load()) || n.Refused != 0 {
		t.Errorf("%d jobs, %d answers; counted %+v", submitted.Load(), answered.Load(), n.Counts)
	}
	r.end()
}

func TestCountingByFamilyAllocatesNothing(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		answer := pipeline.Answer{Reason: wire.Busy}
		var jobs pipeline.Job
		if n := testing.AllocsPerRun(100, func() {
			r.jobs.open.Add(1)
			r.turnAway(jobs, func(*Answer) {}, &answer)
		}); n > 1 { // the answer
			t.Errorf("%v allocations", n)
		}
	})
}
