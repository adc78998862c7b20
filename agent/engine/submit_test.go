package engine

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/wire"
)

func TestAnswersNameTheirMembers(t *testing.T) {
	simulate(t, func(r *rig) { r.cfg.Cascade = 1 }, func(t *testing.T, r *rig) {
		r.Submit(job(0, time.Minute), func(a *Answer) {
			if a.Family != r.deps.Family || a.Member == nil || a.Member.Name != "large" || a.First == nil ||
				a.First.Name != "small" {
				t.Errorf("got %+v", a)
			}
		})
		pass(time.Second)
	})
}

func TestAFloorThatNoMemberReachesIsInfeasibleAndTold(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		got := r.ask(job(0.999, time.Minute))
		if got.Reason != wire.Infeasible ||
			got.Detail != "no member reaches a top-1 of 0.999: the most accurate, large, has 0.9000" {
			t.Errorf("got %s %q", got.Reason, got.Detail)
		}
		if e := r.events.all; len(e) != 1 || e[0].Kind != wire.EventInfeasible || e[0].Member != "large" ||
			e[0].severity != wire.SeverityWarning {
			t.Errorf("got %+v, want the most accurate member named", e)
		}
		if s := r.Snapshot(); s.Jobs != 1 || s.Refused != 1 {
			t.Errorf("got %+v, want it counted", s.Counts)
		}
	})
}

func TestADeadlineThatNoMemberMeetsIsTold(t *testing.T) {
	simulate(t, func(r *rig) { r.cpu.latency = []time.Duration{20 * ms, 40 * ms, 80 * ms} }, func(t *testing.T, r *rig) {
		r.ask(job(0, 5*ms))
		r.tells(wire.EventInfeasible,
			"no member is in time for a deadline of 5ms; the least late, small, is expected to take ")
	})
}

func TestAFloorIsBusyWhileMembersAreLoaded(t *testing.T) {
	st := mustStore(t)
	again(t, st, nil, func(*testing.T, *rig) {})
	again(t, st, func(r *rig) { r.cpu.slow = time.Minute }, func(t *testing.T, r *rig) {
		pass(time.Minute + time.Second) // the smallest is in use
		if s := r.Status(); !s.Loading || s.State != Ready {
			t.Errorf("got %s, loading %v", s.State, s.Loading)
		}
		if got := r.ask(job(0.85, time.Minute)); got.Reason != wire.Busy ||
			got.Detail != "the members as accurate as min_top1 asks are still being loaded" {
			t.Errorf("got %s %q, want busy", got.Reason, got.Detail)
		}
		if len(r.events.of(wire.EventInfeasible)) > 0 {
			t.Error("told of as infeasible")
		}
		pass(2 * time.Minute)
		if got := r.ask(job(0.85, time.Minute)); got.Reason != "" {
			t.Errorf("got %+v, want an answer", got)
		}
	})
}

// stage is an engine whose loader is a test.
type stage struct {
	*rig
	loader  *loader
	serving *backend
}

// mustStage serves on the clock on the wall until the test ends.
func mustStage(t *testing.T) *stage {
	t.Helper()
	r := mustRig(t, mustStore(t))
	r.cfg.QueueJobs = 1 << 20
	r.Engine = New(r.cfg, r.deps, slog.New(slog.DiscardHandler))
	s := newSupervisor(r.Engine)
	st := &stage{rig: r, loader: newLoader(s.Engine, r.deps.Source)}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- errors.Join(s.supervise(ctx, nil), s.free()) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	st.loader.learn = time.NewTicker(time.Hour)
	st.loader.base = r.cpu
	p, err := st.loader.profile(t.Context())
	if err == nil {
		st.serving, err = st.loader.install(t.Context(), p)
	}
	if err != nil {
		t.Fatal(err)
	}
	r.cpu.change(func(l *fakeLoader) { l.latency = make([]time.Duration, 3) })
	return st
}

// handOver has another backend take over.
func (s *stage) handOver() {
	s.Helper()
	next, err := s.loader.prepare(s.Context(), s.loader.base, nil, func(int) {})
	if err == nil {
		err = s.loader.handOver(s.Context(), s.serving, next)
	}
	if err != nil {
		s.Fatal(err)
	}
	s.serving = next
}

func TestEveryJobIsAnsweredOnceOverManyHandOvers(t *testing.T) {
	const submitters, handOvers = 4, 30
	s := mustStage(t)
	stop, work := make(chan struct{}), sync.WaitGroup{}
	var submitted, answered, refused atomic.Int64
	for range submitters {
		work.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				var calls atomic.Int64
				one := make(chan struct{})
				submitted.Add(1)
				s.Submit(job(0.85*float64(submitted.Load()%2), time.Hour), func(a *Answer) {
					if calls.Add(1) > 1 {
						t.Error("a job was answered twice")
						return
					}
					if answered.Add(1); a.Reason != "" {
						refused.Add(1)
						t.Errorf("refused: %s %s", a.Reason, a.Detail)
					}
					close(one)
				})
				if submitted.Load()%4 == 0 {
					<-one // some wait for the answer, others submit on
				}
			}
		})
	}
	work.Go(func() { // whoever looks meanwhile sees a whole state
		for range 1000 {
			st := s.Status()
			if !slices.ContainsFunc(st.Members, func(m Member) bool { return m.Member == st.Operating }) || st.State != Ready {
				t.Errorf("got %+v", st)
				return
			}
			s.Snapshot()
		}
	})
	for range handOvers {
		s.handOver()
	}
	close(stop)
	work.Wait()
	s.Drain(t.Context())
	if submitted.Load() != answered.Load() || submitted.Load() == 0 {
		t.Errorf("%d jobs, %d answers", submitted.Load(), answered.Load())
	}
	if n := s.Snapshot(); n.Jobs != uint64(submitted.Load()) || n.Refused != uint64(refused.Load()) {
		t.Errorf("counted %+v of %d jobs", n.Counts, submitted.Load())
	}
}

func TestTheLastModeIsInForceWhateverIsHandedOverMeanwhile(t *testing.T) {
	s := mustStage(t)
	for round := range 20 {
		var last governor.Mode
		var orders sync.WaitGroup
		orders.Go(func() {
			for i, name := range []string{"fixed:small", "balanced", "low-latency", "fixed:middle", "fixed:large"}[round%5:] {
				last = mode(t, name)
				if err := s.SetMode(t.Context(), last); err != nil {
					t.Errorf("order %d: %v", i, err)
				}
			}
		})
		s.handOver()
		orders.Wait()
		if st := s.Status(); st.Mode != last || st.Target != last {
			t.Fatalf("round %d: got mode %v, target %v; want %v", round, st.Mode, st.Target, last)
		}
		s.handOver()
		if st := s.Status(); st.Mode != last {
			t.Fatalf("round %d, after a hand-over: got mode %v, want %v", round, st.Mode, last)
		}
	}
}

func TestSubmitDoesNotWaitForASlowInferenceAnOrderAndAHandOver(t *testing.T) {
	simulate(t, withGPU, func(t *testing.T, r *rig) {
		r.loaders[onGPU].change(func(l *fakeLoader) {
			l.latency = []time.Duration{3 * time.Second, 3 * time.Second,
				3 * time.Second}
		})
		r.Submit(job(0, time.Minute), func(*Answer) {})
		synctest.Wait()
		go r.SetMode(context.Background(), mode(t, "low-latency"))
		synctest.Wait()
		before := time.Now()
		r.Submit(job(0, time.Minute), func(*Answer) {})
		if took := time.Since(before); took > 0 {
			t.Errorf("took %v", took)
		}
	})
}

func TestAnOrderWhoseTimeIsUpIsNotCarriedOutLater(t *testing.T) {
	simulate(t, func(r *rig) { r.cpu.latency = []time.Duration{3 * time.Second, 4 * time.Second, 5 * time.Second} },
		func(t *testing.T, r *rig) {
			r.Submit(job(0, time.Minute), func(*Answer) {})
			synctest.Wait()
			ctx, cancel := context.WithTimeout(t.Context(), 200*ms)
			defer cancel()
			if err := r.SetMode(ctx, mode(t, "low-latency")); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
			}
			pass(time.Minute)
			if s := r.Status(); s.Mode != (governor.Mode{}) || s.Target != (governor.Mode{}) {
				t.Errorf("later: got mode %v, target %v", s.Mode, s.Target)
			}
			if err := r.SetMode(t.Context(), mode(t, "low-latency")); err != nil || r.Status().Mode != mode(t, "low-latency") {
				t.Errorf("got %v, %v", r.Status().Mode, err)
			}
		})
}

func TestRunStopsWithinAnInference(t *testing.T) {
	st := mustStore(t)
	synctest.Test(t, func(t *testing.T) {
		r := mustRig(t, st)
		r.cpu.latency = []time.Duration{3 * time.Second, 3 * time.Second, 3 * time.Second}
		r.start()
		synctest.Wait()
		var answers atomic.Int64
		for range 5 {
			r.Submit(job(0, time.Minute), func(a *Answer) { answers.Add(1) })
		}
		synctest.Wait()
		before := time.Now()
		r.end()
		if took := time.Since(before); took > 3*time.Second || answers.Load() != 5 {
			t.Errorf("stopped after %v with %d answers, want all 5 within an inference", took, answers.Load())
		}
		if err := r.SetMode(t.Context(), governor.Mode{}); err == nil {
			t.Error("a mode was set afterwards")
		}
		if _, err := r.Feasible(t.Context(), mustMode(t, governor.Goal{Floor: 0.5})); err == nil {
			t.Error("a goal was judged afterwards")
		}
	})
}

func TestDrainWaitsForJobsOfEveryPipelineAndTakesNoMore(t *testing.T) {
	simulate(t, func(r *rig) { withCores(r, 1*ms, 2*ms, 3*ms) }, func(t *testing.T, r *rig) {
		r.cpu.change(func(l *fakeLoader) { l.latency = []time.Duration{time.Second, time.Second, time.Second} })
		var answers atomic.Int64
		count := func(a *Answer) {
			if a.Reason == "" {
				answers.Add(1)
			}
		}
		for range 20 {
			r.Submit(job(0, time.Hour), count)
		}
		r.machine.set(50, 0)
		pass(12 * time.Second)
		if s := r.Status(); s.Variant != onThree || answers.Load() == 20 {
			t.Fatalf("got %v and %d answers, want a hand-over with jobs left", s.Variant, answers.Load())
		}
		r.Submit(job(0, time.Hour), count)
		r.Drain(t.Context())
		if answers.Load() != 21 {
			t.Errorf("%d answers, want 21", answers.Load())
		}
		if got := r.ask(job(0, time.Hour)); got.Reason != wire.Busy || !got.Abandoned {
			t.Errorf("afterwards: got %+v, want a job left to others", got)
		}
	})
}

func TestDrainGivesUpWhenItsTimeIsUp(t *testing.T) {
	simulate(t, func(r *rig) { r.cpu.latency = []time.Duration{time.Second, time.Second, time.Second} },
		func(t *testing.T, r *rig) {
			for range 20 {
				r.Submit(job(0, time.Hour), func(*Answer) {})
			}
			ctx, cancel := context.WithTimeout(t.Context(), 1500*ms)
			defer cancel()
			before := time.Now()
			r.Drain(ctx)
			if took := time.Since(before); took != 1500*ms {
				t.Errorf("took %v", took)
			}
		})
}

func TestGoalsAreJudgedByTheMembersInUse(t *testing.T) {
	goal := func(g governor.Goal) governor.Mode { return mustMode(t, g) }
	simulate(t, nil, func(t *testing.T, r *rig) {
		for _, tt := range []struct {
			name    string
			mode    governor.Mode
			reason  wire.Reason
			nearest governor.Goal
			detail  string
		}{
			{"feasible", goal(governor.Goal{Floor: 0.8}), "", governor.Goal{Floor: 0.8}, ""},
			{"a floor over all", goal(governor.Goal{Floor: 0.95}), wire.Infeasible,
				governor.Goal{Floor: testFamily().Members[2].Top1}, "no member reaches a top-1 of 0.95"},
			{"a member", mode(t, "fixed:small"), "", governor.Goal{}, ""},
			{"no member", mode(t, "fixed:huge"), wire.Invalid, governor.Goal{},
				"mode fixed:huge: no such member in use; there are small, middle, large"},
			{"watts", goal(governor.Goal{Watts: 5}), wire.Infeasible, governor.Goal{}, "cannot measure its power"},
		} {
			nearest, err := r.Feasible(t.Context(), tt.mode)
			refusal, _ := errors.AsType[*wire.Refusal](err)
			if tt.reason == "" && err != nil || tt.reason != "" && (refusal == nil || refusal.Reason != tt.reason) ||
				nearest != tt.nearest {
				t.Errorf("%s: got %+v, %v; want %+v, %q", tt.name, nearest, err, tt.nearest, tt.reason)
			}
			if err != nil && !errorSays(err, tt.detail) {
				t.Errorf("%s: got %v, want %q", tt.name, err, tt.detail)
			}
		}
	})
}

func TestGoalsWaitWhileMembersAreLoaded(t *testing.T) {
	simulate(t, func(r *rig) { r.cpu.slow = time.Minute }, func(t *testing.T, r *rig) {
		ctx, cancel := context.WithTimeout(t.Context(), 200*ms)
		defer cancel()
		goal := mustMode(t, governor.Goal{Floor: 0.5})
		if _, err := r.Feasible(ctx, goal); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
		}
		before := time.Now()
		if _, err := r.Feasible(t.Context(), mode(t, "power-save")); err != nil || time.Since(before) > 0 {
			t.Errorf("a mode without figures: got %v after %v, want it to be had at once", err, time.Since(before))
		}
		if _, err := r.Feasible(t.Context(), goal); err != nil || time.Since(before) < 2*time.Minute {
			t.Errorf("got %v after %v", err, time.Since(before))
		}
	})
}

func TestMembersThatAreBusyForLongSaySo(t *testing.T) {
	simulate(t, func(r *rig) { r.cpu.latency = []time.Duration{3 * time.Second, 3 * time.Second, 3 * time.Second} },
		func(t *testing.T, r *rig) {
			r.Submit(job(0, time.Minute), func(*Answer) {})
			synctest.Wait()
			_, err := r.Feasible(t.Context(), mustMode(t, governor.Goal{Floor: 0.5}))
			if refusal, ok := errors.AsType[*wire.Refusal](err); !ok || refusal.Reason != wire.Busy {
				t.Errorf("got %v, want busy", err)
			}
		})
}

func TestADeviceThatCannotInferCanHaveNoGoal(t *testing.T) {
	simulate(t, withFullDisk(0, 1, 2), func(t *testing.T, r *rig) {
		_, err := r.Feasible(t.Context(), governor.Mode{})
		if refusal, ok := errors.AsType[*wire.Refusal](err); !ok || refusal.Reason != wire.Unsupported ||
			!errorSays(err, "the disk is full") {
			t.Errorf("got %v, want unsupported, and why", err)
		}
	})
}

func TestWhatInferencesCostIsKeptOverHandOvers(t *testing.T) {
	simulate(t, withGPU, func(t *testing.T, r *rig) {
		watts, err := governor.ModeOf(governor.Goal{Watts: 50})
		if err != nil {
			t.Fatal(err)
		}
		r.SetPower(governor.Power{Idle: 2, Active: 10})
		synctest.Wait()
		if _, err := r.Feasible(t.Context(), watts); err != nil {
			t.Errorf("on the GPU: %v", err)
		}
		r.loaders[onGPU].change(func(l *fakeLoader) { l.gone = errors.New("CUDA failure 999") })
		r.ask(job(0, time.Minute))
		pass(time.Second)
		if _, err := r.Feasible(t.Context(), watts); err != nil || r.Status().Variant != single {
			t.Errorf("on %v: %v", r.Status().Variant, err)
		}
	})
}

func TestAChangeOfTheStatusIsToldOf(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		<-r.Changed()
		select {
		case <-r.Changed():
			t.Error("told of without a change")
		default:
		}
		if err := r.SetMode(t.Context(), mode(t, "power-save")); err != nil {
			t.Fatal(err)
		}
		<-r.Changed()
		tight(r)
		pass(2 * time.Second)
		<-r.Changed()
	})
}

func TestASwitchOfMembersIsToldOf(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		r.ask(job(0, time.Minute))
		if err := r.SetMode(t.Context(), mode(t, "fixed:small")); err != nil {
			t.Fatal(err)
		}
		r.ask(job(0, time.Minute))
		if e := r.events.all; len(e) != 1 || e[0].Kind != wire.EventSwitch || e[0].From != "large" ||
			e[0].Member != "small" || e[0].Detail == "" {
			t.Errorf("got %+v", e)
		}
	})
}

func errorSays(err error, text string) bool { return strings.Contains(err.Error(), text) }
