package agent_test

import (
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/broker-config/brokertest"
)

// TestN12_ThousandsOfRetainedJobsAtSubscribeAreAnsweredFromABoundedQueue has them come
// at once, as no window holds them back; ten thousand in `make torture`.
func TestN12_ThousandsOfRetainedJobsAtSubscribeAreAnsweredFromABoundedQueue(t *testing.T) {
	t.Parallel()
	m := brokertest.StartMosquitto(t, "allow_anonymous true", "max_inflight_messages 0", "max_queued_messages 0")
	cfg := newConfig(t, m.Addr)
	o := operate(t, m.Addr)
	jobs, payload := ids("kept", 2500*times), rawJob(`{"deadline_ms":600000,"codec":"rgb","width":1,"height":1}`, make([]byte, 3))
	var storm []mqtt.Message
	for _, id := range jobs {
		storm = append(storm, mqtt.Message{Topic: self(cfg).Job(id), Payload: payload, QoS: 1, Retained: true})
	}
	o.publishAll(storm)
	start(t, cfg, rig{inference: slow(5 * time.Millisecond)})
	o.ranOnce(cfg, len(jobs))
	o.fence()
	shed := 0
	for _, m := range o.matching(self(cfg).Result("#")) {
		switch r := decoded[wire.Result](t, m); {
		case r.Status == wire.OK:
		case r.Reason == wire.Busy:
			shed++
		default:
			t.Fatalf("got %+v, want an answer or refused: busy", r)
		}
	}
	if n := o.jobsAnswered(cfg); n != len(jobs) {
		t.Errorf("%d of %d jobs are answered", n, len(jobs))
	}
	if shed == 0 || shed == len(jobs) {
		t.Errorf("%d of %d jobs were refused: busy; want some", shed, len(jobs))
	}
	for _, at := range o.matching(self(cfg).Telemetry()) {
		if n := decoded[wire.Telemetry](t, at).Queue; n > cfg.Jobs.Queue {
			t.Errorf("%d jobs waited, want at most %d", n, cfg.Jobs.Queue)
		}
	}
	answered(t, o, cfg.Device, "behind", payload)
	for _, at := range o.matching(self(cfg).State()) {
		if s := decoded[wire.State](t, at); s.State != wire.Online || s.ConnSeq != 1 {
			t.Errorf("state: got %+v, want the first connection to last", s)
		}
	}
}
