package agent_test

import (
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/config"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/sim"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/broker-config/brokertest"
)

// preparing is a device that was killed with jobs at the broker, one for each name
// with a deadline, and has begun to prepare its family anew; it goes on when goOn is called.
func preparing(t *testing.T, names []string, deadline time.Duration) (
	o *operator, cfg config.Config, d *device, goOn func()) {
	t.Helper()
	m := brokertest.StartMosquitto(t, wideWindow...)
	cfg = newConfig(t, m.Addr)
	o = operate(t, m.Addr)
	p := launch(t, cfg, envSimulated+"=yes")
	o.presence(cfg, wire.Online, 0)
	p.kill()
	o.presence(cfg, wire.Lost, 0)
	o.burst(cfg, names, job(t, wire.Millis(deadline), pngFrame(t, 0)))
	told := len(o.matching(self(cfg).State()))

	cfg.State = filepath.Join(t.TempDir(), "state") // another disk: nothing is measured
	d, goOn = prepareSlowly(t, o, cfg, told)
	return o, cfg, d, goOn
}

// prepareSlowly starts a device that is at the third of six members until goOn is
// called, and returns when it has said so, after so many states.
func prepareSlowly(t *testing.T, o *operator, cfg config.Config, told int) (d *device, goOn func()) {
	t.Helper()
	hold := make(chan struct{})
	goOn = sync.OnceFunc(func() { close(hold) })
	d = start(t, cfg, rig{inference: simulated(func(l *sim.Loader) {
		l.Latency = func(int) time.Duration { return 10 * time.Microsecond }
		l.Load = func(member int) error {
			if member == 2 {
				<-hold
			}
			return nil
		}
	})})
	t.Cleanup(goOn) // before the device is waited for
	o.presence(cfg, wire.Online, told)
	o.until(func() bool {
		all := o.matching(self(cfg).State())
		return strings.Contains(decoded[wire.State](t, all[len(all)-1]).Detail, "preparing 3 of 6 members")
	}, "device %s says how far it is", cfg.Device)
	return d, goOn
}

// expire waits until a deadline of jobs that came before has passed.
func (o *operator) expire(cfg config.Config, deadline time.Duration) {
	o.tb.Helper()
	from := time.Now()
	o.telemetry(cfg, func(s wire.Telemetry) bool { return s.TS.Sub(from) > deadline }, "the deadlines have passed")
}

func TestN2_JobsThatWaitAtTheBrokerOutlastThePreparationOfMembers(t *testing.T) {
	t.Parallel()
	const deadline = 4 * time.Second // the members are prepared for longer
	names := ids("job", 100)
	o, cfg, _, goOn := preparing(t, names, deadline)
	o.publishAs(mqtt.Message{Topic: self(cfg).Job("now"), Payload: job(t, patient, pngFrame(t, 0))})
	r := o.result(cfg, "now", 1)
	if r.Reason != wire.Busy || !strings.Contains(r.Detail, "no member can answer yet; preparing 3 of 6 members") {
		t.Errorf("QoS 0: got %s %q, want busy at once, with the reason", r.Reason, r.Detail)
	}
	o.expire(cfg, deadline) // of jobs that all came before that one
	if n := o.jobsAnswered(cfg); n != 1 {
		t.Errorf("%d jobs have an answer before a member can give one, want the refusal alone", n)
	}
	goOn()
	for _, id := range names {
		if r := o.result(cfg, id, 1); r.Status != wire.OK || !r.Met {
			t.Errorf("job %s: got %s %s %q after %v ms, want an answer in time", id, r.Status, r.Reason, r.Detail, r.MS.Total)
		}
	}
	o.ranOnce(cfg, 101)
}

func TestN2_ADeviceThatStopsWhileItPreparesLeavesJobsToTheNextStart(t *testing.T) {
	t.Parallel()
	names := ids("job", 100)
	o, cfg, d, goOn := preparing(t, names, patient*time.Millisecond)
	d.end()
	goOn() // the session that it was at
	d.stop()
	o.presence(cfg, wire.Offline, 0)
	if n := o.jobsAnswered(cfg); n > 0 {
		t.Errorf("%d jobs have an answer, want none", n)
	}
	start(t, cfg, rig{})
	for _, id := range names {
		if r := o.result(cfg, id, 1); r.Status != wire.OK {
			t.Errorf("job %s: got %s %s %q, want an answer", id, r.Status, r.Reason, r.Detail)
		}
	}
}

func TestAJobThatFindsNoRoomToWaitForMembersIsBusy(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	cfg := newConfig(t, addr)
	cfg.Jobs.Queue = 2
	o := operate(t, addr)
	_, goOn := prepareSlowly(t, o, cfg, 0)
	names := ids("job", 3)
	for _, id := range names {
		o.publish(self(cfg).Job(id), job(t, patient, pngFrame(t, 0)))
	}
	if r := o.result(cfg, names[2], 1); r.Reason != wire.Busy || !strings.Contains(r.Detail, "no member can answer yet") {
		t.Errorf("the third: got %s %q, want busy", r.Reason, r.Detail)
	}
	goOn()
	for _, id := range names[:2] {
		if r := o.result(cfg, id, 1); r.Status != wire.OK {
			t.Errorf("job %s: got %s %q, want an answer", id, r.Reason, r.Detail)
		}
	}
}
