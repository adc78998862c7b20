package agent_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/config"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/broker-config/brokertest"
)

// probe is a client that hears of its own jobs alone: one that hears of a flood is
// slower than the device.
type probe struct {
	*mqtt.Link
	tb  testing.TB
	cfg config.Config
	up  chan bool
	got chan string // topics
	ids []string    // of jobs to come
}

func (p *probe) Connected(uint64, bool) { p.up <- true }
func (p *probe) Denied([]string)        {}
func (p *probe) Lost(error)             {}

func (p *probe) Receive(m mqtt.Message, ack func()) {
	ack()
	p.got <- m.Topic
}

// newProbe connects one for so many jobs.
func newProbe(tb testing.TB, cfg config.Config, name string, jobs int) *probe {
	tb.Helper()
	p := &probe{tb: tb, cfg: cfg, up: make(chan bool, 1), got: make(chan string, jobs+1), ids: ids(name, jobs)}
	link := mqtt.Default()
	link.Broker, link.ClientID, link.CleanSession = cfg.Broker.URL.String(), name, true
	for _, id := range p.ids {
		link.Subscriptions = append(link.Subscriptions, mqtt.Subscription{Filter: self(cfg).Result(id), QoS: 1})
	}
	var err error
	if p.Link, err = mqtt.New(link, p, discard()); err != nil {
		tb.Fatal(err)
	}
	run(tb, p.Run)
	<-p.up
	return p
}

// jobs sends jobs, one after the other, and returns how long each took, a second for
// those without an answer: the broker drops what it has no room for.
func (p *probe) jobs(frame []byte, n int) (took []time.Duration) {
	for range n {
		began := time.Now()
		topic, late := self(p.cfg).Result(p.ids[0]), time.After(time.Second)
		p.Send(p.tb.Context(), mqtt.Message{Topic: self(p.cfg).Job(p.ids[0]), Payload: frame, QoS: 1})
		p.ids = p.ids[1:]
		for answered := false; !answered; {
			select {
			case got := <-p.got:
				answered = got == topic
			case <-late:
				answered = true
			}
		}
		took = append(took, time.Since(began))
		<-time.After(10 * time.Millisecond)
	}
	return took
}

// The flood is ten times what the device can do, and all of it is to be answered.
func TestN22_TheTimesOfBeforeAreBackTwoSecondsAfterAFloodAtQoS1(t *testing.T) {
	m := brokertest.StartMosquitto(t, wideWindow...)
	cfg := newConfig(t, m.Addr)
	d := start(t, cfg, rig{inference: slow(2 * time.Millisecond)})
	d.ready()
	d.log.await(t, "broker connected", 1)
	frame := rawJob(`{"codec":"rgb","width":1,"height":1}`, make([]byte, 3))
	p, flood := newProbe(t, cfg, "probe", 500), newProbe(t, cfg, "flood", 0)
	before := p.jobs(frame, 100)
	began := time.Now()
	for n := 0; time.Since(began) < 2*time.Second; n++ { // a machine that is behind floods with less
		if n >= int(5000*time.Since(began).Seconds()) {
			<-time.After(time.Millisecond)
		}
		flood.Send(t.Context(), mqtt.Message{Topic: self(cfg).Job(fmt.Sprint("f-", n)), Payload: frame, QoS: 1})
	}
	ended := time.Now()
	p.jobs(frame, 1)
	for time.Since(ended) < 2*time.Second {
		p.jobs(frame, 1)
	}
	after := p.jobs(frame, 100)
	slices.Sort(before)
	slices.Sort(after)
	// Others use this machine as well.
	if b, a := before[94], after[94]; a > 3*b+50*time.Millisecond {
		t.Errorf("19 of 20 jobs took %v before the flood and %v two seconds after it", b, a)
	}
}
