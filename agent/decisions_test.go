package agent_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/governor/logbook"
	"github.com/limber-edge/limber/agent/wire"
)

func TestTelemetryExplainsTheLastDecisions(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	cfg, o := newConfig(t, addr), operate(t, addr)
	cfg.Governor.LogMiB = 1
	d := start(t, cfg, rig{})
	if got := decoded[wire.Telemetry](t, o.await(self(cfg).Telemetry(), 1)); got.Decisions != nil {
		t.Errorf("before the first job: got %+v", got.Decisions)
	}
	var asked time.Time
	for i := range 12 {
		id := fmt.Sprintf("a-%d", i)
		asked = time.Now().Truncate(time.Millisecond)
		o.publish(self(cfg).Job(id), job(t, patient, pngFrame(t, i%10)))
		o.await(self(cfg).Result(id), 1)
	}
	got := o.telemetry(cfg, func(t wire.Telemetry) bool {
		return t.Jobs == 12 && t.Decisions[0].InferMS != nil && !t.Decisions[0].TS.Before(asked)
	}, "twelve jobs are answered").Decisions
	b, err := json.Marshal(got)
	if err != nil || len(b) > 2<<10 || len(got) == 0 || len(got) > 3 {
		t.Fatalf("got %d decisions in %d bytes, %v", len(got), len(b), err)
	}
	for _, d := range got {
		chosen := slices.IndexFunc(d.Options, func(o wire.Option) bool { return o.Member == d.Member })
		if d.InferMS == nil || d.Reason == "" || d.SlackMS <= 0 || d.Belief == "" || chosen < 0 ||
			d.Options[chosen].PredictedMS != d.PredictedMS {
			t.Errorf("got %+v", d)
		}
	}
	d.stop()
	f, err := os.Open(filepath.Join(cfg.State, "decisions.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var last *logbook.Entry
	sum, err := logbook.Replay(f, func(e *logbook.Entry) { last = e })
	if err != nil || sum.Decisions != 12 || sum.Lost != 0 {
		t.Fatalf("the saved log: got %+v, %v", sum, err)
	}
	if told := got[0]; last.Members[last.Decision.Member] != told.Member ||
		last.Decision.Reason.String() != told.Reason || !wire.At(last.At).Equal(told.TS.Time) || !last.Met {
		t.Errorf("logged %+v, told %+v", last, told)
	}
}
