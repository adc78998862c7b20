package engine

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/limber-edge/limber/family"
)

// occasion is something that the loader and the supervisor are busy with.
type occasion struct {
	name string
	set  func(*rig)
	then func(*rig)    // what happens after 50 ms
	step time.Duration // between two moments to look at
}

func occasions() []occasion {
	return []occasion{
		{"first start", func(*rig) {}, func(*rig) {}, 3 * ms},
		{"a GPU that takes over and fails", withGPU, func(r *rig) {
			r.loaders[onGPU].change(func(l *fakeLoader) { l.gone = errors.New("CUDA failure 999") })
			r.Submit(job(0, time.Minute), func(*Answer) {})
		}, 4 * ms},
		{"more threads", func(r *rig) {
			withCores(r, 1*ms, 2*ms, 3*ms)
			r.machine.set(50, 0)
		}, func(*rig) { pass(11 * time.Second) }, 3 * ms},
		{"a full disk", withFullDisk(2), func(r *rig) {
			r.makeRoom()
			pass(900 * ms)
		}, 4 * ms},
		{"no member on a full disk", withFullDisk(0, 1, 2), func(r *rig) {
			r.makeRoom()
			pass(900 * ms)
		}, 4 * ms},
		{"a hang", withHangs(1), func(r *rig) {
			r.Submit(job(0, time.Minute), func(*Answer) {})
			pass(5 * time.Second)
		}, 3 * ms},
	}
}

// at runs a test of an occasion, whose sessions take 7 ms to make, at a moment of it.
func (o occasion) at(t *testing.T, moment int, test func(*testing.T, *rig)) {
	t.Helper()
	t.Run(fmt.Sprintf("%s/%v", o.name, time.Duration(moment)*o.step), func(t *testing.T) {
		simulate(t, func(r *rig) {
			o.set(r)
			for _, l := range r.loaders {
				l.slow = 7 * ms
			}
		}, func(t *testing.T, r *rig) {
			if moment%2 == 1 {
				pass(50 * ms)
				o.then(r)
			}
			pass(time.Duration(moment) * o.step)
			test(t, r)
		})
	})
}

// An engine that is stopped at any moment of its work frees every session and pin,
// which the end of a simulation looks at.
func TestAnEngineThatIsStoppedAtAnyMomentLeavesNothingBehind(t *testing.T) {
	for i, o := range append(occasions(),
		occasion{"short memory", tight, func(r *rig) {
			r.machine.set(90, 100)
			pass(10 * time.Second)
		}, 3 * ms},
		occasion{"another family", func(*rig) {}, func(r *rig) {
			next, l := r.another("next", "one", "two")
			l.slow = 7 * ms
			go r.Replace(context.Background(), next)
		}, 2 * ms},
	) {
		for moment := i % everyMoment; moment < 40; moment += everyMoment {
			o.at(t, moment, func(*testing.T, *rig) {})
		}
	}
}

func TestAFamilyThatMakesNoPipelineEndsTheEngine(t *testing.T) {
	for _, why := range []struct {
		name  string
		spoil func(*rig)
	}{
		{"no room in the queue", func(r *rig) { r.cfg.QueueJobs = 0 }},
		{"no preprocessing", func(r *rig) { r.deps.Preprocess = family.Preprocess{} }},
	} {
		r := mustRig(t, mustStore(t))
		why.spoil(r)
		r.start()
		if err := <-r.ended; err == nil || r.cpu.open != 0 {
			t.Errorf("%s: got %v with %d sessions open, want an error and none", why.name, err, r.cpu.open)
		}
	}
}
