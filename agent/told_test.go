package agent_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent"
	"github.com/limber-edge/limber/agent/config"
	"github.com/limber-edge/limber/agent/sim"
	"github.com/limber-edge/limber/agent/wire"
)

func TestARefusalSaysTheDeadlineOfItsSourceOrOfTheGoal(t *testing.T) {
	t.Parallel()
	broker := serve(t)
	cfg := newConfig(t, broker)
	cfg.Jobs.PayloadMiB = 1
	yard := config.Source{Name: "yard", Topic: "cam/#", ResultTopic: "seen/yard"}
	yard.Deadline.Duration = 5 * time.Second
	cfg.Sources = config.Sources{yard}
	o := operate(t, broker)
	d := start(t, cfg, rig{})
	o.presence(cfg, wire.Online, 0)
	<-d.agent.Ready()
	goal := `{"ttl_ms":600000,"goal":{"deadline_ms":900}}`
	if ack := o.command(cfg, cfg.Device, wire.VerbGoal, "g", goal); ack.State != wire.CommandSucceeded {
		t.Fatalf("goal: got %+v", ack)
	}
	large := make([]byte, 1<<20+1)
	for id, payload := range map[string][]byte{"large": large, "header": rawJob(`{"deadline_ms":0}`, nil)} {
		o.publish(self(cfg).Job(id), payload)
		if r := o.result(cfg, id, 1); r.Reason != wire.Invalid || r.DeadlineMS != 900 {
			t.Errorf("%s: got %+v, want refused: invalid, with the goal's deadline", id, r)
		}
	}
	o.publish("cam/north", large)
	if r := decoded[wire.Result](t, o.await("seen/yard", 1)); r.Reason != wire.Invalid || r.DeadlineMS != 5000 {
		t.Errorf("frame: got %+v, want refused: invalid, with its source's deadline", r)
	}
}

func TestAModeIsReportedOnlyWithTheVersionThatAskedForIt(t *testing.T) {
	t.Parallel()
	o, cfg, d := online(t, serve(t), rig{})
	<-d.agent.Ready()
	o.await(self(cfg).Reported(), 1)
	modes := []string{"balanced", "low-latency", "power-save", "balanced", "low-latency"} // by version
	for version := 1; version < len(modes); version++ {
		o.publish(self(cfg).Desired(), fmt.Appendf(nil, `{"version":%d,"mode":%q}`, version, modes[version]))
		o.until(func() bool {
			all := o.matching(self(cfg).Reported())
			return decoded[wire.Reported](t, all[len(all)-1]).Version == uint64(version)
		}, "version %d in force", version)
	}
	o.fence()
	for _, m := range o.matching(self(cfg).Reported()) {
		r := decoded[wire.Reported](t, m)
		if want := modes[r.Version]; r.Mode != "" && r.Mode != want {
			t.Errorf("got %+v, want mode %s", r, want)
		}
	}
}

func TestADeviceThatIsOffOrLostSaysNothingOfItsProgress(t *testing.T) {
	t.Parallel()
	for name, ends := range map[wire.Presence]func(*cable, *device){
		wire.Lost:    func(c *cable, _ *device) { c.cut() },
		wire.Offline: func(_ *cable, d *device) { d.end() },
	} {
		broker := serve(t)
		c, addr := lay(t, broker)
		cfg := newConfig(t, addr)
		o, hold := operate(t, broker), make(chan struct{})
		d := start(t, cfg, rig{inference: notBefore(hold)})
		if s := o.presence(cfg, wire.Online, 0); s.Detail == "" {
			t.Errorf("online: got %+v, want how far it is", s)
		}
		ends(c, d)
		if s := o.presence(cfg, name, 0); s.Detail != "" {
			t.Errorf("%s: got %+v, want no detail", name, s)
		}
		close(hold)
	}
}

// notBefore makes members of which none is ready before hold is closed.
func notBefore(hold <-chan struct{}) func() (agent.Inference, error) {
	return simulated(func(l *sim.Loader) {
		l.Load = func(int) error { <-hold; return nil }
	})
}
