//go:build torture

package agent_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
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

// A flood to another device costs the broker, the client and the machine as much, and
// this device nothing: what is left between the two is its own work.
func TestC8_TenThousandCommandsASecondHoldUpNoResult(t *testing.T) {
	const perSecond, rounds, jobs = 10_000, 5, 100
	m := brokertest.StartMosquitto(t, wideWindow...)
	cfg := newConfig(t, m.Addr)
	c := openLedger(t, m.Addr, self(cfg))
	device := launch(t, cfg, envSimulated+"=1ms")
	c.until(patience, func() bool { return c.last.Member != "" })
	p := newProbe(t, cfg, "probe", 2*rounds*jobs)
	flood, other := openHose(t, m.Addr, "flood"), openHose(t, m.Addr, "other")
	neighbour := wire.Address{Fleet: cfg.Fleet, Device: "other"}
	other.swallow(neighbour.Cmd("+", "+"))
	sent := 0
	during := func(to wire.Address) (p50, p99 time.Duration) {
		ctx, stop := context.WithCancel(t.Context())
		var flooding sync.WaitGroup
		flooding.Go(func() {
			first := sent
			sent += flood.publish(ctx, perSecond, func(n int) string { return to.Cmd(wire.VerbMode, fmt.Sprint("f-", first+n)) },
				`{"mode":"balanced","ttl_ms":60000}`)
		})
		took := p.jobs(rawJob(`{"deadline_ms":600000,"codec":"rgb","width":1,"height":1}`, make([]byte, 3)), jobs)
		stop()
		flooding.Wait()
		slices.Sort(took)
		return took[jobs/2], took[jobs*99/100-1]
	}
	var p50, p99 [2][]time.Duration // with the flood to the other device, and to this one
	began := time.Now()
	for range rounds {
		for i, to := range []wire.Address{neighbour, self(cfg)} {
			half, most := during(to)
			p50[i], p99[i] = append(p50[i], half), append(p99[i], most)
		}
	}
	took := time.Since(began)
	for i := range 2 {
		slices.Sort(p50[i])
		slices.Sort(p99[i])
	}
	median := rounds / 2
	t.Logf("%.0f commands a second to another device: p50 %v, p99 %v; to this one: %v and %v, %.1f times",
		float64(sent)/took.Seconds(), p50[0][median], p99[0][median], p50[1][median], p99[1][median],
		float64(p99[1][median])/float64(p99[0][median]))
	// Others use this machine as well.
	if got, want := p50[1][median], p50[0][median]*3/2+time.Millisecond; got > want {
		t.Errorf("half of the jobs took %v, want %v at most", got, want)
	}
	if got, want := p99[1][median], 2*p99[0][median]+25*time.Millisecond; got > want {
		t.Errorf("99 of 100 jobs took %v, want %v at most", got, want)
	}
	c.until(patience, func() bool { return c.silent > 0 })
	c.mu.Lock()
	defer c.mu.Unlock()
	told := 0
	for _, topic := range c.phantom { // the results are the probe's
		if strings.HasPrefix(topic, c.self.Ack(wire.VerbMode, "")) {
			told++
		}
	}
	most := 257 + 512 + int(150*(took+2*time.Second).Seconds()) // two bursts, and then a second
	if told == 0 || told > most || c.silent == 0 {
		t.Errorf("%d of %d commands were answered, want %d at most; events tell of %d others", told, sent, most, c.silent)
	}
	device.kill()
}
