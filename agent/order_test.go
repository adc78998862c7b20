package agent_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/config"
	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/broker-config/brokertest"
)

// allSteps are those of a command that is carried out.
var allSteps = []wire.Step{wire.CommandReceived, wire.CommandAccepted, wire.CommandExecuting, wire.CommandSucceeded}

func TestCommandSetsTheMode(t *testing.T) {
	brokers(t, func(t *testing.T, addr string) {
		o, cfg, d := online(t, addr, rig{})
		const payload = `{"mode":"fixed:5.8M","ttl_ms":60000}`
		o.front(cfg)
		first := o.command(cfg, cfg.Device, "mode", "c1", payload)
		if first.State != wire.CommandSucceeded || first.ID != "c1" || first.Verb != "mode" {
			t.Errorf("got %+v", first)
		}
		if steps := o.steps(cfg, "mode", "c1"); !slices.Equal(steps, allSteps) {
			t.Errorf("got states %v, want %v", steps, allSteps)
		}
		o.until(func() bool { // it may also report another member of the old mode
			return slices.ContainsFunc(o.matching(self(cfg).Reported()), func(m mqtt.Message) bool {
				r := decoded[wire.Reported](t, m)
				return r.Mode == "fixed:5.8M" && r.Member == "5.8M" && r.Status == wire.Applied
			})
		}, "report of fixed:5.8M")
		o.publish(self(cfg).Job("small"), job(t, patient, pngFrame(t, 0)))
		if r := o.result(cfg, "small", 1); r.Member != "5.8M" {
			t.Errorf("answered by %s, want 5.8M", r.Member)
		}
		if again := o.command(cfg, cfg.Device, "mode", "c1", payload); again != first {
			t.Errorf("the same command again: got %+v, want %+v", again, first)
		}
		other := o.command(cfg, cfg.Device, "mode", "c1", `{"mode":"balanced","ttl_ms":60000}`)
		if other.State != wire.CommandRejected || other.Reason != wire.Conflict {
			t.Errorf("other bytes: got %+v, want rejected: conflict", other)
		}

		d.stop()
		o.fence()
		reports, acks := len(o.matching(self(cfg).Reported())), len(o.matching(self(cfg).Ack("mode", "c1")))
		start(t, cfg, rig{})
		o.until(func() bool {
			return slices.ContainsFunc(o.matching(self(cfg).Reported())[reports:], func(m mqtt.Message) bool {
				return decoded[wire.Reported](t, m).Mode == "fixed:5.8M"
			})
		}, "the mode is reported after the restart")
		o.publish(self(cfg).Cmd("mode", "c1"), []byte(payload))
		o.until(func() bool { // the broker may deliver the other bytes once more
			return slices.ContainsFunc(o.matching(self(cfg).Ack("mode", "c1"))[acks:], func(m mqtt.Message) bool {
				return decoded[wire.Ack](t, m) == first
			})
		}, "the same answer after the restart: %+v", first)
	})
}

func TestC6_ACommandThatCannotBeReadIsRejectedWithTheReason(t *testing.T) {
	t.Parallel()
	o, cfg, _ := online(t, serve(t), rig{})
	for i, tt := range []struct {
		name, verb, payload string
		reason              wire.Reason
		detail              string // part of it
	}{
		{"C6 oversize", "mode", `{"mode":"` + strings.Repeat("x", 70_000) + `","ttl_ms":1000}`, wire.Invalid, "bytes"},
		{"C6 unknown verb", "dance", `{"ttl_ms":1000}`, wire.Unsupported, "this device knows mode, goal, power"},
		{"C6 unknown member", "mode", `{"mode":"fixed:9000M","ttl_ms":60000}`, wire.Invalid, "5.8M"},
		{"P11 empty", "mode", ``, wire.Invalid, ""},
		{"C4 expired", "mode", `{"mode":"balanced","expires_at":"2020-01-01T00:00:00Z"}`, wire.Expired,
			"it expired at 2020-01-01T00:00:00.000Z"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			id := fmt.Sprintf("c-%d", i)
			ack := o.command(cfg, cfg.Device, tt.verb, id, tt.payload)
			if ack.State != wire.CommandRejected || ack.Reason != tt.reason ||
				!strings.Contains(ack.Detail, tt.detail) {
				t.Errorf("got %+v, want rejected %s with %q", ack, tt.reason, tt.detail)
			}
			if steps := o.steps(cfg, tt.verb, id); steps[0] != wire.CommandReceived {
				t.Errorf("first state: got %s, want received", steps[0])
			}
		})
	}
}

func TestN11_RetainedCommandIsRefused(t *testing.T) {
	brokers(t, func(t *testing.T, addr string) {
		cfg := newConfig(t, addr)
		o := operate(t, addr)
		o.publishAs(mqtt.Message{Topic: self(cfg).Cmd("mode", "kept"),
			Payload: []byte(`{"mode":"low-latency","ttl_ms":60000}`), QoS: 1, Retained: true})
		start(t, cfg, rig{})
		ack := o.final(self(cfg).Ack("mode", "kept"), 0)
		if ack.State != wire.CommandRejected || ack.Reason != wire.Invalid || !strings.Contains(ack.Detail, "retain") {
			t.Errorf("got %+v, want rejected for being retained", ack)
		}
		o.report(cfg, wire.Reported{Status: wire.Applied, Mode: "balanced"})
	})
}

func TestGroupCommandsReachTheirMembers(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	cfg := newConfig(t, addr)
	cfg.Groups = []string{"@gate"}
	o := operate(t, addr)
	start(t, cfg, rig{})
	o.presence(cfg, wire.Online, 0)
	o.publish(wire.Address{Fleet: cfg.Fleet, Device: "@roof"}.Cmd("mode", "elsewhere"),
		[]byte(`{"mode":"low-latency","ttl_ms":60000}`))
	for _, group := range []string{"@all", "@gate"} {
		ack := o.command(cfg, group, "mode", group[1:], `{"mode":"max-accuracy","ttl_ms":60000}`)
		if ack.State != wire.CommandSucceeded {
			t.Errorf("%s: got %+v", group, ack)
		}
	}
	if strangers := o.matching(self(cfg).Ack("mode", "elsewhere")); len(strangers) > 0 {
		t.Errorf("obeyed another group: %s", strangers[0].Payload)
	}
}

func TestDesiredIsAppliedByVersion(t *testing.T) {
	brokers(t, func(t *testing.T, addr string) {
		cfg := newConfig(t, addr)
		cfg.Groups = []string{"@gate"}
		o := operate(t, addr)
		desire := func(target, payload string) {
			o.publishAs(mqtt.Message{Topic: wire.Address{Fleet: cfg.Fleet, Device: target}.Desired(),
				Payload: []byte(payload), QoS: 1, Retained: true})
		}
		desire(cfg.Device, `{"version":3,"mode":"low-latency"}`) // before the device is there
		d := start(t, cfg, rig{})
		o.report(cfg, wire.Reported{Version: 3, Status: wire.Applied, Mode: "low-latency"})

		desire(cfg.Device, `{"version":2,"mode":"max-accuracy"}`)
		o.report(cfg, wire.Reported{Version: 2, Status: wire.Rejected, Reason: wire.Conflict, AppliedVersion: 3,
			Mode: "low-latency"})
		desire(cfg.Device, `{"version":3,"mode":"max-accuracy"}`) // the one applied: no answer
		desire(cfg.Device, `{"version":4,"mode":"fixed:9000M"}`)
		o.report(cfg, wire.Reported{Version: 4, Status: wire.Rejected, Reason: wire.Invalid, Mode: "low-latency"})
		desire(cfg.Device, `{"version":5,"goal":{}}`)
		o.report(cfg, wire.Reported{Version: 5, Status: wire.Rejected, Reason: wire.Invalid, Mode: "low-latency"})
		desire(cfg.Device, `{"version":4,"mode":"fixed:5.8M"}`) // the rejected ones do not count
		o.report(cfg, wire.Reported{Version: 4, Status: wire.Applied, Mode: "fixed:5.8M"})
		desire("@all", `{"version":1,"mode":"balanced"}`) // groups do not count by themselves
		o.report(cfg, wire.Reported{Version: 1, Status: wire.Rejected, Reason: wire.Conflict, AppliedVersion: 4,
			Mode: "fixed:5.8M"})
		desire("@all", `{"version":5,"mode":"balanced"}`)
		o.report(cfg, wire.Reported{Version: 5, Status: wire.Applied, Mode: "balanced"})
		desire(cfg.Device, `{"version":0,"mode":"balanced"}`)
		o.report(cfg, wire.Reported{Version: 5, Status: wire.Rejected, Reason: wire.Invalid, Mode: "balanced"})
		desire("@gate", `{"version":6,"mode":"low-latency"}`)
		o.report(cfg, wire.Reported{Version: 6, Status: wire.Applied, Mode: "low-latency"})
		desire(cfg.Device, `{"version":4,"mode":"fixed:5.8M"}`)
		d.stop()
		o.fence() // what it reported last may still be on its way
		o.newsAfterRestart(t, cfg, 6, "low-latency")
	})
}

// newsAfterRestart starts a device that gets all that is retained, has applied it,
// and so has nothing new to report.
func (o *operator) newsAfterRestart(t *testing.T, cfg config.Config, version uint64, mode string) {
	t.Helper()
	n, syncs := len(o.matching(self(cfg).Reported())), len(o.matching(self(cfg).Sync()))
	start(t, cfg, rig{})
	if sync := decoded[wire.Sync](t, o.await(self(cfg).Sync(), syncs+1)); sync.Version != version {
		t.Errorf("sync: got version %d, want %d", sync.Version, version)
	}
	o.obeyed(cfg, "mode", "after", fmt.Sprintf(`{"mode":%q,"ttl_ms":60000}`, mode))
	for _, m := range o.matching(self(cfg).Reported())[n:] {
		// No mode is in force before there are members.
		if r := decoded[wire.Reported](t, m); r.Mode != mode && r.Mode != "" || r.Status != wire.Applied ||
			r.Version != version {
			t.Errorf("after the restart: got %+v, want nothing new", r)
		}
	}
}

// A device that is off gets a command when it is back, if it is not too late.
func TestCommandWaitsForTheDevice(t *testing.T) {
	t.Parallel()
	m := brokertest.StartMosquitto(t)
	o, cfg, d := online(t, m.Addr, rig{})
	d.stop()
	o.publish(self(cfg).Cmd("mode", "late"),
		fmt.Appendf(nil, `{"mode":"balanced","expires_at":%q}`, time.Now().UTC().Format(time.RFC3339)))
	o.publish(self(cfg).Cmd("mode", "fine"), []byte(`{"mode":"low-latency","ttl_ms":60000}`))
	start(t, cfg, rig{})
	if ack := o.final(self(cfg).Ack("mode", "fine"), 0); ack.State != wire.CommandSucceeded {
		t.Errorf("got %+v", ack)
	}
	if ack := o.final(self(cfg).Ack("mode", "late"), 0); ack.State != wire.CommandRejected ||
		ack.Reason != wire.Expired {
		t.Errorf("got %+v, want expired", ack)
	}
}

func TestSwitchesArePublishedAtMostOnceASecond(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	cfg := newConfig(t, addr)
	cfg.Mode = "fixed:5.8M"
	o := operate(t, addr)
	start(t, cfg, rig{})
	o.presence(cfg, wire.Online, 0)
	members := o.front(cfg)
	modes := []string{"5.8M", members[len(members)-1].Name}
	o.askUntil(cfg, "loaded", fmt.Sprintf(`{"deadline_ms":%d,"min_top1":%v}`, patient, members[len(members)-1].Top1),
		func(r wire.Result) bool { return r.Status == wire.OK }, "the last member is loaded")
	before := len(o.events(cfg, wire.EventSwitch))
	const orders = 12
	for i := range orders {
		mode := fmt.Sprintf(`{"mode":"fixed:%s","ttl_ms":60000}`, modes[i%2])
		o.obeyed(cfg, "mode", fmt.Sprintf("m-%d", i), mode)
		id := fmt.Sprintf("s-%d", i)
		o.publish(self(cfg).Job(id), job(t, patient, pngFrame(t, 0)))
		if r := o.result(cfg, id, 1); r.Member != modes[i%2] {
			t.Errorf("answered by %s, want %s", r.Member, modes[i%2])
		}
	}
	o.until(func() bool {
		var told uint64
		for _, e := range o.events(cfg, wire.EventSwitch)[before:] {
			told += max(1, e.Count)
		}
		return told >= orders-1
	}, "events that tell of %d switches", orders-1)
	events := o.events(cfg, wire.EventSwitch)
	for i, e := range events {
		if e.Member == "" || e.Detail == "" || i > 0 && e.TS.Sub(events[i-1].TS.Time) < 990*time.Millisecond {
			t.Errorf("event %d: got %+v", i, events)
		}
	}
}

func TestOperatorSteersAFleet(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	o := operate(t, addr)
	var cfgs []config.Config
	for _, name := range []string{"cam-1", "cam-2"} {
		cfg := newConfig(t, addr)
		cfg.Device = name
		cfg.Groups = []string{"@gate"}
		start(t, cfg, rig{})
		cfgs = append(cfgs, cfg)
	}
	for _, cfg := range cfgs {
		o.front(cfg)
		o.await(self(cfg).Reported(), 1)
	}
	devices, err := openClient(t, addr, fleet.ListFilters("demo")).List(t.Context())
	if err != nil || len(devices) != 2 {
		t.Fatalf("list: got %+v, %v; want two devices", devices, err)
	}
	for i, d := range devices {
		if d.Name != cfgs[i].Device || !d.Online() || d.Caps == nil || d.Reported == nil || !d.In("@gate") ||
			!d.In("@all") || d.In("@roof") {
			t.Errorf("device %d: got %+v", i, d)
		}
	}
	done := func(name string) fleet.Outcome { return fleet.Outcome{Device: name, State: wire.CommandSucceeded} }
	for _, tt := range []struct {
		target, mode string
		want         []fleet.Outcome
	}{
		{"cam-1", "low-latency", []fleet.Outcome{done("cam-1")}},
		{"@gate", "fixed:5.8M", []fleet.Outcome{done("cam-1"), done("cam-2")}},
		{"@all", "balanced", []fleet.Outcome{done("cam-1"), done("cam-2")}},
	} {
		got, err := openClient(t, addr, fleet.CommandFilters("demo")).Command(t.Context(), "demo", tt.target,
			wire.Command{Mode: tt.mode}, patience)
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s %s: got %+v, %v; want %+v", tt.target, tt.mode, got, err, tt.want)
		}
	}
}
