//go:build torture

package sim_test

import (
	"runtime"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/sim"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/broker-config/natstest"
)

// TestAThousandBirthsAreSeenAndAModeIsAnsweredByAll is of 1,000 devices on two cores.
func TestAThousandBirthsAreSeenAndAModeIsAnsweredByAll(t *testing.T) {
	const n = 1000
	at := mustBroker(t)
	o := mustOperator(t, at)
	began := time.Now()
	begin(t, config(t, n, at))
	await(t, o, func(s sim.Seen) bool { return s.Online == n && s.Births == n })
	t.Logf("%d births seen after %v", n, time.Since(began))
	for _, m := range []string{"max-accuracy", "balanced"} {
		t.Logf("mode %s to all after %v", m, mode(t, o, n, m))
	}
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	t.Logf("%d KiB a device on the heap, and %d of stacks, with broker and operator; %d goroutines",
		m.HeapAlloc>>10/n, m.StackInuse>>10/n, runtime.NumGoroutine()/n)
}

// TestAFleetOutlivesANodeOfItsCluster kills one of three: whoever was connected to it
// comes to another one.
func TestAFleetOutlivesANodeOfItsCluster(t *testing.T) {
	const n = 200
	var names []string
	node := map[string]int{}
	for i := range n {
		names, node[sim.Name(i)] = append(names, sim.Name(i)), i%natstest.Nodes
	}
	c := natstest.Start(t, names)
	cfg := config(t, n, mqtt.Broker{})
	cfg.Broker = func(device string) mqtt.Broker { return c.Broker(device, node[device]) }
	o := mustOperator(t, c.Broker(wire.Operator, 1))
	begin(t, cfg)
	await(t, o, func(s sim.Seen) bool { return s.Online == n })
	mode(t, o, n, "max-accuracy")
	c.Kill(0)
	away := false
	await(t, o, func(s sim.Seen) bool {
		away = away || s.Online < n
		return away && s.Online == n
	})
	mode(t, o, n, "balanced")
}
