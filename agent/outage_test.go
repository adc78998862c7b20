package agent_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent"
	"github.com/limber-edge/limber/agent/config"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/sim"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/broker-config/brokertest"
)

// wideWindow lets a broker deliver a burst at once.
var wideWindow = []string{"allow_anonymous true", "max_inflight_messages 5000", "max_queued_messages 10000"}

// burst sends jobs without waiting for one before the next, and returns when
// the broker has them all.
func (o *operator) burst(cfg config.Config, names []string, payload []byte) {
	o.tb.Helper()
	var jobs []mqtt.Message
	for _, id := range names {
		jobs = append(jobs, mqtt.Message{Topic: self(cfg).Job(id), Payload: payload, QoS: 1})
	}
	o.publishAll(jobs)
}

// publishAll sends messages without waiting for one before the next, and returns
// when the broker has them all.
func (o *operator) publishAll(messages []mqtt.Message) {
	o.tb.Helper()
	var outcomes []<-chan error
	for _, m := range messages {
		outcomes = append(outcomes, o.link.Send(o.tb.Context(), m))
	}
	for _, outcome := range outcomes {
		if err := <-outcome; err != nil {
			o.tb.Fatalf("publish: %v", err)
		}
	}
}

// ranOnce waits until n jobs came to a device, with nothing left to do: none of them
// was run twice.
func (o *operator) ranOnce(cfg config.Config, n int) wire.Telemetry {
	o.tb.Helper()
	done := func(s wire.Telemetry) bool { return s.Outbox == 0 && s.Queue == 0 && s.Jobs == uint64(n) }
	return o.telemetry(cfg, done, "%d jobs came and nothing waits", n)
}

// jobsAnswered counts the jobs that have a result.
func (o *operator) jobsAnswered(cfg config.Config) int {
	seen := map[string]bool{}
	for _, m := range o.matching(self(cfg).Result("#")) {
		seen[m.Topic] = true
	}
	return len(seen)
}

// answers returns the first result of each job, in the order they came.
func (o *operator) answers(cfg config.Config) []wire.Result {
	o.tb.Helper()
	seen := map[string]bool{}
	var first []wire.Result
	for _, m := range o.matching(self(cfg).Result("#")) {
		if seen[m.Topic] {
			continue
		}
		seen[m.Topic] = true
		var r wire.Result
		if err := json.Unmarshal(m.Payload, &r); err != nil {
			o.tb.Fatal(err)
		}
		first = append(first, r)
	}
	return first
}

// answeredOnce waits for an answer to each job and holds them to the contract:
// whoever asks twice gets the same, and late results and the others come each in the
// order of their sequence numbers.
func (o *operator) answeredOnce(cfg config.Config, names []string) []wire.Result {
	o.tb.Helper()
	o.until(func() bool { return o.jobsAnswered(cfg) >= len(names) }, "%d jobs are answered", len(names))
	for _, id := range names {
		o.identical(cfg, id)
	}
	got := o.answers(cfg)
	last := map[bool]uint64{}
	for _, r := range got {
		if r.Status != wire.OK {
			o.tb.Errorf("job %s: got %s: %s", r.ID, r.Reason, r.Detail)
		}
		if r.Seq <= last[r.Late] {
			o.tb.Errorf("answer %d follows answer %d, late %v", r.Seq, last[r.Late], r.Late)
		}
		last[r.Late] = r.Seq
	}
	return got
}

func late(results []wire.Result) (n int) {
	for _, r := range results {
		if r.Late {
			n++
		}
	}
	return n
}

// slow makes members that take so long for an image, the larger ones a little longer.
func slow(latency time.Duration) func() (agent.Inference, error) {
	return simulated(func(l *sim.Loader) {
		l.Latency = func(member int) time.Duration { return latency + time.Duration(member)*latency/100 }
	})
}

func TestN2_BrokenLinkLosesNothing(t *testing.T) {
	t.Parallel()
	m := brokertest.StartMosquitto(t, wideWindow...)
	c, through := lay(t, m.Addr)
	cfg, g := newConfig(t, through), newGate(t)
	o := operate(t, m.Addr)
	d := start(t, cfg, g.rig())
	o.presence(cfg, wire.Online, 0)
	names := ids("job", 200*times)
	o.burst(cfg, names, job(t, patient, pngFrame(t, 0)))
	g.pass(10)
	o.await(self(cfg).Result("#"), 5)
	c.cut()
	d.log.await(t, "broker lost", 1)
	g.pass(10)
	c.mend()
	g.open()
	got := o.answeredOnce(cfg, names)
	if n := late(got); n == 0 || n == len(got) || got[0].Late {
		t.Errorf("%d of %d answers are late, the first too: %v; want those made without a link", n, len(got), got[0].Late)
	}
	o.ranOnce(cfg, len(names))
}

func TestN2_KilledBrokerLosesNoJobThatWasReceived(t *testing.T) {
	t.Parallel()
	m := brokertest.StartMosquitto(t, wideWindow...)
	c, through := lay(t, m.Addr)
	cfg, g := newConfig(t, through), newGate(t)
	o := operate(t, m.Addr)
	start(t, cfg, g.rig())
	o.presence(cfg, wire.Online, 0)
	names := ids("job", 200*times)
	o.burst(cfg, names, job(t, patient, pngFrame(t, 0)))
	g.pass(10)
	o.await(self(cfg).Result("#"), 5)
	c.cut()
	o.fence()
	m.Kill() // it forgets what it has not delivered
	g.pass(10)
	m.Start()
	o.awaitConnection()
	before := len(o.answers(cfg))
	g.open()
	c.mend()
	// Nobody but the device knows what it received.
	back := decoded[wire.Sync](t, o.await(self(cfg).Sync(), 2))
	idle := func(s wire.Telemetry) bool { return s.TS.After(back.TS.Time) && s.Outbox == 0 && s.Queue == 0 }
	received := o.telemetry(cfg, idle, "nothing waits any more").Jobs
	got := o.answers(cfg)
	o.answeredOnce(cfg, namesOf(got))
	if len(got) <= before || len(got) > int(received) {
		t.Errorf("%d jobs received, %d answered, %d before the end of the broker", received, len(got), before)
	}
	// What the broker took and did not deliver before its end is asked for again.
	var missing []string
	for _, id := range names {
		if !slices.Contains(namesOf(got), id) {
			missing = append(missing, id)
		}
	}
	o.burst(cfg, missing, job(t, patient, pngFrame(t, 0)))
	o.until(func() bool { return o.jobsAnswered(cfg) == len(names) }, "every job is answered")
	o.ranOnce(cfg, len(names))
}

// namesOf lists the jobs of some results.
func namesOf(results []wire.Result) (names []string) {
	for _, r := range results {
		names = append(names, r.ID)
	}
	return names
}

// persistent is a mosquitto that saves its sessions at every change.
func persistent(t *testing.T) *brokertest.Mosquitto {
	return brokertest.StartMosquitto(t, append(slices.Clone(wideWindow),
		"persistence true", "persistence_location "+t.TempDir()+"/", "autosave_on_changes true", "autosave_interval 1")...)
}

func TestN2_KilledBrokerWithPersistence(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprintf("restart of the agent %v", restart), func(t *testing.T) {
			t.Parallel()
			m := persistent(t)
			c, through := lay(t, m.Addr)
			cfg, g := newConfig(t, through), newGate(t)
			o := operate(t, m.Addr)
			d := start(t, cfg, g.rig())
			o.presence(cfg, wire.Online, 0)
			names := ids("job", 150*times)
			o.burst(cfg, names, job(t, patient, pngFrame(t, 0)))
			g.pass(5)
			o.await(self(cfg).Result("#"), 1)
			c.cut()
			o.fence() // the broker acknowledges a message before it saves it, and before the operator has it
			m.Kill()
			d.log.await(t, "broker lost", 1)
			g.open()
			if restart {
				d.stop()
				start(t, cfg, rig{})
			}
			m.Start()
			o.awaitConnection()
			c.mend()
			o.answeredOnce(cfg, names)
			if !restart {
				o.ranOnce(cfg, len(names))
			}
		})
	}
}

func TestN2_AnswersSurviveAKilledAgent(t *testing.T) {
	t.Parallel()
	m := brokertest.StartMosquitto(t, wideWindow...)
	cfg := newConfig(t, m.Addr)
	o := operate(t, m.Addr)
	p := launch(t, cfg, envSimulated+"=yes")
	o.presence(cfg, wire.Online, 0)
	names := ids("job", 200*times)
	o.burst(cfg, names, job(t, patient, pngFrame(t, 0)))
	o.await(self(cfg).Result("#"), 5)
	p.kill()
	start(t, cfg, rig{})
	o.until(func() bool { return o.jobsAnswered(cfg) == len(names) }, "every job is answered")
}

// The embedded broker is not asked: its library confuses the packet ids of the
// two directions, and forgets a job that was not acknowledged when the device
// uses the same id for an answer.
func TestT2_StopInABurst(t *testing.T) {
	t.Parallel()
	m := brokertest.StartMosquitto(t, wideWindow...)
	cfg := newConfig(t, m.Addr)
	o := operate(t, m.Addr)
	cfg.Jobs.Queue = 5000
	d := start(t, cfg, rig{inference: slow(10 * time.Millisecond)})
	o.presence(cfg, wire.Online, 0)
	names := ids("job", 400*times)
	o.burst(cfg, names, job(t, patient, pngFrame(t, 0)))
	o.await(self(cfg).Result("#"), 1)
	if took := d.stop(); took > 4*time.Second {
		t.Errorf("stopping took %v", took)
	}
	o.presence(cfg, wire.Offline, 0)
	start(t, cfg, rig{})
	o.answeredOnce(cfg, names)
}

// Long names make large results, so that some hundreds fill the outbox.
func TestS8_FullOutboxDropsTheOldestAndCountsThem(t *testing.T) {
	t.Parallel()
	m := brokertest.StartMosquitto(t, wideWindow...)
	c, through := lay(t, m.Addr)
	cfg := newConfig(t, through)
	cfg.Fleet, cfg.Device = strings.Repeat("f", 64), strings.Repeat("d", 64)
	cfg.Mode = "fixed:5.8M" // there from the start: no event of a switch takes a number
	cfg.Outbox.MiB, cfg.Outbox.ReplayPerS, cfg.Jobs.Queue = 1, 0, 5000
	o := operate(t, m.Addr)
	d := start(t, cfg, rig{inference: slow(20 * time.Millisecond)})
	o.presence(cfg, wire.Online, 0)
	frame := rawJob(`{"deadline_ms":600000,"codec":"rgb","width":1,"height":1}`, make([]byte, 3))
	o.publish(self(cfg).Job("first"), frame)
	first := o.result(cfg, "first", 1)
	o.telemetry(cfg, func(s wire.Telemetry) bool { return s.Outbox == 0 && s.Jobs == 1 }, "the first job is done")

	const jobs = 2500
	for _, id := range ids(strings.Repeat("j", 59), jobs) { // QoS 0: delivered once, if at all
		o.publishAs(mqtt.Message{Topic: self(cfg).Job(id), Payload: frame})
	}
	o.telemetry(cfg, func(s wire.Telemetry) bool { return s.Queue > 2000 }, "2000 jobs wait")
	c.cut()
	d.log.await(t, "broker lost", 1)
	d.stop() // what it does not get to is refused
	start(t, cfg, rig{})
	c.mend()
	var counted int
	var from, to uint64
	gap := o.gap(cfg)
	_, err := fmt.Sscanf(gap.Detail, "%d records (%d bytes) numbered %d to %d", &counted, new(int), &from, &to)
	if err != nil {
		t.Fatalf("%v in %q", err, gap.Detail)
	}
	o.publish(self(cfg).Job("last"), frame)
	last := o.result(cfg, "last", 1)
	o.telemetry(cfg, func(s wire.Telemetry) bool { return s.Outbox == 0 }, "all that waited has come")

	if gap.Count == 0 || gap.Count != to-from+1 || uint64(counted) != gap.Count {
		t.Errorf("the gap counts %d: %s", gap.Count, gap.Detail)
	}
	delivered, highest := uint64(0), map[bool]uint64{}
	for _, r := range o.answers(cfg) {
		if r.Seq < from || r.Seq > to { // of the others some were on their way when the link broke
			delivered++
		}
		if r.Seq < highest[r.Late] {
			t.Errorf("answer %d follows answer %d, late %v", r.Seq, highest[r.Late], r.Late)
		}
		highest[r.Late] = r.Seq
	}
	events := uint64(len(o.matching(self(cfg).Event("#"))))
	if want := last.Seq - first.Seq + 1 - gap.Count; delivered+events != want {
		for _, m := range o.matching(self(cfg).Event("#")) {
			t.Logf("%s: %s", m.Topic, m.Payload)
		}
		t.Errorf("%d answers and %d events came, want %d: the numbers %d to %d but for %s",
			delivered, events, want, first.Seq, last.Seq, gap.Detail)
	}
}

// gap waits for the event that tells of lost records.
func (o *operator) gap(cfg config.Config) (gap wire.Event) {
	o.tb.Helper()
	o.until(func() bool {
		for _, m := range o.matching(self(cfg).Event(wire.SeverityWarning)) {
			if gap = decoded[wire.Event](o.tb, m); gap.Kind == wire.EventGap {
				return true
			}
		}
		return false
	}, "a gap is told of")
	return gap
}
