package sim_test

import (
	"context"
	"io"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/sim"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/broker-config/devbroker"
)

// patience is how long a test waits for what must come.
const patience = 90 * time.Second

// mustProfile is the example, which tests change.
func mustProfile(tb testing.TB) *sim.Profile {
	tb.Helper()
	p, err := sim.ParseProfile(sim.Example)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// mustBroker is the embedded one, until the test ends.
func mustBroker(tb testing.TB) mqtt.Broker {
	tb.Helper()
	b, err := devbroker.New(devbroker.Config{Listen: "127.0.0.1:0"}, slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatal(err)
	}
	until(tb, b.Run)
	return mqtt.Broker{URL: mqtt.URLs{"mqtt://" + b.Addr()}}
}

// until runs something until the test ends, or end is called.
func until(tb testing.TB, run func(context.Context) error) (end func()) {
	tb.Helper()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	end = sync.OnceFunc(func() {
		stop()
		if err := <-ended; err != nil {
			tb.Error(err)
		}
	})
	tb.Cleanup(end)
	return end
}

// mustState is a folder in memory, as `limber sim` has it.
func mustState(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp(sim.StateFolder(), "limber-sim-test-")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			tb.Error(err)
		}
	})
	return dir
}

// config is a fleet at one broker.
func config(tb testing.TB, n int, at mqtt.Broker) sim.Config {
	tb.Helper()
	return sim.Config{Devices: n, Seed: 1, Profile: mustProfile(tb), Fleet: wire.DefaultFleet, State: mustState(tb),
		Version: "test", Broker: func(string) mqtt.Broker { return at }}
}

// begin runs a fleet until the test ends.
func begin(tb testing.TB, cfg sim.Config) *sim.Fleet {
	tb.Helper()
	f, _ := beginUntil(tb, cfg)
	return f
}

// beginUntil runs a fleet until the test ends, or end is called.
func beginUntil(tb testing.TB, cfg sim.Config) (f *sim.Fleet, end func()) {
	tb.Helper()
	f, err := sim.New(cfg, slog.New(slog.NewTextHandler(tb.Output(), &slog.HandlerOptions{Level: slog.LevelError})))
	if err != nil {
		tb.Fatal(err)
	}
	return f, until(tb, f.Run)
}

// mustOperator is connected, and can see all and command.
func mustOperator(tb testing.TB, at mqtt.Broker) *fleet.Client {
	tb.Helper()
	link, err := at.Config("operator")
	if err != nil {
		tb.Fatal(err)
	}
	filters := append(fleet.RegistryFilters(wire.DefaultFleet), wire.FleetFilter(wire.DefaultFleet, wire.KindAck),
		wire.FleetFilter(wire.DefaultFleet, wire.KindCmd))
	c, err := fleet.Open(link, slog.New(slog.NewTextHandler(io.Discard, nil)), filters...)
	if err != nil {
		tb.Fatal(err)
	}
	until(tb, c.Run)
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	if err := c.Ready(ctx); err != nil {
		tb.Fatal(err)
	}
	return c
}

// await waits until what is seen is enough.
func await(tb testing.TB, c *fleet.Client, enough func(sim.Seen) bool) (seen sim.Seen) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	err := sim.Watch(ctx, c.Registry(), func(s sim.Seen) bool {
		seen = s
		return !enough(s)
	})
	if err != nil {
		tb.Fatalf("seen: %+v, and then %v", seen, err)
	}
	return seen
}

// mode sends one to all and returns how long it took until all had answered.
func mode(tb testing.TB, c *fleet.Client, n int, mode string) time.Duration {
	tb.Helper()
	began := time.Now()
	outcomes, err := c.Command(tb.Context(), wire.DefaultFleet, wire.Everybody, wire.Command{Mode: mode}, patience)
	took := time.Since(began)
	if err != nil || len(outcomes) != n {
		tb.Fatalf("got %d outcomes, %v; want %d", len(outcomes), err, n)
	}
	for _, o := range outcomes {
		if o.State != wire.CommandSucceeded {
			tb.Errorf("got %+v, want the mode", o)
		}
	}
	return took
}
