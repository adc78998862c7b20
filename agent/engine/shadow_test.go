package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limber-edge/limber/agent/pipeline"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
)

// picture is a frame of one colour, of which the numbers that members see are a 255th.
func picture(tb testing.TB, gray uint8) pipeline.Job {
	tb.Helper()
	m := image.NewGray(image.Rect(0, 0, 4, 4))
	for i := range m.Pix {
		m.Pix[i] = color.Gray{gray}.Y
	}
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		tb.Fatal(err)
	}
	return pipeline.Job{Body: b.Bytes(), Received: time.Now(), Deadline: time.Minute}
}

// above says the second class of images brighter than a number in [0, 1].
func above(limit float32) func(float32) int {
	return func(pixel float32) int {
		if pixel > limit {
			return 1
		}
		return 0
	}
}

// comparing is a shadow that runs beside the test.
type comparing struct {
	*rig
	cancel context.CancelFunc
	ended  chan struct{}
	err    error // once it has ended
	mu     sync.Mutex
	so     Compared // guarded by mu
}

// compares begins a shadow.
func (r *rig) compares(next Source, how Comparison) *comparing {
	ctx, cancel := context.WithCancel(r.Context())
	c := &comparing{rig: r, cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(c.ended)
		so, err := r.Shadow(ctx, next, how, c.set)
		if c.set(so); err != nil {
			c.err = err
		}
	}()
	synctest.Wait()
	return c
}

func (c *comparing) set(so Compared) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.so = so
}

func (c *comparing) far() Compared {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.so
}

// over wants the shadow to have ended with a reason, "" for none, and to have left nothing.
func (c *comparing) over(f *family.Family, reason wire.Reason, says string) {
	c.Helper()
	<-c.ended
	refusal, _ := errors.AsType[*wire.Refusal](c.err)
	switch {
	case reason == "" && c.err != nil:
		c.Error(c.err)
	case reason != "" && (refusal == nil || refusal.Reason != reason || !strings.Contains(c.err.Error(), says)):
		c.Errorf("got %v, want %s and %q", c.err, reason, says)
	}
	c.closed(f)
}

func TestAgreementIsThatOfTheLabelsOfTheFirstClasses(t *testing.T) {
	for _, tt := range []struct {
		name    string
		classes []string
		limit   float32
		agreed  int // of the pictures of 256 grays
	}{
		{"the same", []string{"cat", "dog"}, 0.5, 256},
		{"another limit", []string{"cat", "dog"}, 0.75, 192},
		{"the same numbers, other labels", []string{"dog", "cat"}, 0.5, 0},
		{"labels that the other one lacks", []string{"cat", "hen", "dog"}, 0.5, 128},
	} {
		t.Run(tt.name, func(t *testing.T) {
			simulate(t, nil, func(t *testing.T, r *rig) {
				next, l := r.another("next", "one", "two")
				next.Family.Classes, l.says, r.cpu.says = tt.classes, above(tt.limit), above(0.5)
				before, tally := r.Snapshot(), r.Tally()
				c := r.compares(next, Comparison{Percent: 100, Frames: 256})
				for gray := range 256 {
					if got := r.ask(picture(t, uint8(gray))); got.Reason != "" || got.member == "one" || got.member == "two" {
						t.Errorf("got %s by %s", got.Detail, got.member)
					}
					if pass(time.Second); c.far().Frames != gray+1 {
						t.Fatalf("got %d frames, want %d", c.far().Frames, gray+1)
					}
				}
				c.over(next.Family, "", "")
				if got := c.far(); got.Frames != 256 || got.Agreed != tt.agreed || got.Missed != 0 || got.P95 < 2*ms ||
					got.P95 > 5*ms {
					t.Errorf("got %+v, want %d agreed", got, tt.agreed)
				}
				now, counted := r.Snapshot(), r.Tally()
				if now.Jobs-before.Jobs != 256 || now.Infer.Count()-before.Infer.Count() != 256 ||
					counted.Answered-tally.Answered != 256 || counted.Family != r.deps.Family || counted.Refused+counted.Missed > 0 {
					t.Errorf("counted %+v, %+v; want the jobs alone", now.Counts, counted)
				}
				if events := r.events.of(wire.EventSwitch); len(events) > 0 {
					t.Errorf("got switches %q", events)
				}
				if len(l.ran) != 256 {
					t.Errorf("members of the other family ran %d times", len(l.ran))
				}
			})
		})
	}
}

// counted is how many runs went to their end, and how many were interrupted.
func (l *fakeLoader) counted() (ran, ended int) {
	l.change(func(l *fakeLoader) { ran, ended = len(l.ran), l.ended })
	return ran, ended
}

// cameras has a frame come every so often, and tells how many of them there were.
func (r *rig) cameras(every, for_ time.Duration) (sent int) {
	for end := time.Now().Add(for_); time.Now().Before(end); sent++ {
		r.Submit(picture(r, uint8(sent)), func(*Answer) {})
		pass(every)
	}
	return sent
}

func TestNoMoreFramesAreComparedThanWereAskedFor(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		next, l := r.another("next", "one")
		l.latency[0] = 10 * time.Microsecond
		c := r.compares(next, Comparison{Percent: 10, Frames: 1 << 20})
		sent := r.cameras(20*ms, 8*time.Second)
		if got := c.far().Frames; got > sent/10 || got < sent/10-2 {
			t.Errorf("got %v of %d frames, want a tenth and no more", got, sent)
		}
		c.cancel()
		<-c.ended
	})
}

// Ten cameras take turns.
func TestASampleIsOfEveryCameraAndNoLargerThanWasAskedFor(t *testing.T) {
	const answers = 5000
	for _, percent := range []float64{1, 10, 33, 70, 100} {
		p, taken, seen := newSampler(percent), 0, map[string]int{}
		p.wanted.Store(true)
		for i := range answers {
			f := testFamily()
			f.Classes = []string{fmt.Sprint(i % 10)}
			a := &Answer{Answer: &pipeline.Answer{Top: []pipeline.Class{{}}}, Family: f}
			p.answered(&pipeline.Job{Body: []byte{1}}, a, true)
			select {
			case s := <-p.frames:
				seen[s.label]++
				taken++
				p.advance(false)
				p.wanted.Store(true)
			default:
			}
			if float64(taken) > float64(i+1)*percent/100 {
				t.Fatalf("%v %%: %d of %d answers", percent, taken, i+1)
			}
		}
		if least := answers * percent / 100 / 2; float64(taken) < least || percent > 1 && len(seen) < 10 {
			t.Errorf("%v %%: %d samples by camera %v, want at least %v, and some of each", percent, taken, seen, least)
		}
	}
}

func TestAPercentageMayBeSoSmallThatNothingIsSampled(t *testing.T) {
	j, a := picture(t, 0), Answer{Answer: &pipeline.Answer{Top: []pipeline.Class{{}}}, Family: testFamily()}
	for _, percent := range []float64{math.SmallestNonzeroFloat64, 1e-300, 1e-17, 1e-6} {
		p := newSampler(percent)
		p.wanted.Store(true)
		for range 1000 {
			p.answered(&j, &a, true)
		}
		if len(p.frames) > 0 {
			t.Errorf("%v %%: a frame was let through", percent)
		}
	}
}

func TestAShadowTakesNoMoreOfTheTimeThanWasAskedFor(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		next, l := r.another("next", "one")
		l.latency[0] = 90 * ms
		c := r.compares(next, Comparison{Percent: 10, Frames: 1 << 20})
		r.cameras(100*ms, 20*time.Second)
		if n := c.far().Frames; n < 15 || n > 23 {
			t.Errorf("got %d frames of 90 ms in 20 s, want a tenth of the time", n)
		}
		c.cancel()
		<-c.ended
	})
}

func TestNoFrameIsComparedWhileJobsWaitOrRun(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		next, l := r.another("next", "one")
		c := r.compares(next, Comparison{Percent: 100, Frames: 1 << 20})
		l.change(func(l *fakeLoader) { l.ran = nil })
		for range 500 { // each comes before the one before it is answered, by the largest, in 8 ms
			r.Submit(picture(t, 0), func(*Answer) {})
			pass(7 * ms)
		}
		if ran, _ := l.counted(); ran > 0 || c.far().Frames > 0 {
			t.Errorf("%d frames were compared, members ran %d times", c.far().Frames, ran)
		}
		c.cancel()
		<-c.ended
	})
}

func TestAJobThatComesHasTheShadowGiveUpItsInference(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		next, l := r.another("next", "one")
		l.latency[0] = 50 * ms
		c := r.compares(next, Comparison{Percent: 100, Frames: 1 << 20})
		const jobs = 1000
		for i := 1; i <= jobs; i++ { // after its answer, 22 ms are left to the next
			r.Submit(picture(t, 0), func(*Answer) {})
			pass(30 * ms)
			if _, ended := l.counted(); i == 2 && (ended != 1 || c.far().Frames > 0) {
				t.Errorf("%d inferences were given up, %d frames counted; want the one at hand", ended, c.far().Frames)
			}
		}
		got := c.far()
		ran, ended := l.counted()
		if met := ended + ran; met > jobs/metRest || met < jobs/metRest-2 {
			t.Errorf("jobs met with %d inferences, want it to be one in %d", met, metRest)
		}
		if got.Frames != ran || ended-got.Frames < 0 || ended-got.Frames > 1 || got.Missed > 0 {
			t.Errorf("%d given up, %+v; want every other one to go to its end", ended, got)
		}
		c.cancel()
		<-c.ended
	})
}

func TestFramesThatWouldHaveBeenLateAreCounted(t *testing.T) {
	for _, tt := range []struct {
		name     string
		latency  time.Duration
		floor    float64
		deadline time.Duration
		missed   int
	}{
		{"in time", 10 * ms, 0, 20 * ms, 0},
		{"late", 30 * ms, 0, 20 * ms, 10},
		{"refused, as none is accurate enough", 10 * ms, 0.75, 20 * ms, 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			simulate(t, nil, func(t *testing.T, r *rig) {
				next, l := r.another("next", "one")
				l.latency[0] = tt.latency
				c := r.compares(next, Comparison{Percent: 100, Frames: 10})
				for range 10 {
					j := picture(t, 0)
					j.Deadline, j.Floor = tt.deadline, tt.floor
					r.ask(j)
					pass(50 * ms) // so soon that the governor remembers
				}
				c.over(next.Family, "", "")
				if got := c.far(); got.Frames != 10 || got.Missed != tt.missed {
					t.Errorf("got %+v, want %d missed", got, tt.missed)
				}
			})
		})
	}
}

func TestTheQueueOfTheFamilyInUseCountsForTheOther(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		next, l := r.another("next", "one")
		l.latency[0] = 10 * ms
		c := r.compares(next, Comparison{Percent: 100, Frames: 2})
		for _, waited := range []time.Duration{0, 15 * ms} {
			j := picture(t, 0)
			j.Received, j.Deadline = time.Now().Add(-waited), 24*ms // the largest takes 8 ms
			r.ask(j)
			pass(time.Second)
		}
		c.over(next.Family, "", "")
		if got := c.far(); got.Missed != 1 {
			t.Errorf("got %+v, want the one that waited to be late", got)
		}
	})
}

func TestTheModeOfTheDeviceIsThatOfTheShadow(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		next, l := r.another("next", "one", "large")
		c := r.compares(next, Comparison{Percent: 100, Frames: 6})
		l.change(func(l *fakeLoader) { l.ran = nil })
		for _, m := range []string{"fixed:large", "fixed:small", "low-latency"} {
			if err := r.SetMode(t.Context(), mode(t, m)); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				r.ask(picture(t, 0))
				pass(time.Second)
			}
		}
		c.over(next.Family, "", "")
		if want := []int{1, 1, 1, 1}; len(l.ran) != 6 || !slices.Equal(l.ran[:4], want) { // balanced, without a small one
			t.Errorf("members %v ran, want %v first", l.ran, want)
		}
		if s := r.Status(); s.Target != mode(t, "low-latency") || len(r.events.of(wire.EventFault)) > 0 {
			t.Errorf("got %v, %q", s.Target, r.events.of(wire.EventFault))
		}
	})
}

func TestAShadowGivesUpItsMemoryBeforeAMemberInUseGoes(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		next, l := r.another("next", "one", "two")
		c := r.compares(next, Comparison{Percent: 100, Frames: 3})
		open := func() (n int) {
			l.change(func(l *fakeLoader) { n = l.open })
			return n
		}
		r.ask(picture(t, 0))
		if pass(time.Second); open() != 2 || c.far().Frames != 1 {
			t.Fatalf("%d sessions are open, %d frames compared", open(), c.far().Frames)
		}
		taking(r, 3, 20) // % of the memory by session
		if pass(2 * time.Second); open() > 0 || !strings.Contains(c.far().Waits, "memory has no room") {
			t.Errorf("%d sessions are open, it waits for %q", open(), c.far().Waits)
		}
		r.wants(Ready, "")
		if pass(time.Minute); open() > 0 || len(r.events.of(wire.EventMemory)) > 0 {
			t.Errorf("%d sessions are open, %q", open(), r.events.of(wire.EventMemory))
		}
		r.machine.mu.Lock()
		r.machine.taken = nil
		r.machine.mu.Unlock()
		tight(r) // that is not the shadow's doing: a member goes
		pass(5 * time.Second)
		r.wants(Degraded, "large is out of use")
		r.machine.set(100, 100)
		pass(time.Hour)
		r.wants(Ready, "")
		for open() == 2 && c.far().Frames < 3 {
			r.ask(picture(t, 0))
			pass(time.Second)
		}
		c.over(next.Family, "", "")
		if got := c.far(); got.Frames != 3 || got.Waits != "" {
			t.Errorf("got %+v", got)
		}
	})
}

func TestAShadowThatIsBeingClosedSavesTheMembersInUse(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		next, l := r.another("next", "one", "two")
		l.slow = 4 * time.Second
		c := r.compares(next, Comparison{Percent: 100, Frames: 3})
		pass(500 * ms) // the first session is being made
		tight(r)
		pass(3 * time.Second)
		if got := r.events.of(wire.EventMemory); len(got) > 0 {
			t.Errorf("got %q, though the shadow has not left yet", got)
		}
		l.change(func(l *fakeLoader) { l.slow = time.Hour })
		r.machine.set(100, 100)
		pass(time.Minute) // it begins again
		tight(r)
		pass(20 * time.Second)
		r.wants(Degraded, "large is out of use") // what takes so long to leave is not waited for
		c.cancel()
		<-c.ended
	})
}

func TestAShadowKeepsNoMemberInUseFromComingBack(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		next, l := r.another("next", "one")
		c := r.compares(next, Comparison{Percent: 100, Frames: 3})
		r.ask(picture(t, 0))
		if pass(time.Second); c.far().Frames != 1 {
			t.Fatalf("got %+v", c.far())
		}
		r.machine.set(12, 100) // it is not short, and there is none to spare
		r.cpu.change(func(l *fakeLoader) { l.hang[2], l.faults[2] = 1, errors.New("no memory") })
		r.ask(picture(t, 0))
		pass(10 * time.Second)
		r.wants(Degraded, "large is out of use")
		l.change(func(l *fakeLoader) {
			if l.open > 0 {
				t.Error("the shadow has its memory, and a member in use waits for some")
			}
		})
		c.cancel()
		<-c.ended
	})
}

func TestAShadowThatIsThroughNeitherRestsNorWaitsForMemory(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		next, l := r.another("next", "one")
		l.latency[0] = 90 * ms
		c := r.compares(next, Comparison{Percent: 10, Frames: 1})
		for c.far().Frames < 1 {
			r.Submit(picture(t, 0), func(*Answer) {})
			pass(10 * ms)
		}
		tight(r)
		pass(2 * time.Second)
		select {
		case <-c.ended:
		default:
			t.Errorf("it is not over, and waits for %q", c.far().Waits)
			c.cancel()
			return
		}
		c.over(next.Family, "", "")
		if len(l.made) != 1 {
			t.Errorf("members %v were made", l.made)
		}
	})
}

func TestAShadowThatHasRoomAgainSaysSo(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		r.machine.set(12, 100)
		next, _ := r.another("next", "one")
		c := r.compares(next, Comparison{Percent: 100, Frames: 1})
		if pass(time.Second); c.far().Waits == "" {
			t.Error("it does not say that it waits for memory")
		}
		r.machine.set(50, 100)
		if pass(5 * time.Second); c.far().Waits != "" {
			t.Errorf("it says that it waits for %q", c.far().Waits)
		}
		r.ask(picture(t, 0))
		c.over(next.Family, "", "")
	})
}

func TestAShadowBeginsWhenNothingIsLeftOfAFamilyThatWasGivenUp(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		first, l := r.another("first", "one")
		l.slow = time.Minute
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.Replace(ctx, first); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		next, beside := r.another("next", "two")
		c := r.compares(next, Comparison{Percent: 100, Frames: 1})
		pass(30 * time.Second)
		beside.change(func(l *fakeLoader) {
			if len(l.made) > 0 {
				t.Error("a member was made while another family's was")
			}
		})
		pass(time.Minute)
		r.ask(picture(t, 0))
		c.over(next.Family, "", "")
	})
}

func TestAShadowThatHungIsNotForgivenForAJobThatCame(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		next, l := r.another("next", "one", "two")
		l.hang[1], l.deaf = 1, 7*time.Second // longer than a run may take, shorter than one that never ends
		c := r.compares(next, Comparison{Percent: 100, Frames: 3})
		r.ask(picture(t, 0))
		pass(time.Second)
		r.ask(picture(t, 0)) // it interrupts the run, in vain
		pass(time.Minute)
		if c.far().Frames > 0 {
			t.Errorf("it goes on, %+v", c.far())
			c.cancel()
		}
		c.over(next.Family, wire.Unsupported, "member two: it was interrupted after")
	})
}

func TestAShadowThatCannotBeSaysWhy(t *testing.T) {
	canary := errors.New("canary: a logit is far from the stored one")
	for _, tt := range []struct {
		name   string
		spoil  func(*rig, *Source, *fakeLoader)
		reason wire.Reason
		says   string
	}{
		{"no member passes", func(_ *rig, _ *Source, l *fakeLoader) { l.gone = canary }, wire.Unsupported,
			"family next cannot be used: no member of family next can be used: member 0: canary: a logit is far from the stored " +
				"one; family test stays"},
		{"the disk is full", func(_ *rig, _ *Source, l *fakeLoader) { l.faults = []error{canary, family.ErrNoRoom} }, wire.NoSpace,
			"member 1: the disk is full"},
		{"no runtime", func(_ *rig, s *Source, _ *fakeLoader) { s.Open, s.Fault = nil, errors.New("no ONNX Runtime") },
			wire.Unsupported, "no ONNX Runtime"},
		{"no preprocessing", func(_ *rig, s *Source, _ *fakeLoader) { s.Preprocess = family.Preprocess{} }, wire.Unsupported,
			"resize"},
		{"it hangs", func(_ *rig, _ *Source, l *fakeLoader) { l.hang[1] = 100 }, wire.Unsupported,
			"family next cannot be used: member two: it was interrupted after"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			simulate(t, nil, func(t *testing.T, r *rig) {
				next, l := r.another("next", "one", "two")
				tt.spoil(r, &next, l)
				c := r.compares(next, Comparison{Percent: 100, Frames: 3})
				r.ask(picture(t, 0))
				c.over(next.Family, tt.reason, tt.says)
				r.wants(Ready, "")
				r.answeredBy("large")
			})
		})
	}
}

func TestAMemberThatFailsToAnswerEndsTheShadow(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		next, l := r.another("next", "one")
		c := r.compares(next, Comparison{Percent: 100, Frames: 3})
		r.ask(picture(t, 0))
		pass(time.Second)
		l.change(func(l *fakeLoader) { l.gone = errors.New("out of order") })
		r.ask(picture(t, 0))
		c.over(next.Family, wire.Unsupported, "family next cannot be used: member one: out of order; family test stays")
		if got := c.far(); got.Frames != 1 {
			t.Errorf("got %+v", got)
		}
	})
}

func TestThereIsNothingToCompareWithAFamilyThatCannotAnswer(t *testing.T) {
	simulate(t, func(r *rig) { r.cpu.gone = errors.New("canary") }, func(t *testing.T, r *rig) {
		next, _ := r.another("next", "one")
		c := r.compares(next, Comparison{Percent: 100, Frames: 3})
		c.over(next.Family, wire.Precondition, "family next cannot be compared with family test, which answers no job: no member")
	})
}

func TestAShadowIsGivenUpAtAnyMoment(t *testing.T) {
	for moment := range 30 {
		for _, ends := range []string{"by who asked", "with the engine"} {
			t.Run(fmt.Sprint(moment, " ", ends), func(t *testing.T) {
				simulate(t, nil, func(t *testing.T, r *rig) {
					next, l := r.another("next", "one", "two")
					l.slow = 7 * ms
					c := r.compares(next, Comparison{Percent: 100, Frames: 1 << 20})
					for range moment {
						r.Submit(picture(t, 0), func(*Answer) {})
						pass(3 * ms)
					}
					want := context.Canceled
					if ends == "by who asked" {
						c.cancel()
					} else {
						r.stop()
						want = pipeline.ErrClosed
					}
					if <-c.ended; !errors.Is(c.err, want) {
						t.Errorf("got %v, want %v", c.err, want)
					}
					pass(time.Second)
					r.closed(next.Family)
				})
			})
		}
	}
}

func TestAFamilyTakesOverAfterItWasComparedAndNotBefore(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		next, l := r.another("next", "one", "two")
		c := r.compares(next, Comparison{Percent: 100, Frames: 2})
		replaced := make(chan error, 1)
		go func() { replaced <- r.Replace(t.Context(), next) }()
		pass(time.Minute)
		if got := r.Status().Family; got != r.deps.Family {
			t.Errorf("family %s took over", got.Name)
		}
		for range 2 {
			r.ask(picture(t, 0))
			pass(time.Second)
		}
		c.over(r.cpu.family, "", "")
		if err := <-replaced; err != nil || l.profiled != 1 {
			t.Errorf("got %v, %d profiles; want that of the shadow used again", err, l.profiled)
		}
		r.answeredBy("two")
	})
}

func TestAShadowBeginsWhenTheFamilyInUseAnswers(t *testing.T) {
	st := mustStore(t)
	synctest.Test(t, func(t *testing.T) {
		r := mustRig(t, st)
		r.cpu.slow = time.Minute
		r.start()
		next, l := r.another("next", "one")
		c := r.compares(next, Comparison{Percent: 100, Frames: 1})
		pass(30 * time.Second)
		l.change(func(l *fakeLoader) {
			if len(l.made) > 0 {
				t.Errorf("members %v were made, before those in use", l.made)
			}
		})
		pass(time.Hour)
		r.ask(picture(t, 0))
		c.over(next.Family, "", "")
		r.end()
	})
}

func TestSamplingAllocatesNothingWhereNoFrameIsWanted(t *testing.T) {
	p := newSampler(10)
	j, a := picture(t, 0), Answer{Answer: &pipeline.Answer{Top: []pipeline.Class{{}}}, Family: testFamily()}
	if n := testing.AllocsPerRun(100, func() {
		p.answered(&j, &a, true)
		p.yield()
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
