package agent_test

import (
	"math"
	"testing"

	"github.com/limber-edge/limber/agent/config"
	"github.com/limber-edge/limber/agent/wire"
)

// backlog is a device that finds jobs waiting for it at the broker when it starts.
func backlog(t *testing.T, cfg config.Config, r rig, publish func(o *operator)) *operator {
	t.Helper()
	o := operate(t, cfg.Broker.URL.String())
	d := start(t, cfg, r)
	o.presence(cfg, wire.Online, 0)
	d.stop()
	publish(o)
	start(t, cfg, r)
	return o
}

func TestABurstIsAnsweredInBatchesAndEachFrameHasItsOwnAnswer(t *testing.T) {
	t.Parallel()
	const frames = 40
	cfg := newRealConfig(t, serve(t))
	cfg.Mode = "fixed:5.8M"
	o := backlog(t, cfg, real(cfg), func(o *operator) {
		for i, id := range ids("burst", frames) {
			o.publish(self(cfg).Job(id), job(t, patient, pngFrame(t, i)))
		}
	})
	var burst []wire.Result
	batches := map[int]int{}
	for _, id := range ids("burst", frames) {
		r := o.result(cfg, id, 1)
		burst = append(burst, r)
		batches[r.Batch]++
	}
	if batches[0] == frames || batches[0]+batches[4] != frames || batches[4]%4 != 0 {
		t.Errorf("got frames by the size of their batch %v", batches)
	}
	for i, id := range ids("alone", frames) {
		o.publish(self(cfg).Job(id), job(t, patient, pngFrame(t, i)))
		r := o.result(cfg, id, 1)
		for c := range r.Classes {
			before := burst[i].Classes[c]
			if r.Member != burst[i].Member || r.Classes[c].Index != before.Index || math.Abs(r.Classes[c].P-before.P) > 1e-4 {
				t.Fatalf("frame %d: alone %s gives %v, in a batch %s gave %v",
					i, r.Member, r.Classes, burst[i].Member, burst[i].Classes)
			}
		}
	}
}

func TestAFrameOfHighPriorityOvertakesThoseThatWait(t *testing.T) {
	t.Parallel()
	const frames = 50
	cfg := newConfig(t, serve(t))
	o := backlog(t, cfg, rig{}, func(o *operator) {
		for i, id := range ids("low", frames) {
			o.publish(self(cfg).Job(id), rawJob(`{"deadline_ms":600000,"priority":"low"}`, pngFrame(t, i)))
		}
		o.publish(self(cfg).Job("high"), rawJob(`{"deadline_ms":600000,"priority":"high"}`, pngFrame(t, 0)))
	})
	high, after := o.result(cfg, "high", 1), 0
	for _, id := range ids("low", frames) {
		if o.result(cfg, id, 1).Seq > high.Seq {
			after++
		}
	}
	if high.Status != wire.OK || after == 0 {
		t.Errorf("all of %d frames of low priority were answered before %+v", frames, high)
	}
}
