package agent_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/broker-config/brokertest"
	"github.com/limber-edge/limber/store"
)

// hang has every write of what the device remembers wait until release: another
// transaction is under way, and its disk does not answer.
func (d *device) hang() {
	d.tb.Helper()
	if _, err := d.deps.Store.PutBlob([]byte("x")); err != nil {
		d.tb.Fatal(err)
	}
	held, release, ended := make(chan bool), make(chan bool), make(chan bool)
	go func() {
		defer close(ended)
		first := true
		d.deps.Store.Prune(func(store.Digest) bool {
			if first {
				first = false
				close(held)
				<-release
			}
			return true
		})
	}()
	<-held
	d.tb.Cleanup(func() {
		close(release)
		<-ended
	})
}

// The bounds are those of the uplink's test of its reader, which also has a broker
// that takes nothing more, and a disk that answers are read from.
func TestTheReaderAndTheFarewellWaitForNoLinkDiskOrInference(t *testing.T) {
	t.Parallel()
	m := brokertest.StartMosquitto(t, wideWindow...)
	c, through := lay(t, m.Addr)
	cfg, g := newConfig(t, through), newGate(t)
	o := operate(t, m.Addr)
	d := start(t, cfg, g.rig())
	d.ready()
	o.presence(cfg, wire.Online, 0)
	o.burst(cfg, ids("first", 8), job(t, patient, pngFrame(t, 0)))
	g.pass(1) // the next inference takes as long as the test
	c.stall()
	d.hang()
	topics := []string{self(cfg).Job("a"), self(cfg).Job("a"), self(cfg).Cmd("mode", "a"), self(cfg).Cmd("goal", "a"),
		self(cfg).Cmd("power", "a"), self(cfg).Desired(), self(cfg).Frame("front"), self(cfg).Job("a/b")}
	const budget, rounds = 50 * time.Millisecond, 10
	for i, topic := range topics {
		least := patience
		for round := 0; round < rounds && least > budget; round++ { // it may wait for a processor, but not each time
			order := fmt.Appendf(nil, `{"version":%d,"mode":"low-latency"}`, rounds*i+round+1)
			o.link.Send(t.Context(), mqtt.Message{Topic: topic, QoS: 1, Payload: order})
			least = min(least, d.takes(o, fmt.Sprintf("%d-%d", i, round)))
		}
		if least > budget {
			t.Errorf("%s: the reader was held up for %v or more each time, want at most %v", topic, least, budget)
		}
	}
	began := time.Now()
	d.end()
	c.resume()
	o.presence(cfg, wire.Offline, 0)
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("the farewell left after %v, want 2.5 s: a grace of 1.5 and one for itself", took)
	}
	g.open()
}

// takes is how long the device needs to take a message, and what came before it,
// off its socket. It ignores this one, and logs that.
func (d *device) takes(o *operator, mark string) time.Duration {
	d.tb.Helper()
	began := time.Now()
	o.publishAs(mqtt.Message{Topic: self(d.cfg).Cmd("no verb", mark), Payload: []byte("x")})
	d.log.await(d.tb, "no verb/"+mark, 1)
	return time.Since(began)
}
