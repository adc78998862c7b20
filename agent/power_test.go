package agent_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent"
	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

// newPowerConfig is a device whose owner lets operators set the power mode.
func newPowerConfig(tb testing.TB, broker string) agent.Config {
	tb.Helper()
	cfg := newConfig(tb, broker)
	cfg.Power.SetMode = true
	return cfg
}

// inPower waits until the last that a device said of itself is a power mode.
func (o *operator) inPower(cfg agent.Config, mode string) {
	o.tb.Helper()
	o.until(func() bool {
		all := o.matching(self(cfg).Caps())
		if len(all) == 0 {
			return false
		}
		p := decoded[wire.Caps](o.tb, all[len(all)-1]).Power
		return p != nil && p.Mode == mode
	}, "the power mode in caps is %s", mode)
}

func TestCommandSetsThePowerModeOnce(t *testing.T) {
	brokers(t, func(t *testing.T, addr string) {
		cfg, m, o := newPowerConfig(t, addr), mustMachine(t), operate(t, addr)
		m.clock(2000, 2000)
		start(t, cfg, m.env())
		o.presence(cfg, wire.Online, 0)
		o.inPower(cfg, "clock-100")

		const payload = `{"power_mode":"clock-50","ttl_ms":60000}`
		first := o.command(cfg, cfg.Device, "power", "p1", payload)
		var steps []wire.Step
		for _, m := range o.matching(self(cfg).Ack("power", "p1")) {
			steps = append(steps, decoded[wire.Ack](t, m).State)
		}
		if want := []wire.Step{wire.CommandReceived, wire.CommandAccepted, wire.CommandExecuting, wire.CommandSucceeded}; !slices.Equal(steps, want) {
			t.Errorf("got states %v, want %v", steps, want)
		}
		o.inPower(cfg, "clock-50")
		if e := o.told(t, self(cfg).Event(wire.SeverityInfo), wire.EventPower, 1); e[0].Detail != "the board's power mode is clock-50; it was clock-100" {
			t.Errorf("got event %+v", e)
		}

		m.clock(2000, 1500) // by somebody on the device
		if again := o.command(cfg, cfg.Device, "power", "p1", payload); again != first {
			t.Errorf("the same command again: got %+v, want %+v", again, first)
		}
		if ack := o.command(cfg, cfg.Device, "power", "p1", `{"power_mode":"clock-100","ttl_ms":60000}`); ack.Reason != wire.Conflict {
			t.Errorf("other bytes: got %+v, want rejected: conflict", ack)
		}
		if ack := o.command(cfg, cfg.Device, "mode", "p1", `{"mode":"balanced","ttl_ms":60000}`); ack.State != wire.CommandSucceeded {
			t.Errorf("the id of another verb's command: got %+v, want succeeded", ack)
		}
		got, err := openClient(t, addr, fleet.CommandFilters("demo")).Command(t.Context(), "demo", "@all", wire.Command{PowerMode: "clock-100"}, patience)
		if want := []fleet.Outcome{{Device: cfg.Device, State: wire.CommandSucceeded}}; err != nil || !slices.Equal(got, want) {
			t.Errorf("for everybody: got %+v, %v; want %+v", got, err, want)
		}
		o.inPower(cfg, "clock-100")
		if e := o.told(t, self(cfg).Event(wire.SeverityInfo), wire.EventPower, 2); e[1].Detail != "the board's power mode is clock-100; it was clock-75" {
			t.Errorf("got event %+v, want that the repetition did nothing", e[1])
		}
	})
}

func TestPowerCommandsAreJudged(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	jetson, other, o := mustMachine(t), mustMachine(t), operate(t, addr)
	jetson.nvpmodel()
	allowed, forbidden, modeless := newPowerConfig(t, addr), newConfig(t, addr), newPowerConfig(t, addr)
	forbidden.Device, modeless.Device = "forbidden", "modeless"
	start(t, allowed, jetson.env())
	start(t, forbidden, jetson.env())
	start(t, modeless, other.env())
	for i, tt := range []struct {
		name    string
		device  agent.Config
		payload string
		state   wire.Step
		reason  wire.Reason
		detail  string // part of it
	}{
		{"nvpmodel obeys", allowed, `{"power_mode":"MODE_15W","ttl_ms":60000}`, wire.CommandSucceeded, "", ""},
		{"in force already", allowed, `{"power_mode":"MODE_15W","ttl_ms":60000}`, wire.CommandSucceeded, "", ""},
		{"it takes a reboot", allowed, `{"power_mode":"REBOOTS","ttl_ms":60000}`, wire.CommandFailed, wire.NeedsReboot, "run nvpmodel -m 2 on the device"},
		{"nvpmodel fails", allowed, `{"power_mode":"FAILS","ttl_ms":60000}`, wire.CommandFailed, wire.Internal, "NVPM ERROR: out of order"},
		{"unknown mode", allowed, `{"power_mode":"clock-50","ttl_ms":60000}`, wire.CommandRejected, wire.Invalid, "there are MAXN, MODE_15W, "},
		{"no mode", allowed, `{"ttl_ms":60000}`, wire.CommandRejected, wire.Invalid, "no power_mode"},
		{"mode of another verb", allowed, `{"mode":"balanced","ttl_ms":60000}`, wire.CommandRejected, wire.Invalid, "use the verb mode"},
		{"no expiry", allowed, `{"power_mode":"MAXN"}`, wire.CommandRejected, wire.Invalid, "ttl_ms"},
		{"no permission", forbidden, `{"power_mode":"MAXN","ttl_ms":60000}`, wire.CommandRejected, wire.Unauthorized, "power.set_mode = true"},
		{"no modes", modeless, `{"power_mode":"MAXN","ttl_ms":60000}`, wire.CommandRejected, wire.Unsupported, "no power modes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o.presence(tt.device, wire.Online, 0)
			ack := o.command(tt.device, tt.device.Device, "power", fmt.Sprintf("p-%d", i), tt.payload)
			if ack.State != tt.state || ack.Reason != tt.reason || !strings.Contains(ack.Detail, tt.detail) {
				t.Errorf("got %s %s %q, want %s %s with %q", ack.State, ack.Reason, ack.Detail, tt.state, tt.reason, tt.detail)
			}
		})
	}
	o.inPower(allowed, "MODE_15W")
}

func TestAPowerCommandThatHangsTimesOutAndTheNextHasItsTurn(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	cfg, m, o := newPowerConfig(t, addr), mustMachine(t), operate(t, addr)
	m.nvpmodel()
	start(t, cfg, m.env())
	o.presence(cfg, wire.Online, 0)
	const payload = `{"power_mode":"HANGS","ttl_ms":2000}`
	o.publish(self(cfg).Cmd("power", "hangs"), []byte(payload))
	if ack := decoded[wire.Ack](t, o.await(self(cfg).Ack("power", "hangs"), 3)); ack.State != wire.CommandExecuting {
		t.Fatalf("got %+v, want it executing", ack)
	}
	o.publish(self(cfg).Cmd("power", "hangs"), []byte(payload)) // as a link that breaks would deliver it
	next := o.command(cfg, cfg.Device, "power", "next", `{"power_mode":"MODE_15W","ttl_ms":60000}`)
	ack := o.final(self(cfg).Ack("power", "hangs"), 0)
	if ack.State != wire.CommandTimedOut || ack.Reason != wire.Expired || !strings.Contains(ack.Detail, "did not end in time") {
		t.Errorf("got %+v, want timed out", ack)
	}
	if again := decoded[wire.Ack](t, o.await(self(cfg).Ack("power", "hangs"), 5)); again != ack {
		t.Errorf("delivered again: got %+v, want %+v", again, ack)
	}
	if next.State != wire.CommandSucceeded || next.TS.Before(ack.TS.Time) {
		t.Errorf("the next: got %+v, want it done after %+v", next, ack)
	}
}

func TestAPowerCommandThatHangsKeepsNoOtherClassWaiting(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	cfg, m, o := newPowerConfig(t, addr), mustMachine(t), operate(t, addr)
	m.nvpmodel()
	d := start(t, cfg, m.env())
	o.presence(cfg, wire.Online, 0)
	const payload = `{"power_mode":"HANGS","ttl_ms":3600000}`
	o.publish(self(cfg).Cmd("power", "hangs"), []byte(payload))
	if ack := decoded[wire.Ack](t, o.await(self(cfg).Ack("power", "hangs"), 3)); ack.State != wire.CommandExecuting {
		t.Fatalf("got %+v, want it executing", ack)
	}
	const room = 8
	waiting := ids("waits", room+1)
	for _, id := range waiting {
		o.publish(self(cfg).Cmd("power", id), []byte(payload))
	}
	if ack := o.final(self(cfg).Ack("power", waiting[room]), 0); ack.State != wire.CommandRejected || ack.Reason != wire.Busy {
		t.Errorf("one that finds no room: got %+v, want rejected: busy", ack)
	}
	if ack := o.command(cfg, cfg.Device, "mode", "m1", `{"mode":"max-accuracy","ttl_ms":60000}`); ack.State != wire.CommandSucceeded {
		t.Errorf("a mode: got %+v", ack)
	}
	if took := d.stop(); took > 10*time.Second {
		t.Errorf("the device took %v to stop", took)
	}
	for _, id := range append(waiting[:room], "hangs") {
		if slices.ContainsFunc(o.matching(self(cfg).Ack("power", id)), func(m mqtt.Message) bool { return decoded[wire.Ack](t, m).State.Final() }) {
			t.Errorf("%s ended; want it left to the next start", id)
		}
	}
}
