//go:build torture

package agent_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent"
	"github.com/limber-edge/limber/agent/sim"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family/ort"
)

func TestR11_AGPUThatComesBackServesAgain(t *testing.T) {
	t.Parallel()
	addr, gone := serve(t), new(atomic.Bool)
	cfg := newGPUConfig(t, addr)
	o := operate(t, addr)
	d := start(t, cfg, ends(gone))
	o.servedBy(cfg, ort.CUDA)
	gone.Store(true)
	o.publish(self(cfg).Job("trigger"), job(t, patient, pngFrame(t, 0)))
	o.servedBy(cfg, ort.CPU)
	d.log.await(t, "execution provider still not usable", 1)
	gone.Store(false)
	o.servedBy(cfg, ort.CUDA)
	if r := o.ask(cfg, "after", `{"deadline_ms":600000}`); r.Status != wire.OK {
		t.Errorf("got %+v, want an answer", r)
	}
}

func TestABackendWithMoreThreadsServesWhileOthersLeaveProcessorsFree(t *testing.T) {
	t.Parallel()
	addr, m := serve(t), mustMachine(t)
	m.work(1, 0, 0)
	r := m.under()
	machine := r.alter
	r.alter = func(d *agent.Deps) { machine(d); d.Cores = 3 }
	r.inference = simulated(func(l *sim.Loader) {
		if l.On.Threads == 2 {
			l.Latency = func(i int) time.Duration { return time.Duration(i+1) * 100 * time.Microsecond }
		}
	})
	o, cfg, _ := online(t, addr, r)
	seconds, others := 1, 0
	threads := func(want, percent int) { // machine seconds pass with every message
		o.caps(cfg, func(c wire.Caps) bool {
			seconds++
			others += percent
			m.work(seconds, 0, others)
			return c.Profile != nil && c.Profile.Threads == want
		}, "%d threads while others use %d %% of the processors", want, percent)
	}
	threads(2, 0)
	o.tells(cfg, wire.EventProvider, "cpu/2 took over from cpu/1 with ")
	threads(1, 60)
	o.tells(cfg, wire.EventProvider, "cpu/1 took over from cpu/2 with ")
	if r := o.ask(cfg, "after", `{"deadline_ms":600000}`); r.Status != wire.OK {
		t.Errorf("got %+v, want an answer", r)
	}
}

// Only a new process helps: the one that runs the agent ends, after its farewell.
func TestR4_AnInferenceThatCannotBeInterruptedEndsTheAgent(t *testing.T) {
	t.Parallel()
	end := make(chan struct{})
	o, cfg, d := online(t, serve(t), rig{inference: simulated(func(l *sim.Loader) {
		l.Run = func(int, <-chan struct{}) error { <-end; return nil }
	})})
	opener(t, end)
	d.broken = true
	o.publish(self(cfg).Job("hangs"), job(t, patient, pngFrame(t, 0)))
	if err := d.wait(); !errors.Is(err, agent.ErrHung) || strings.Contains(err.Error(), "context") {
		t.Errorf("the agent ended with %v, want %v", err, agent.ErrHung)
	}
	o.presence(cfg, wire.Offline, 0)
}
