//go:build torture

package sim_test

import (
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/sim"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/broker-config/natstest"
)

// What the race detector cannot do: it takes some 8,000 goroutines, and a thousand devices
// have 41,000; and three nodes of NATS that it watches answer too late.

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

// TestTwoHundredDevicesAreSparedAFamilyThatMissesDeadlines has evidence wait as well.
func TestTwoHundredDevicesAreSparedAFamilyThatMissesDeadlines(t *testing.T) { rolledOut(t, 200, 2) }

// TestABadReleaseSparesNinetyNineDevicesAndAGoodOneReachesAHundred is the short test with
// ten times as many devices.
func TestABadReleaseSparesNinetyNineDevicesAndAGoodOneReachesAHundred(t *testing.T) {
	releasesRolledOut(t, 100)
}

// TestAFleetOutlivesANodeOfItsCluster kills one of three: whoever was connected to it
// comes to another one. The devices start one after the other: NATS makes a consumer on
// all nodes for each subscription, and refuses some of those that come in a rush.
func TestAFleetOutlivesANodeOfItsCluster(t *testing.T) {
	const n = 30
	var names []string
	node := map[string]int{}
	for i := range n {
		names, node[sim.Name(i)] = append(names, sim.Name(i)), i%natstest.Nodes
	}
	c := natstest.Start(t, names)
	cfg := config(t, n, mqtt.Broker{})
	cfg.Ramp = 20 * time.Second
	cfg.Broker = func(device string) mqtt.Broker { return c.Broker(device, node[device]) }
	o := mustOperator(t, c.Broker(wire.Operator, 1))
	began := time.Now()
	begin(t, cfg)
	await(t, o, func(s sim.Seen) bool { return s.Online == n })
	t.Logf("%d births seen after %v", n, time.Since(began))
	t.Logf("a mode to all after %v", mode(t, o, n, "max-accuracy"))
	killed := time.Now()
	c.Kill(0)
	for !obeyed(t, o, n, "balanced") { // while leaders are chosen anew, the operator may be off as well
		if time.Since(killed) > 2*patience {
			t.Fatal("the fleet does not obey any more")
		}
	}
	t.Logf("all obey %v after a node was killed", time.Since(killed))
}

// obeyed tells whether all devices took a mode.
func obeyed(tb testing.TB, o *fleet.Client, n int, mode string) bool {
	tb.Helper()
	outcomes, err := o.Command(tb.Context(), wire.DefaultFleet, wire.Everybody, wire.Command{Mode: mode}, 20*time.Second)
	tb.Logf("%d outcomes, %v", len(outcomes), err)
	if err != nil {
		if _, err := o.Connection(tb.Context(), 0); err != nil {
			tb.Fatal(err)
		}
	}
	return err == nil && len(outcomes) == n &&
		!slices.ContainsFunc(outcomes, func(o fleet.Outcome) bool { return o.State != wire.CommandSucceeded })
}
