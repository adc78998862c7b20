package engine

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limber-edge/limber/agent/wire"
)

func TestWorkRestsOnlyWhileJobsComeAndItIsWaitedFor(t *testing.T) {
	for _, tt := range []struct {
		name       string
		every      time.Duration // between two jobs; 0: there are none
		last       time.Duration // when the last one comes; 0: they go on
		ends       time.Duration // when nobody waits for the work any more; 0: somebody does
		may, step  time.Duration
		from, upTo time.Duration // that the rest takes
	}{
		{"jobs come", 5 * ms, 0, 0, time.Minute, 20 * ms, 500 * ms, 500 * ms},
		{"a step that takes no time", 5 * ms, 0, 0, time.Minute, 0, 0, 0},
		{"a long step", 5 * ms, 0, 0, time.Minute, time.Second, restMost, restMost},
		{"few jobs come", 200 * ms, 0, 0, time.Minute, 210 * ms, restMost, restMost},
		{"no job comes", 0, 0, 0, time.Minute, time.Second, 0, 0},
		{"jobs stopped before", 5 * ms, 600 * ms, 0, time.Minute, time.Second, 0, restIdle},
		{"jobs stop meanwhile", 5 * ms, 600 * ms, 0, time.Minute, 500 * ms, restIdle, 400 * ms},
		{"it may rest no more", 5 * ms, 0, 0, 0, time.Second, 0, 0},
		{"it may rest a little", 5 * ms, 0, 0, 2 * ms, 20 * ms, 0, 2 * ms},
		{"nobody waits any more", 5 * ms, 0, 600 * ms, time.Minute, 500 * ms, 100 * ms, 100 * ms},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start, ended := time.Now(), make(chan struct{})
				d := newDuty(tt.may, ended, func() uint64 {
					since := time.Since(start)
					if tt.every == 0 {
						return 7
					}
					if tt.last > 0 {
						since = min(since, tt.last)
					}
					return uint64(since / tt.every)
				})
				if tt.ends > 0 {
					time.AfterFunc(tt.ends, func() { close(ended) })
				}
				for range 2 {
					pass(tt.step)
					before := time.Now()
					d.rest()
					if took := time.Since(before); took < tt.from || took > tt.upTo {
						t.Errorf("it rested for %v after %v, want %v to %v", took, tt.step, tt.from, tt.upTo)
					}
					if tt.last+tt.ends > 0 {
						return
					}
				}
			})
		})
	}
}

func TestAFamilyIsPreparedALittleAtATimeWhileJobsAreAnswered(t *testing.T) {
	for _, tt := range []struct {
		name       string
		jobs, gone bool
		from, upTo time.Duration
	}{
		{"nobody asks", false, false, 200 * ms, 210 * ms},
		{"jobs are answered", true, false, 5 * time.Second, 6 * time.Second},
		{"the family in use answers none", true, true, 200 * ms, 210 * ms},
	} {
		t.Run(tt.name, func(t *testing.T) {
			simulate(t, func(r *rig) { r.cfg.Rest = time.Minute }, func(t *testing.T, r *rig) {
				next, l := r.another("next", "one", "two")
				l.slow = 100 * ms
				if tt.gone {
					r.cpu.change(func(l *fakeLoader) { l.gone = errors.New("out of order") })
				}
				stop, ended := make(chan struct{}), make(chan struct{})
				go func() {
					defer close(ended)
					for tick := time.Tick(10 * ms); tt.jobs; {
						select {
						case <-tick:
							r.Submit(job(0, time.Minute), func(*Answer) {})
						case <-stop:
							return
						}
					}
				}()
				before := time.Now()
				r.mustReplace(next)
				took := time.Since(before)
				close(stop)
				<-ended
				if took < tt.from || took > tt.upTo {
					t.Errorf("it took %v, want %v to %v", took, tt.from, tt.upTo)
				}
				r.tells(wire.EventProgress, "family next: measuring 2 members; family test serves")
			})
		})
	}
}
