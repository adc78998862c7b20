package agent_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/sim"
)

// gate stands before the inferences of simulated members: a test lets through as
// many as it likes, and then all. So that none is taken for one that hangs, each gets
// through after a while.
type gate struct {
	tb     testing.TB
	passes chan struct{}
	opened chan struct{}
	open   func() // lets all through from now on
}

// gateMost is how long an inference waits: the watchdog of the pipeline interrupts one
// after five seconds.
const gateMost = 2 * time.Second

func newGate(tb testing.TB) *gate {
	g := &gate{tb: tb, passes: make(chan struct{}), opened: make(chan struct{})}
	g.open = sync.OnceFunc(func() { close(g.opened) })
	tb.Cleanup(g.open)
	return g
}

// pass returns when n more inferences have begun.
func (g *gate) pass(n int) {
	g.tb.Helper()
	late := time.After(patience)
	for i := range n {
		select {
		case g.passes <- struct{}{}:
		case <-late:
			g.tb.Fatalf("%d inferences have begun, want %d", i, n)
		}
	}
}

// rig is a device behind the gate.
func (g *gate) rig() rig { return rig{inference: simulated(func(l *sim.Loader) { l.Run = g.run })} }

// run is a sim.Loader's.
func (g *gate) run(_ int, interrupted <-chan struct{}) error {
	select {
	case <-g.passes:
	case <-g.opened:
	case <-time.After(gateMost):
	case <-interrupted:
		return errors.New("terminated")
	}
	return nil
}
