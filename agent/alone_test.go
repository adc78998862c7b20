package agent_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/wire"
)

func TestR5_NewJobsDoNotWaitBehindThoseThatAreServedAlone(t *testing.T) {
	t.Parallel()
	const again, fresh = 100, 5
	cfg := newConfig(t, serve(t))
	cfg.Mode = "fixed:5.8M"
	o := operate(t, cfg.Broker.URL[0])
	p := launch(t, cfg, envSimulated+"=20ms")
	o.presence(cfg, wire.Online, 0)
	plain := job(t, patient, pngFrame(t, 0))
	o.burst(cfg, ids("job", again), plain)
	o.until(func() bool { return o.jobsAnswered(cfg) > 0 }, "the first job is answered")
	p.kill()
	before := o.jobsAnswered(cfg)
	p = launch(t, cfg, envSimulated+"=20ms")
	o.until(func() bool { return o.jobsAnswered(cfg) > before+3 }, "those that come again are served")
	var took []time.Duration
	for i := range fresh {
		id, began, answered := fmt.Sprint("new-", i), time.Now(), o.jobsAnswered(cfg)
		o.publish(self(cfg).Job(id), plain)
		o.result(cfg, id, 1)
		took = append(took, time.Since(began))
		if others := o.jobsAnswered(cfg) - answered - 1; others > 10 {
			t.Errorf("%d that come again were served before a new job, want one, or two", others)
		}
	}
	slices.Sort(took)
	t.Logf("a new job took %v at most, %v in the middle", took[fresh-1], took[fresh/2])
	if n := o.jobsAnswered(cfg); n == again+fresh {
		t.Error("nothing that came again is left: they waited")
	}
	began, left := time.Now(), again+fresh-o.jobsAnswered(cfg)
	o.until(func() bool { return o.jobsAnswered(cfg) == again+fresh }, "every job is answered")
	t.Logf("%.1f a second are served alone", float64(left)/time.Since(began).Seconds())
	p.stop()
}
