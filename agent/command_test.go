package agent_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent"
	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/broker-config/brokertest"
	"github.com/limber-edge/limber/store"
)

const minute = 60_000 // ms

func TestCommandSetsTheMode(t *testing.T) {
	brokers(t, func(t *testing.T, addr string) {
		o, cfg, d := online(t, addr)
		o.await(self(cfg).Reported(), 1)

		if ack := o.command(cfg, cfg.Device, "mode", "c1", `{"mode":"fixed:5.8M","ttl_ms":60000}`); ack.State != wire.CommandSucceeded || ack.ID != "c1" || ack.Verb != "mode" {
			t.Errorf("got %+v", ack)
		}
		var steps []wire.Step
		for _, m := range o.matching(self(cfg).Ack("mode", "c1")) {
			steps = append(steps, decoded[wire.Ack](t, m).State)
		}
		if want := []wire.Step{wire.CommandReceived, wire.CommandAccepted, wire.CommandExecuting, wire.CommandSucceeded}; !slices.Equal(steps, want) {
			t.Errorf("got states %v, want %v", steps, want)
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

		acks := len(o.matching(self(cfg).Ack("mode", "c1")))
		again := o.command(cfg, cfg.Device, "mode", "c1", `{"mode":"fixed:5.8M","ttl_ms":60000}`)
		if first := decoded[wire.Ack](t, o.matching(self(cfg).Ack("mode", "c1"))[acks-1]); again != first {
			t.Errorf("the same command again: got %+v, want %+v", again, first)
		}
		if ack := o.command(cfg, cfg.Device, "mode", "c1", `{"mode":"balanced","ttl_ms":60000}`); ack.State != wire.CommandRejected || ack.Reason != wire.Conflict {
			t.Errorf("other bytes: got %+v, want rejected: conflict", ack)
		}

		d.stop()
		started := len(o.matching(self(cfg).Reported()))
		d = start(t, cfg)
		if r := decoded[wire.Reported](t, o.await(self(cfg).Reported(), started+1)); r.Mode != "fixed:5.8M" {
			t.Errorf("after the restart: got %+v", r)
		}
		acks = len(o.matching(self(cfg).Ack("mode", "c1")))
		o.publish(self(cfg).Cmd("mode", "c1"), []byte(`{"mode":"fixed:5.8M","ttl_ms":60000}`))
		o.until(func() bool { // the broker may deliver the other bytes once more
			return slices.ContainsFunc(o.matching(self(cfg).Ack("mode", "c1"))[acks:], func(m mqtt.Message) bool {
				return decoded[wire.Ack](t, m) == again
			})
		}, "the same answer after the restart: %+v", again)
	})
}

func TestCommandsAreJudged(t *testing.T) {
	t.Parallel()
	o, cfg, _ := online(t, serve(t))
	soon, past := time.Now().Add(time.Hour).UTC().Format(time.RFC3339), time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)
	for i, tt := range []struct {
		name, verb, payload string
		state               wire.Step
		reason              wire.Reason
		detail              string // part of it
	}{
		{"expires_at", "mode", `{"mode":"balanced","expires_at":"` + soon + `"}`, wire.CommandSucceeded, "", ""},
		{"unknown field", "mode", `{"mode":"balanced","ttl_ms":1000,"why":"night"}`, wire.CommandSucceeded, "", ""},
		{"no expiry", "mode", `{"mode":"balanced"}`, wire.CommandRejected, wire.Invalid, "ttl_ms"},
		{"two expiries", "mode", `{"mode":"balanced","ttl_ms":1000,"expires_at":"` + soon + `"}`, wire.CommandRejected, wire.Invalid, "either"},
		{"C4 expired", "mode", `{"mode":"balanced","expires_at":"` + past + `"}`, wire.CommandRejected, wire.Expired, "it expired at " + past[:len(past)-1] + ".000Z; the clock here says "},
		{"C4 ttl 0", "mode", `{"mode":"balanced","ttl_ms":0}`, wire.CommandRejected, wire.Invalid, "ttl_ms"},
		{"C6 unknown verb", "dance", `{"ttl_ms":1000}`, wire.CommandRejected, wire.Unsupported, "mode"},
		{"C6 unknown mode", "mode", `{"mode":"warp","ttl_ms":1000}`, wire.CommandRejected, wire.Invalid, "balanced"},
		{"C6 unknown member", "mode", `{"mode":"fixed:9000M","ttl_ms":1000}`, wire.CommandRejected, wire.Invalid, "5.8M"},
		{"C6 no mode", "mode", `{"ttl_ms":1000}`, wire.CommandRejected, wire.Invalid, "mode"},
		{"C6 mode is a number", "mode", `{"mode":5,"ttl_ms":1000}`, wire.CommandRejected, wire.Invalid, "mode"},
		{"C6 oversize", "mode", `{"mode":"` + strings.Repeat("x", 70_000) + `","ttl_ms":1000}`, wire.CommandRejected, wire.Invalid, "65536"},
		{"P11 duplicate key", "mode", `{"mode":"balanced","mode":"low-latency","ttl_ms":1000}`, wire.CommandRejected, wire.Invalid, "duplicate"},
		{"P11 empty", "mode", ``, wire.CommandRejected, wire.Invalid, ""},
		{"P15 unknown schema", "mode", `{"schema":2,"mode":"balanced","ttl_ms":1000}`, wire.CommandRejected, wire.Invalid, "schema"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			id := fmt.Sprintf("c-%d", i)
			ack := o.command(cfg, cfg.Device, tt.verb, id, tt.payload)
			if first := decoded[wire.Ack](t, o.await(self(cfg).Ack(tt.verb, id), 1)); first.State != wire.CommandReceived {
				t.Errorf("first state: got %s, want received", first.State)
			}
			if ack.State != tt.state || ack.Reason != tt.reason || !strings.Contains(ack.Detail, tt.detail) {
				t.Errorf("got %s %s %q, want %s %s with %q", ack.State, ack.Reason, ack.Detail, tt.state, tt.reason, tt.detail)
			}
		})
	}
}

func TestN11_RetainedCommandIsRefused(t *testing.T) {
	brokers(t, func(t *testing.T, addr string) {
		cfg := newConfig(t, addr)
		o := operate(t, addr)
		o.publishAs(mqtt.Message{Topic: self(cfg).Cmd("mode", "kept"), Payload: []byte(`{"mode":"low-latency","ttl_ms":60000}`), QoS: 1, Retained: true})
		start(t, cfg)
		if ack := o.final(self(cfg).Ack("mode", "kept"), 0); ack.State != wire.CommandRejected || ack.Reason != wire.Invalid || !strings.Contains(ack.Detail, "retain") {
			t.Errorf("got %+v, want rejected for being retained", ack)
		}
		if r := decoded[wire.Reported](t, o.await(self(cfg).Reported(), 1)); r.Mode != "balanced" {
			t.Errorf("reported: got %+v, want no change", r)
		}
	})
}

func TestGroupCommandsReachTheirMembers(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	cfg := newConfig(t, addr)
	cfg.Groups = []string{"@gate"}
	o := operate(t, addr)
	start(t, cfg)
	o.presence(cfg, wire.Online, 0)
	o.publish(wire.Address{Fleet: cfg.Fleet, Device: "@roof"}.Cmd("mode", "elsewhere"), []byte(`{"mode":"low-latency","ttl_ms":60000}`))
	for _, group := range []string{"@all", "@gate"} {
		if ack := o.command(cfg, group, "mode", group[1:], `{"mode":"max-accuracy","ttl_ms":60000}`); ack.State != wire.CommandSucceeded {
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
			o.publishAs(mqtt.Message{Topic: wire.Address{Fleet: cfg.Fleet, Device: target}.Desired(), Payload: []byte(payload), QoS: 1, Retained: true})
		}
		desire(cfg.Device, `{"version":3,"mode":"low-latency"}`) // before the device is there
		d := start(t, cfg)
		o.report(cfg, wire.Reported{Version: 3, Status: wire.Applied, Mode: "low-latency"})

		desire(cfg.Device, `{"version":2,"mode":"max-accuracy"}`)
		o.report(cfg, wire.Reported{Version: 2, Status: wire.Rejected, Reason: wire.Conflict, AppliedVersion: 3, Mode: "low-latency"})
		desire(cfg.Device, `{"version":3,"mode":"max-accuracy"}`) // the one applied: no answer
		desire(cfg.Device, `{"version":4,"mode":"fixed:9000M"}`)
		o.report(cfg, wire.Reported{Version: 4, Status: wire.Rejected, Reason: wire.Invalid, Mode: "low-latency"})
		desire(cfg.Device, `{"version":5,"goal":{}}`)
		o.report(cfg, wire.Reported{Version: 5, Status: wire.Rejected, Reason: wire.Invalid, Mode: "low-latency"})
		desire(cfg.Device, `{"version":4,"mode":"fixed:5.8M"}`) // the rejected ones do not count
		o.report(cfg, wire.Reported{Version: 4, Status: wire.Applied, Mode: "fixed:5.8M"})
		desire("@all", `{"version":1,"mode":"balanced"}`) // groups do not count by themselves
		o.report(cfg, wire.Reported{Version: 1, Status: wire.Rejected, Reason: wire.Conflict, AppliedVersion: 4, Mode: "fixed:5.8M"})
		desire("@all", `{"version":5,"mode":"balanced"}`)
		o.report(cfg, wire.Reported{Version: 5, Status: wire.Applied, Mode: "balanced"})
		desire(cfg.Device, `{"version":0,"mode":"balanced"}`)
		o.report(cfg, wire.Reported{Version: 5, Status: wire.Rejected, Reason: wire.Invalid, Mode: "balanced"})
		desire("@gate", `{"version":6,"mode":"low-latency"}`)
		o.report(cfg, wire.Reported{Version: 6, Status: wire.Applied, Mode: "low-latency"})
		desire(cfg.Device, `{"version":4,"mode":"fixed:5.8M"}`)
		d.stop()
		o.fence() // what it reported last may still be on its way
		n := len(o.matching(self(cfg).Reported()))
		start(t, cfg) // gets all that is retained, and has applied it
		if sync := decoded[wire.Sync](t, o.await(self(cfg).Sync(), 2)); sync.Version != 6 {
			t.Errorf("sync: got version %d, want 6", sync.Version)
		}
		if ack := o.command(cfg, cfg.Device, "mode", "after", `{"mode":"low-latency","ttl_ms":60000}`); ack.State != wire.CommandSucceeded {
			t.Errorf("got %+v", ack)
		}
		for _, m := range o.matching(self(cfg).Reported())[n:] {
			if r := decoded[wire.Reported](t, m); r.Mode != "low-latency" || r.Status != wire.Applied || r.Version != 6 {
				t.Errorf("after the restart: got %+v, want nothing new", r)
			}
		}
	})
}

// report waits for a report, whatever its member and detail.
func (o *operator) report(cfg agent.Config, want wire.Reported) {
	o.tb.Helper()
	o.until(func() bool {
		for _, m := range o.matching(self(cfg).Reported()) {
			r := decoded[wire.Reported](o.tb, m)
			if r.Member, r.Detail = "", ""; reflect.DeepEqual(r, want) {
				return true
			}
		}
		return false
	}, "report %+v", want)
}

// A device that is off gets a command when it is back, if it is not too late.
func TestCommandWaitsForTheDevice(t *testing.T) {
	t.Parallel()
	m := brokertest.StartMosquitto(t)
	o, cfg, d := online(t, m.Addr)
	d.stop()
	o.publish(self(cfg).Cmd("mode", "late"), []byte(`{"mode":"balanced","expires_at":"`+time.Now().UTC().Format(time.RFC3339)+`"}`))
	o.publish(self(cfg).Cmd("mode", "fine"), []byte(`{"mode":"low-latency","ttl_ms":60000}`))
	start(t, cfg)
	if ack := o.final(self(cfg).Ack("mode", "fine"), 0); ack.State != wire.CommandSucceeded {
		t.Errorf("got %+v", ack)
	}
	if ack := o.final(self(cfg).Ack("mode", "late"), 0); ack.State != wire.CommandRejected || ack.Reason != wire.Expired {
		t.Errorf("got %+v, want expired", ack)
	}
}

func TestSwitchesArePublishedAtMostOnceASecond(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	cfg := newConfig(t, addr)
	cfg.Mode = "fixed:5.8M"
	o := operate(t, addr)
	start(t, cfg)
	o.presence(cfg, wire.Online, 0)
	members := decoded[wire.Caps](t, o.await(self(cfg).Caps(), 1)).Members
	modes := []string{"5.8M", members[len(members)-1].Name}
	o.awaitCrew(cfg)
	const orders = 12 // of which the first changes nothing
	for i := range orders {
		mode := fmt.Sprintf(`{"mode":"fixed:%s","ttl_ms":%d}`, modes[i%2], minute)
		if ack := o.command(cfg, cfg.Device, "mode", fmt.Sprintf("m-%d", i), mode); ack.State != wire.CommandSucceeded {
			t.Fatalf("got %+v", ack)
		}
		id := fmt.Sprintf("s-%d", i)
		o.publish(self(cfg).Job(id), job(t, patient, pngFrame(t, 0)))
		if r := o.result(cfg, id, 1); r.Member != modes[i%2] {
			t.Errorf("answered by %s, want %s", r.Member, modes[i%2])
		}
	}
	events := o.told(t, self(cfg).Event(wire.SeverityInfo), wire.EventSwitch, orders-1)
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
	var cfgs []agent.Config
	for _, name := range []string{"cam-1", "cam-2"} {
		cfg := newConfig(t, addr)
		cfg.Device = name
		cfg.Groups = []string{"@gate"}
		start(t, cfg)
		cfgs = append(cfgs, cfg)
	}
	for _, cfg := range cfgs {
		o.await(self(cfg).Caps(), 1)
		o.await(self(cfg).Reported(), 1)
	}
	devices, err := openStation(t, addr, fleet.ListFilters("demo")).List(t.Context())
	if err != nil || len(devices) != 2 {
		t.Fatalf("list: got %+v, %v; want two devices", devices, err)
	}
	for i, d := range devices {
		if d.Name != cfgs[i].Device || !d.Online() || d.Caps == nil || d.Reported == nil || !d.In("@gate") || !d.In("@all") || d.In("@roof") {
			t.Errorf("device %d: got %+v", i, d)
		}
	}
	for _, tt := range []struct {
		target, mode string
		want         []fleet.Outcome
	}{
		{"cam-1", "low-latency", []fleet.Outcome{{Device: "cam-1", State: wire.CommandSucceeded}}},
		{"@gate", "fixed:5.8M", []fleet.Outcome{{Device: "cam-1", State: wire.CommandSucceeded}, {Device: "cam-2", State: wire.CommandSucceeded}}},
		{"@all", "balanced", []fleet.Outcome{{Device: "cam-1", State: wire.CommandSucceeded}, {Device: "cam-2", State: wire.CommandSucceeded}}},
	} {
		got, err := openStation(t, addr, fleet.CommandFilters("demo")).Command(t.Context(), "demo", tt.target, wire.Command{Mode: tt.mode}, patience)
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s %s: got %+v, %v; want %+v", tt.target, tt.mode, got, err, tt.want)
		}
	}
}

func openStation(tb testing.TB, addr string, filters []string) *fleet.Station {
	tb.Helper()
	cfg := mqtt.Default()
	cfg.Broker, cfg.ClientID = addr, "station-"+fleet.NewID()
	s, err := fleet.Open(cfg, discard(), filters...)
	if err != nil {
		tb.Fatal(err)
	}
	run(tb, s.Run)
	if err := s.Ready(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	return s
}

// The ledger is the one that a killed agent leaves.
func TestCutOffCommandIsBegunAnew(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	cfg := newConfig(t, addr)
	const payload = `{"mode":"low-latency","ttl_ms":60000}`
	st, err := store.Open(cfg.State, store.Options{}, discard())
	if err != nil {
		t.Fatal(err)
	}
	for id, left := range map[string]time.Duration{"cut": time.Hour, "spent": -time.Hour} {
		c := store.Command{ID: "mode/" + id, Request: store.DigestOf([]byte(payload)), State: string(wire.CommandExecuting), Answer: []byte(`{}`), Expires: time.Now().Add(left)}
		if err := st.SetCommand(c); err != nil {
			t.Fatal(err)
		}
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	o := operate(t, addr)
	start(t, cfg)
	o.presence(cfg, wire.Online, 0)
	if ack := o.command(cfg, cfg.Device, "mode", "cut", payload); ack.State != wire.CommandSucceeded {
		t.Errorf("got %+v, want it done now", ack)
	}
	if ack := o.command(cfg, cfg.Device, "mode", "spent", payload); ack.State != wire.CommandTimedOut || ack.Reason != wire.Expired {
		t.Errorf("got %+v, want timed out", ack)
	}
}
