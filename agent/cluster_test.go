package agent_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/config"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/broker-config/natstest"
)

// soon has NATS deliver again what is not acknowledged within a second: a job that
// runs, or that was under way when a node was killed.
var soon = []string{`ack_wait: "20s"`, `ack_wait: "1s"`}

// clusterConfig is a device of a cluster, which comes to the node given first.
func clusterConfig(tb testing.TB, c *natstest.Cluster, device string, first int) config.Config {
	tb.Helper()
	cfg := newConfig(tb, "")
	cfg.Device = device
	cfg.Broker.Broker = c.Broker(device, first)
	return cfg
}

// operateCluster connects an operator for whom the cluster keeps what comes while it
// is away.
func operateCluster(tb testing.TB, c *natstest.Cluster, first int) *operator {
	tb.Helper()
	cfg, err := c.Broker(wire.Operator, first).Config("")
	if err != nil {
		tb.Fatal(err)
	}
	return operateAs(tb, cfg)
}

// insist publishes until the broker has it: whether it had it before a connection
// broke, nobody knows.
func (o *operator) insist(m mqtt.Message) {
	o.tb.Helper()
	ctx, cancel := context.WithTimeout(o.tb.Context(), 2*patience)
	defer cancel()
	for {
		err := o.link.Publish(ctx, m)
		if err == nil {
			return
		}
		if !errors.Is(err, mqtt.ErrDown) {
			o.tb.Errorf("publish to %s: %v", m.Topic, err)
			return
		}
		select {
		case <-o.connected:
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// retainedAt is what a node tells a client that subscribes now of a device's state.
func retainedAt(tb testing.TB, c *natstest.Cluster, node int, cfg config.Config) (said wire.State) {
	tb.Helper()
	link, err := c.Broker(wire.Operator, node).Config("")
	if err != nil {
		tb.Fatal(err)
	}
	link.Broker, link.CleanSession = "mqtts://"+c.Addrs[node], true
	o := operateAs(tb, link)
	defer o.leave()
	o.fence()
	for _, m := range o.matching(self(cfg).State()) {
		if m.Retained {
			said = decoded[wire.State](tb, m)
		}
	}
	return said
}

// awaitRetained waits until every node tells of a device's state what it should.
func awaitRetained(tb testing.TB, c *natstest.Cluster, cfg config.Config, want wire.Presence, since uint64) {
	tb.Helper()
	late := time.Now().Add(patience)
	for node := range natstest.Nodes {
		for {
			got := retainedAt(tb, c, node, cfg)
			if got.State == want && got.ConnSeq >= since {
				break
			}
			<-time.After(100 * time.Millisecond) // a client that comes is work for all nodes
			if time.Now().After(late) {
				tb.Errorf("node %d tells of %s: %+v, want %s, connection %d or later", node, cfg.Device, got, want, since)
				break
			}
		}
	}
}

// TestAKilledNATSNodeLosesAndDoublesNothing kills the one that the device talks to. Who
// is connected sees all that follows. Who subscribes while the node is away may be told
// a retained state of before: each node learns of the others' by a consumer that is on
// one node only (NATS 2.15). When the node is back, all are right.
func TestAKilledNATSNodeLosesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	c := natstest.Start(t, []string{"cam-1", "cam-2"}, soon...)
	cfg, other := clusterConfig(t, c, "cam-1", 0), clusterConfig(t, c, "cam-2", 2)
	o := operateCluster(t, c, 1)
	start(t, cfg, rig{inference: slow(10 * time.Millisecond)})
	neighbour := launch(t, other, envSimulated+"=1")
	o.presence(cfg, wire.Online, 0)
	o.presence(other, wire.Online, 0)

	jobs, commands := ids("job", 150*times), ids("cmd", 10*times)
	payload := job(t, patient, pngFrame(t, 0))
	for i, id := range jobs {
		if i == len(jobs)/3 {
			o.await(self(cfg).Result("#"), len(jobs)/15)
			c.Kill(0)
		}
		o.insist(mqtt.Message{Topic: self(cfg).Job(id), Payload: payload, QoS: 1})
		if i%15 == 0 {
			o.insist(mqtt.Message{Topic: self(cfg).Cmd("mode", commands[i/15]), QoS: 1,
				Payload: fmt.Appendf(nil, `{"mode":%q,"ttl_ms":600000}`, []string{"balanced", "low-latency"}[i/15%2])})
		}
	}

	o.until(func() bool { return o.jobsAnswered(cfg) == len(jobs) }, "%d jobs are answered", len(jobs))
	o.ranOnce(cfg, len(jobs))
	for _, id := range jobs {
		if o.identical(cfg, id); o.result(cfg, id, 1).Status != wire.OK {
			t.Errorf("job %s: got %+v", id, o.result(cfg, id, 1))
		}
	}
	for _, id := range commands {
		if last := o.final(self(cfg).Ack("mode", id), 0); last.State != wire.CommandSucceeded {
			t.Errorf("command %s: got %+v, want it to succeed", id, last)
		}
		o.executedOnce(cfg, "mode", id)
	}
	last := o.presence(cfg, wire.Online, 1)
	neighbour.kill()
	o.presence(other, wire.Lost, 0)
	c.Restart(t, 0)
	awaitRetained(t, c, cfg, wire.Online, last.ConnSeq)
	awaitRetained(t, c, other, wire.Lost, 0)
	if got := decoded[wire.Reported](t, o.await(self(cfg).Reported(), 1)); got.Mode == "" {
		t.Errorf("reported: %+v", got)
	}
}

// executedOnce fails if a command was carried out twice: each of its steps is told of
// with the same bytes, however often.
func (o *operator) executedOnce(cfg config.Config, verb, id string) {
	o.tb.Helper()
	said := map[wire.Step]string{}
	for _, m := range o.matching(self(cfg).Ack(verb, id)) {
		step := decoded[wire.Ack](o.tb, m).State
		if before, ok := said[step]; ok && before != string(m.Payload) {
			o.tb.Errorf("command %s: %s twice:\n%s\n%s", id, step, before, m.Payload)
		}
		said[step] = string(m.Payload)
	}
}

// TestAJobThatNATSDeliversAgainWhileItRunsIsRunOnce counts what comes over the cable:
// all that waits is delivered a second time, behind what was sent later.
func TestAJobThatNATSDeliversAgainWhileItRunsIsRunOnce(t *testing.T) {
	t.Parallel()
	c := natstest.Start(t, []string{"cam-1"}, soon...)
	cfg, g := clusterConfig(t, c, "cam-1", 0), newGate(t)
	line, through := lay(t, c.Addrs[0])
	cfg.Broker.URL = mqtt.URLs{"mqtts://" + through}
	o := operateCluster(t, c, 0)
	start(t, cfg, g.rig())
	o.presence(cfg, wire.Online, 0) // it is subscribed
	payload := job(t, patient, pngFrame(t, 0))
	jobs := ids("job", 40)
	o.burst(cfg, jobs[:30], payload)
	o.came(cfg, 30)
	for topic, want := range map[string]bool{self(cfg).Job(jobs[0]): true, self(cfg).Cmd("mode", "x"): false} {
		if waits, how := c.Waits(t, cfg.Device, topic); waits != want || how == "" {
			t.Errorf("%s waits at the cluster: %v, want %v:\n%s", topic, waits, want, how)
		}
	}
	before := line.heard.Load()
	o.burst(cfg, jobs[30:], payload)
	again := int64(20 * len(payload))
	o.until(func() bool { return line.heard.Load() >= before+int64(10*len(payload))+again }, "20 jobs are delivered again")
	g.open()
	o.until(func() bool { return o.jobsAnswered(cfg) == len(jobs) }, "%d jobs are answered", len(jobs))
	o.ranOnce(cfg, len(jobs))
	for _, id := range jobs {
		o.identical(cfg, id)
	}
}

// came waits until n jobs came to a device.
func (o *operator) came(cfg config.Config, n int) {
	o.tb.Helper()
	o.telemetry(cfg, func(s wire.Telemetry) bool { return s.Jobs == uint64(n) }, "%d jobs came", n)
}
