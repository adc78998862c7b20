package agent_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent"
	"github.com/limber-edge/limber/agent/config"
	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/monitor"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/firmware/power"
	"github.com/limber-edge/limber/store"
)

// TestManyAgentsInOneProcessAnswerAndObey holds what a simulator of a fleet needs:
// no agent has anything to itself that all could share.
func TestManyAgentsInOneProcessAnswerAndObey(t *testing.T) {
	o, root := operate(t, serve(t)), t.TempDir()
	broker, before, began := o.broker, resident(t), time.Now()
	carried := stockFamily(t)
	machine, board, tables := monitor.New(root), power.New(root), new(governor.Tables)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var running sync.WaitGroup
	ended := make(chan error, devicesMost)
	devices := make([]config.Config, devicesMost)
	for i := range devices {
		cfg := newConfig(t, broker)
		cfg.Device, cfg.State = fmt.Sprintf("cam-%03d", i), filepath.Join(root, fmt.Sprint(i))
		cfg.Telemetry.Every.Duration = time.Second
		devices[i] = cfg
		deps, err := agent.Open(cfg, agent.Options{Version: "test", Inference: simulated(nil), Family: carried, Store: store.Options{NoSync: true}}, discard())
		if err != nil {
			t.Fatal(err)
		}
		deps.Machine, deps.Board, deps.Tables, deps.Trim = machine, board, tables, func() {}
		a, err := agent.New(cfg, deps, discard())
		if err != nil {
			t.Fatal(err)
		}
		running.Go(func() {
			err := a.Run(ctx)
			if e := deps.Close(); err == nil {
				err = e
			}
			ended <- err
		})
	}
	for _, cfg := range devices {
		o.presence(cfg, wire.Online, 0)
	}
	t.Logf("%d agents are online after %v", devicesMost, time.Since(began))
	frame := job(t, patient, pngFrame(t, 0))
	for _, cfg := range devices {
		o.publish(self(cfg).Job("one"), frame)
		o.publish(self(cfg).Cmd("mode", "one"), []byte(`{"mode":"fixed:5.8M","ttl_ms":60000}`))
	}
	for _, cfg := range devices {
		if r := o.result(cfg, "one", 1); r.Status != wire.OK || r.Device != cfg.Device {
			t.Errorf("%s: got %+v, want an answer", cfg.Device, r)
		}
		if ack := o.final(self(cfg).Ack("mode", "one"), 0); ack.State != wire.CommandSucceeded {
			t.Errorf("%s: got %+v, want the mode", cfg.Device, ack)
		}
	}
	took, memory := time.Since(began), resident(t)-before
	t.Logf("%d agents answered and obeyed after %v, with %.1f MB and %d goroutines", devicesMost, took, memory, runtime.NumGoroutine())
	if !raced && memory > 150 {
		t.Errorf("got %.1f MB, want at most 150", memory)
	}
	stop()
	running.Wait()
	for range devices {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// resident is how much memory this process has, in MB.
func resident(tb testing.TB) float64 {
	tb.Helper()
	debug.FreeOSMemory()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		tb.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	var kB float64
	if _, err := fmt.Sscan(rest, &kB); err != nil {
		tb.Fatal(err)
	}
	return kB / 1000
}
