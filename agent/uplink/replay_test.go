package uplink

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/broker-config/brokertest"
	"github.com/limber-edge/limber/store"
)

// client is an operator of a device at a mosquitto.
type client struct {
	*mqtt.Link
	*listener
	tb   testing.TB
	late []string // answers of jobs that were made without the link, as they came
}

func mustClient(tb testing.TB, d *device, addr string) *client {
	tb.Helper()
	c := &client{listener: &listener{up: make(chan bool, 1), got: make(chan mqtt.Message, 1_000_000)}, tb: tb}
	cfg := mqtt.Default()
	cfg.Broker, cfg.ClientID, cfg.CleanSession = addr, "operator", true
	cfg.Subscriptions = []mqtt.Subscription{{Filter: self.Filter(wire.KindResult), QoS: 1}}
	var err error
	if c.Link, err = mqtt.New(cfg, c.listener, discard()); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(d.background(c.Run))
	<-c.up
	return c
}

// Connected is the listener's.
func (c *client) Connected(seq uint64, present bool) { c.listener.Connected(seq, present) }

// next returns the next answer, and keeps it if it is a late one.
func (c *client) next() string {
	c.tb.Helper()
	select {
	case m := <-c.got:
		answer := string(m.Payload)
		if strings.HasPrefix(answer, "done late-") {
			c.late = append(c.late, answer)
		}
		return answer
	case <-time.After(patience):
		c.tb.Fatalf("nothing comes, after %d late ones", len(c.late))
		return ""
	}
}

// median is how long jobs take that are sent one after the other.
func (c *client) median(name string, jobs int) time.Duration {
	c.tb.Helper()
	var took []time.Duration
	for i := range jobs {
		id := fmt.Sprint(name, "-", i)
		began := time.Now()
		if err := c.Publish(c.tb.Context(), jobOf(id, "x")); err != nil {
			c.tb.Fatal(err)
		}
		for !strings.HasPrefix(c.next(), "done "+id+" ") {
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return took[len(took)/2]
}

// ahead is how many late answers came between each of some jobs, sent one after the
// other, and its answer, in order of size: where answers wait for late ones all of these
// are high, and not only those of jobs that waited for the machine.
func (c *client) ahead(name string, jobs int) []int {
	c.tb.Helper()
	var counts []int
	for i := range jobs {
		before := len(c.late)
		c.median(fmt.Sprint(name, "-", i), 1)
		counts = append(counts, len(c.late)-before)
	}
	slices.Sort(counts)
	return counts
}

// An outage leaves late results. New jobs do not wait for them, and all of them come.
func TestN2_NewJobsDoNotWaitForLateResults(t *testing.T) {
	m := brokertest.StartMosquitto(t, "allow_anonymous true", "max_queued_messages 0", "max_inflight_messages 0")
	d := mustDevice(t, func(d *device) {
		d.cfg.Link.Broker, d.cfg.ReplayPerSecond = m.Addr, 2000
		d.cfg.Link.Subscriptions = []mqtt.Subscription{{Filter: self.Filter(wire.KindJob), QoS: 1}}
		d.options.Quota = 256 << 20
	})
	t.Cleanup(d.store())
	c := mustClient(t, d, m.Addr)
	stop := d.connect()
	for !d.Status().Online {
		<-d.conn.moved
	}
	if err := d.Farewell(soon(t)); err != nil {
		t.Fatal(err)
	}
	stop()
	d.flushed(t)
	d.anew(t)
	for i := range lateResults {
		d.Receive(jobOf(fmt.Sprint("late-", i), "x"), func() {})
	}
	t.Cleanup(d.connect())
	for len(c.late) == 0 { // the jitter is over
		c.next()
	}
	ahead, waiting := c.ahead("during", 40), d.Status().Records
	if t.Logf("%d late results came before the answers of 40 jobs, %d wait", ahead, waiting); waiting == 0 || ahead[4] > 16 {
		t.Errorf("%d late results came before the answers of jobs, in order of size, while %d wait", ahead, waiting)
	}
	for len(c.late) < lateResults {
		c.next()
	}
	last := uint64(0)
	for i, answer := range c.late {
		var seq uint64
		if _, err := fmt.Sscanf(answer, fmt.Sprintf("done late-%d %%d", i), &seq); err != nil || seq <= last {
			t.Fatalf("late result %d is %s, after number %d", i, answer, last)
		}
		last = seq
	}
	d.Flush(soon(t))
	if n := len(c.got); n > 0 || d.Status().Records > 0 {
		t.Errorf("%d more answers came, %d records wait", n, d.Status().Records)
	}
}

// Ten thousand commands a second, each with four states, do not keep results waiting.
func TestC8_AResultDoesNotWaitForAFloodOfOrders(t *testing.T) {
	const flood = 20_000
	m := brokertest.StartMosquitto(t, "allow_anonymous true", "max_queued_messages 0", "max_inflight_messages 0")
	d := mustDevice(t, func(d *device) {
		d.cfg.Link.Broker = m.Addr
		d.cfg.Link.Subscriptions = []mqtt.Subscription{{Filter: self.Filter(wire.KindJob), QoS: 1}}
	})
	t.Cleanup(d.store())
	c := mustClient(t, d, m.Addr)
	t.Cleanup(d.connect())
	for !d.Status().Online {
		<-d.conn.moved
	}
	for range flood {
		d.post(store.Control, mqtt.Message{Topic: self.Ack("mode", "a"), Payload: []byte("x")}, nil)
	}
	took := c.median("during", 20)
	if waiting := d.Status().Records; waiting < flood/2 {
		t.Errorf("of %d orders %d wait after 20 jobs, which took %v each", flood, waiting, took)
	}
}

// anew makes another uplink on the same stores: one runs once.
func (d *device) anew(t *testing.T) {
	t.Helper()
	u, err := New(d.cfg, d.state, d.outbox, discard())
	if err != nil {
		t.Fatal(err)
	}
	u.handler, u.documents = d.handler, d.documents
	d.Uplink = u
}
