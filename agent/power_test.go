package agent_test

import (
	"slices"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/config"
	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/wire"
)

// newPowerConfig is a device whose owner lets operators set the power mode.
func newPowerConfig(tb testing.TB, broker string) config.Config {
	tb.Helper()
	cfg := newConfig(tb, broker)
	cfg.Power.SetMode = true
	return cfg
}

// inPower waits until the last that a device said of itself is a power mode.
func (o *operator) inPower(cfg config.Config, mode string) {
	o.tb.Helper()
	o.caps(cfg, func(c wire.Caps) bool { return c.Power != nil && c.Power.Mode == mode }, "the power mode is %s", mode)
}

func TestCommandSetsThePowerModeOnce(t *testing.T) {
	brokers(t, func(t *testing.T, addr string) {
		cfg, m, o := newPowerConfig(t, addr), mustMachine(t), operate(t, addr)
		m.clock(2000, 2000)
		start(t, cfg, m.under())
		o.presence(cfg, wire.Online, 0)
		o.inPower(cfg, "clock-100")

		const payload = `{"power_mode":"clock-50","ttl_ms":60000}`
		first := o.command(cfg, cfg.Device, "power", "p1", payload)
		if steps := o.steps(cfg, "power", "p1"); !slices.Equal(steps, allSteps) {
			t.Errorf("got states %v, want %v", steps, allSteps)
		}
		o.inPower(cfg, "clock-50")
		o.tells(cfg, wire.EventPower, "the board's power mode is clock-50; it was clock-100")

		m.clock(2000, 1500) // by somebody on the device
		if again := o.command(cfg, cfg.Device, "power", "p1", payload); again != first {
			t.Errorf("the same command again: got %+v, want %+v", again, first)
		}
		other := o.command(cfg, cfg.Device, "power", "p1", `{"power_mode":"clock-100","ttl_ms":60000}`)
		if other.Reason != wire.Conflict {
			t.Errorf("other bytes: got %+v, want rejected: conflict", other)
		}
		o.obeyed(cfg, "mode", "p1", `{"mode":"balanced","ttl_ms":60000}`) // ids belong to their verb
		got, err := openClient(t, addr, fleet.CommandFilters("demo")).Command(t.Context(), "demo", "@all",
			wire.Command{PowerMode: "clock-100"}, patience)
		want := []fleet.Outcome{{Device: cfg.Device, State: wire.CommandSucceeded}}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("for everybody: got %+v, %v; want %+v", got, err, want)
		}
		o.inPower(cfg, "clock-100")
		// It was what somebody had made it: the repetition did nothing.
		o.tells(cfg, wire.EventPower, "the board's power mode is clock-100; it was clock-75")
	})
}

func TestAPowerCommandThatHangsKeepsNoOtherClassWaitingNorTheDeviceFromStopping(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	cfg, m, o := newPowerConfig(t, addr), mustMachine(t), operate(t, addr)
	m.nvpmodel()
	d := start(t, cfg, m.under())
	o.presence(cfg, wire.Online, 0)
	const payload = `{"power_mode":"HANGS","ttl_ms":3600000}`
	o.publish(self(cfg).Cmd("power", "hangs"), []byte(payload))
	if ack := decoded[wire.Ack](t, o.await(self(cfg).Ack("power", "hangs"), 3)); ack.State != wire.CommandExecuting {
		t.Fatalf("got %+v, want it executing", ack)
	}
	waiting := ids("waits", 3)
	for _, id := range waiting {
		o.publish(self(cfg).Cmd("power", id), []byte(payload))
	}
	o.obeyed(cfg, "mode", "m1", `{"mode":"max-accuracy","ttl_ms":60000}`)
	if took := d.stop(); took > 10*time.Second {
		t.Errorf("the device took %v to stop", took)
	}
	o.fence()
	for _, id := range append(waiting, "hangs") {
		if slices.ContainsFunc(o.steps(cfg, "power", id), wire.Step.Final) {
			t.Errorf("%s ended; want it left to the next start", id)
		}
	}
}
