package agent_test

import (
	"math"
	"testing"

	"github.com/limber-edge/limber/agent"
	"github.com/limber-edge/limber/agent/wire"
)

// backlog is a device that finds jobs waiting for it at the broker when it starts.
func backlog(t *testing.T, mode string, publish func(o *operator, cfg agent.Config)) (*operator, agent.Config) {
	t.Helper()
	addr := serve(t)
	cfg := newConfig(t, addr)
	cfg.Mode = mode
	o := operate(t, addr)
	d := start(t, cfg)
	o.presence(cfg, wire.Online, 0)
	d.stop()
	publish(o, cfg)
	start(t, cfg)
	return o, cfg
}

func TestABurstIsAnsweredInBatchesAndEachFrameHasItsOwnAnswer(t *testing.T) {
	t.Parallel()
	const frames = 100
	o, cfg := backlog(t, "fixed:5.8M", func(o *operator, cfg agent.Config) {
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
			if r.Member != burst[i].Member || r.Classes[c].Index != burst[i].Classes[c].Index || math.Abs(r.Classes[c].P-burst[i].Classes[c].P) > 1e-4 {
				t.Fatalf("frame %d: alone %s gives %v, in a batch %s gave %v", i, r.Member, r.Classes, burst[i].Member, burst[i].Classes)
			}
		}
	}
}

func TestAFrameOfHighPriorityOvertakesThoseThatWait(t *testing.T) {
	t.Parallel()
	const frames = 100
	o, cfg := backlog(t, "balanced", func(o *operator, cfg agent.Config) {
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
