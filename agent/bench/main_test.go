package bench

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/bench/desk"
	"github.com/limber-edge/limber/agent/bench/figure"
	"github.com/limber-edge/limber/agent/bench/load"
	"github.com/limber-edge/limber/agent/fleet/controller"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/sim"
	"github.com/limber-edge/limber/broker-config/devbroker"
	"github.com/limber-edge/limber/family/workshop"
	"github.com/limber-edge/limber/store"
)

// TestMain makes the test binary the program that the benchmarks start.
func TestMain(m *testing.M) {
	if len(os.Args) < 2 || programs()[os.Args[1]] == nil {
		os.Setenv("GORACE", "atexit_sleep_ms=0") // every process would sleep for a second before it ends
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := programs()[os.Args[1]](ctx, os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// programs are by their first argument.
func programs() map[string]func(ctx context.Context, args []string) error {
	return map[string]func(context.Context, []string) error{
		"hog":  func(_ context.Context, args []string) error { return load.Burden(load.Kind(args[0]), os.Stdin) },
		"site": brokerAlone,
		"broker": func(ctx context.Context, args []string) error { // --listen ADDRESS
			b, err := devbroker.New(devbroker.Config{Listen: args[1]}, slog.New(slog.DiscardHandler))
			if err != nil {
				return err
			}
			return b.Run(ctx)
		},
		"agent": agentOf,
		"sim":   simOf,
		"fleet": controllerOf,
		"probe": func(context.Context, []string) error {
			rt, err := workshop.OpenRuntime()
			if err != nil {
				return err
			}
			return ProbeModels(rt, os.Stdin, os.Stdout)
		},
		"coldstart": func(ctx context.Context, args []string) error { // --state FOLDER or --model FILE
			if args[0] == "--model" {
				return BareStart(os.Stdout, args[1])
			}
			return ColdStart(ctx, os.Stdout, args[1], "test", nil)
		},
	}
}

// agentOf runs an agent with what matters of a site's configuration: --config FILE.
func agentOf(ctx context.Context, args []string) error {
	b, err := os.ReadFile(args[1])
	if err != nil {
		return err
	}
	said := regexp.MustCompile(`(?s)state = "(.*?)".*url = "(.*?)"`).FindSubmatch(b)
	d, err := desk.Open(desk.Options{State: string(said[1]), Broker: string(said[2]),
		Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Run(ctx)
}

// simOf runs a fleet: -n DEVICES --broker URL --fleet NAME.
func simOf(ctx context.Context, args []string) error {
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	p, err := sim.ParseProfile(sim.Example)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(sim.StateFolder(), "limber-bench-sim-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	f, err := sim.New(sim.Config{Devices: n, Profile: p, Fleet: args[5], State: dir, Version: "test",
		Broker: func(string) mqtt.Broker { return mqtt.Broker{URL: mqtt.URLs{args[3]}} }}, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	return f.Run(ctx)
}

// controllerOf runs one: serve --state FOLDER --broker URL --fleet NAME ...
func controllerOf(ctx context.Context, args []string) error {
	log := slog.New(slog.DiscardHandler)
	documents, err := store.OpenDocuments(args[2], store.Options{NoSync: true}, log)
	if err != nil {
		return err
	}
	defer documents.Close()
	link := mqtt.Default()
	link.Broker = args[4]
	c, err := controller.New(controller.Config{Fleet: args[6], Broker: link, Dir: args[2]}, documents, log)
	if err != nil {
		return err
	}
	return c.Run(ctx)
}

// brokerAlone starts the broker of a site in a folder at an address, and waits to be
// killed.
func brokerAlone(ctx context.Context, args []string) error {
	s := &site{dir: args[0], stderr: os.Stderr}
	if err := s.startBroker(ctx, args[1]); err != nil {
		return err
	}
	<-ctx.Done()
	return s.close(ctx)
}

// silent is progress that nobody sees.
type silent struct{}

func (silent) Tell(string, int, int) {}
func (silent) Say(string)            {}
func (silent) End()                  {}

// testBench is a benchmark whose figures come as JSON.
func testBench(t *testing.T, out io.Writer) Bench {
	return Bench{Printer: figure.Printer{W: out, JSON: true}, Progress: silent{}, Stderr: t.Output(), Dir: t.TempDir()}
}

// mustPoll waits for what only another process decides.
func mustPoll(t *testing.T, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited for %s: %v", what, ctx.Err())
		}
	}
}
