//go:build torture

package agent_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/broker-config/brokertest"
)

// lateResults wait for the link.
const lateResults = 100_000

// timed publishes jobs, one after the other, and returns how long each took, the
// shortest first.
func (c *client) timed(ctx context.Context, name string, n int, most time.Duration) (took []time.Duration) {
	c.tb.Helper()
	for i := range n {
		began := time.Now()
		e := c.job(ctx, fmt.Sprint(name, "-", i), 0)
		if !c.until(most, func() bool { return e.came > 0 }) {
			c.tb.Fatalf("%s has no answer after %v", e.topic, most)
		}
		took = append(took, time.Since(began))
		idle(ctx, 5*time.Millisecond)
	}
	slices.Sort(took)
	return took
}

// make gives the device jobs as if a broker had, and returns when their results wait.
func (c *client) make(d *device, n int) {
	c.tb.Helper()
	for i := range n {
		id := fmt.Sprintf("late-%06d", i)
		e := &entry{topic: c.self.Job(id), payload: grey(i % pictures), picture: i % pictures}
		c.enter(c.self.Result(id), e)
		c.accept(e)
		d.agent.Receive(mqtt.Message{Topic: e.topic, Payload: e.payload, QoS: 1}, func() {})
		if i%500 == 499 || i == n-1 {
			d.waiting(i + 1)
		}
	}
}

// waiting returns when so many records wait in the outbox.
func (d *device) waiting(n int) {
	d.tb.Helper()
	for began := time.Now(); ; <-time.After(time.Millisecond) {
		if records, _ := d.deps.Outbox.Depth(); records >= n {
			return
		} else if time.Since(began) > patience {
			d.tb.Fatalf("%d records wait, want %d", records, n)
		}
	}
}

func TestN2_AHundredThousandLateResultsHoldUpNoNewJob(t *testing.T) {
	m := brokertest.StartMosquitto(t, "allow_anonymous true", "max_inflight_messages 0", "max_queued_messages 0")
	cable, through := lay(t, m.Addr)
	cfg := newConfig(t, through)
	cfg.Outbox.MiB, cfg.Outbox.ReplayPerS = 256, 2000
	cfg.Mode = "fixed:5.8M"
	c := openLedger(t, m.Addr, self(cfg))
	d := start(t, cfg, rig{inference: slow(20 * time.Microsecond)})
	d.ready()
	d.log.await(t, "broker connected", 1)
	before := c.timed(t.Context(), "before", 100, patience)
	cable.cut()
	d.log.await(t, "broker lost", 1)
	began := time.Now()
	c.make(d, lateResults)
	t.Logf("%d results were made in %v", lateResults, time.Since(began))
	cable.mend()
	d.log.await(t, "broker connected", 2)
	began = time.Now()
	c.timed(t.Context(), "first", 1, 2*before[99]+2*time.Second) // of which the jitter is one
	t.Logf("the first new job took %v", time.Since(began))
	c.until(patience, func() bool { return c.open < lateResults-2000 }) // the jitter is over
	during := c.timed(t.Context(), "during", 100, patience)
	c.mu.Lock()
	waiting := c.open
	c.mu.Unlock()
	t.Logf("a job took %v, %v with %d results waiting", before[50], during[50], waiting)
	if waiting == 0 || during[50] > 2*before[50] {
		t.Errorf("a job took %v, and %v while %d late results wait; want twice that at most", before[50], during[50], waiting)
	}
	if !c.until(5*time.Minute, func() bool { return c.open == 0 }) {
		t.Errorf("%d late results are missing", c.open)
	}
	t.Logf("all came %v after the link", time.Since(began))
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.behind) > 0 || c.copies > 0 || c.lost() > 0 || len(c.phantom) > 0 {
		t.Errorf("got %d out of order such as %.1v, %d twice, %d lost, phantoms %v", len(c.behind), c.behind, c.copies,
			c.lost(), c.phantom)
	}
}

func TestC8_TenThousandCommandsASecondHoldUpNoResult(t *testing.T) {
	m := brokertest.StartMosquitto(t, wideWindow...)
	cfg := newConfig(t, m.Addr)
	c := openLedger(t, m.Addr, self(cfg))
	p := launch(t, cfg, envSimulated+"=1ms")
	c.until(patience, func() bool { return c.last.Member != "" })
	before := c.timed(t.Context(), "before", 200, patience)
	ctx, stop := context.WithCancel(t.Context())
	sent := make(chan int, 1)
	flood := operate(t, m.Addr)
	go func() {
		n := 0
		for began := time.Now(); ctx.Err() == nil; idle(ctx, time.Millisecond) {
			for ; n < int(10_000*time.Since(began).Seconds()); n++ {
				flood.link.Send(ctx, mqtt.Message{Topic: c.self.Cmd(wire.VerbMode, fmt.Sprint("flood-", n)),
					Payload: []byte(`{"mode":"balanced","ttl_ms":60000}`)})
			}
		}
		sent <- n
	}()
	began := time.Now()
	during := c.timed(t.Context(), "during", 200, patience)
	stop()
	t.Logf("p50 and p99 of a job: %v and %v, %v and %v under %.0f commands a second", before[100], before[197],
		during[100], during[197], float64(<-sent)/time.Since(began).Seconds())
	if during[197] > 3*before[197]+50*time.Millisecond { // others use this machine as well
		t.Errorf("p99: got %v, %v before", during[197], before[197])
	}
	p.kill()
}
