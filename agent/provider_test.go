package agent_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/config"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/sim"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/store"
)

var errGone = errors.New("CUDA failure 999: unknown error")

// ends makes a GPU on whose front are only the two ends of the family, and which
// fails while gone is set.
func ends(gone *atomic.Bool) rig {
	return rig{inference: simulated(func(l *sim.Loader) {
		if l.On.Provider != ort.CUDA {
			return
		}
		l.Latency = func(i int) time.Duration { return time.Duration(min(i, 1)+1) * time.Millisecond }
		fail := func() error {
			if gone.Load() {
				return errGone
			}
			return nil
		}
		l.Load = func(int) error { return fail() }
		l.Run = func(int, <-chan struct{}) error { return fail() }
	})}
}

// newGPUConfig is a device that prefers a GPU.
func newGPUConfig(tb testing.TB, broker string) config.Config {
	tb.Helper()
	cfg := newConfig(tb, broker)
	cfg.Runtime.Providers = []string{ort.CUDA, ort.CPU}
	return cfg
}

func TestAGPUTakesOverWhileTheCPUServes(t *testing.T) {
	t.Parallel()
	addr, prepare := serve(t), make(chan struct{})
	cfg := newGPUConfig(t, addr)
	o := operate(t, addr)
	start(t, cfg, rig{inference: simulated(func(l *sim.Loader) {
		if l.On.Provider == ort.CUDA {
			l.Latency = func(i int) time.Duration { return time.Duration(min(i, 1)+1) * time.Millisecond }
			l.Load = func(int) error { <-prepare; return nil }
		}
	})})
	goOn := opener(t, prepare)
	o.presence(cfg, wire.Online, 0)
	o.tells(cfg, wire.EventProgress, "cuda: preparing member 1 of 6; cpu serves")
	names, frame := ids("during", 20), job(t, patient, pngFrame(t, 0))
	for i, name := range names {
		if i == len(names)/2 {
			goOn()
		}
		o.publish(self(cfg).Job(name), frame)
	}
	o.tells(cfg, wire.EventProvider, "cuda took over from cpu with 2 members")
	o.publish(self(cfg).Job("after"), frame)
	for _, name := range append(names, "after") {
		if r := o.result(cfg, name, 1); r.Status != wire.OK || o.identical(cfg, name) != 1 {
			t.Errorf("%s: got %+v %d times, want one answer", name, r, o.identical(cfg, name))
		}
	}
	if caps := o.servedBy(cfg, ort.CUDA); len(caps.Members) != 2 {
		t.Errorf("got %+v, want the front of cuda, two members", caps.Members)
	}
	o.obeyed(cfg, "mode", "m1", `{"mode":"fixed:5.8M","ttl_ms":60000}`)
	ack := o.command(cfg, cfg.Device, "mode", "m2", `{"mode":"fixed:9.7M","ttl_ms":60000}`)
	if ack.State != wire.CommandRejected {
		t.Errorf("a mode of a member that only the CPU had on its front: got %+v", ack)
	}
	answered := uint64(len(names) + 1)
	o.telemetry(cfg, func(s wire.Telemetry) bool {
		return s.Jobs == answered && s.Mode == "fixed:5.8M"
	}, "the jobs of the backend before are counted, too")
}

func TestTheCPUServesWhereTheLibraryHasNoOtherProvider(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	cfg := newRealConfig(t, addr)
	cfg.Runtime.Providers = []string{ort.TensorRT, ort.CUDA, ort.CPU}
	o := operate(t, addr)
	start(t, cfg, real(cfg))
	for _, name := range []string{"tensorrt", "cuda"} {
		e := o.tells(cfg, wire.EventProvider, name+" is given up")
		if !strings.Contains(e.Detail, "ONNXRUNTIME_LIB") || !strings.Contains(e.Detail, "cpu serves") {
			t.Errorf("got %+v, want the remedy, and who serves", e)
		}
	}
	if r := o.ask(cfg, "frame", `{"deadline_ms":600000}`); r.Status != wire.OK {
		t.Errorf("got %+v, want an answer", r)
	}
}

func TestR11_AGPUThatDisappearsIsReplacedByTheCPUAndNoJobIsLost(t *testing.T) {
	t.Parallel()
	addr, gone := serve(t), new(atomic.Bool)
	cfg := newGPUConfig(t, addr)
	o := operate(t, addr)
	start(t, cfg, ends(gone))
	o.servedBy(cfg, ort.CUDA)
	gone.Store(true)
	names, frame := ids("frame", 20), job(t, patient, pngFrame(t, 0))
	for _, id := range names {
		o.publish(self(cfg).Job(id), frame)
	}
	o.servedBy(cfg, ort.CPU)
	for _, id := range names {
		if r := o.result(cfg, id, 1); r.Status != wire.OK || r.Classes[0].Label == "" || o.identical(cfg, id) != 1 {
			t.Errorf("%s: got %+v, want one answer", id, r)
		}
	}
	o.tells(cfg, wire.EventProvider, "cuda failed")
	alarms := slices.DeleteFunc(o.matching(self(cfg).Event(wire.SeverityError)), func(m mqtt.Message) bool {
		return decoded[wire.Event](t, m).Kind != wire.EventProvider // such as that of a broker that waits for a processor
	})
	if e := decoded[wire.Event](t, alarms[0]); len(alarms) != 1 || e.Count > 1 ||
		!strings.Contains(e.Detail, "cuda failed: CUDA failure 999") ||
		!strings.Contains(e.Detail, "cpu serves, the next attempt is in 5s") {
		t.Errorf("got %d alarms, first %+v; want one", len(alarms), e)
	}
}

// The GPU has not the member that the operator fixed; the CPU has it.
func TestTheOperatorsMemberIsObeyedAgainAfterAProviderThatHadItNot(t *testing.T) {
	t.Parallel()
	addr, gone := serve(t), new(atomic.Bool)
	cfg := newGPUConfig(t, addr)
	mustEdit(t, cfg, func(st *store.Store) error {
		return st.SetCell("mode", []byte(`{"mode":"fixed:9.7M","set":"2026-01-01T00:00:00Z"}`))
	})
	o := operate(t, addr)
	start(t, cfg, ends(gone))
	o.servedBy(cfg, ort.CUDA)
	o.tells(cfg, wire.EventFault, "mode fixed:9.7M: 9.7M is not among the members in use on cuda")
	if r := o.ask(cfg, "stand-in", `{"deadline_ms":600000}`); r.Status != wire.OK || r.Member == "9.7M" {
		t.Errorf("on cuda: got %+v, want an answer by another member", r)
	}
	gone.Store(true)
	o.publish(self(cfg).Job("trigger"), job(t, patient, pngFrame(t, 0)))
	o.servedBy(cfg, ort.CPU)
	o.answeredBy(cfg, "9.7M")
	o.telemetry(cfg, func(s wire.Telemetry) bool { return s.Mode == "fixed:9.7M" }, "the operator's mode is in force")
	for i := range 5 {
		if r := o.ask(cfg, fmt.Sprintf("after-%d", i), `{"deadline_ms":600000}`); r.Member != "9.7M" {
			t.Errorf("got an answer by %s, want 9.7M, which the operator fixed", r.Member)
		}
	}
}

// A provider is ready to take over, and an operator waits for a mode: both wait for
// the inference that runs, and nobody else does.
func TestTheReaderWaitsForNoInferenceAndNoHandOver(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	cfg := newGPUConfig(t, addr)
	o := operate(t, addr)
	var slow atomic.Bool
	began, end, prepare := make(chan struct{}), make(chan struct{}), make(chan struct{})
	start(t, cfg, rig{inference: simulated(func(l *sim.Loader) {
		if l.On.Provider == ort.CUDA {
			l.Load = func(int) error { <-prepare; return nil }
			return
		}
		l.Run = func(int, <-chan struct{}) error {
			if slow.CompareAndSwap(true, false) {
				close(began)
				<-end
			}
			return nil
		}
	})})
	goOn, finish := opener(t, prepare), opener(t, end)
	o.front(cfg)
	if r := o.ask(cfg, "warm", `{"deadline_ms":600000}`); r.Status != wire.OK {
		t.Fatalf("got %+v", r)
	}
	o.tells(cfg, wire.EventProgress, "cuda: preparing member 1 of 6") // all of the CPU's are loaded
	slow.Store(true)
	frame := job(t, patient, pngFrame(t, 0))
	o.publish(self(cfg).Job("slow"), frame)
	<-began
	o.publish(self(cfg).Cmd("mode", "m1"), []byte(`{"mode":"fixed:5.8M","ttl_ms":60000}`))
	o.until(func() bool { return slices.Contains(o.steps(cfg, "mode", "m1"), wire.CommandExecuting) },
		"the mode is being set")
	goOn()
	o.publish(self(cfg).Job("behind"), frame)
	o.publish(self(cfg).Job("garbage"), []byte("no frame"))
	if r := o.result(cfg, "garbage", 1); r.Reason != wire.Invalid {
		t.Errorf("garbage: got %+v, want it refused: invalid", r)
	}
	if len(o.matching(self(cfg).Result("slow"))) > 0 {
		t.Error("the reader waited for the inference that runs")
	}
	finish()
	for _, id := range []string{"slow", "behind"} {
		if r := o.result(cfg, id, 1); r.Status != wire.OK {
			t.Errorf("%s: got %+v, want an answer", id, r)
		}
	}
	if ack := o.final(self(cfg).Ack("mode", "m1"), 0); ack.State != wire.CommandSucceeded {
		t.Errorf("the mode: got %+v", ack)
	}
	o.servedBy(cfg, ort.CUDA)
	o.telemetry(cfg, func(s wire.Telemetry) bool { return s.Mode == "fixed:5.8M" }, "the mode is in force on cuda")
}
