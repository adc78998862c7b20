package agent_test

import (
	"math"
	"reflect"
	"testing"

	"github.com/limber-edge/limber/agent/config"
	"github.com/limber-edge/limber/agent/sim"
	"github.com/limber-edge/limber/agent/wire"
)

func TestR3_AClockThatStepsDownShowsInTelemetry(t *testing.T) {
	t.Parallel()
	addr, m := serve(t), mustMachine(t)
	m.clock(2000, 2000)
	o, cfg, _ := online(t, addr, m.under())
	o.telemetry(cfg, func(s wire.Telemetry) bool {
		return s.ClockPercent != nil && *s.ClockPercent == 100 && s.Throttled != nil && !*s.Throttled
	}, "the clock is full")
	caps := o.caps(cfg, func(wire.Caps) bool { return true }, "any")
	want := wire.Power{Modes: []string{"clock-100", "clock-75", "clock-50"}, Mode: "clock-100", List: []wire.PowerMode{
		{Name: "clock-100", Reboot: wire.RebootNone}, {Name: "clock-75", ID: 1, Reboot: wire.RebootNone},
		{Name: "clock-50", ID: 2, Reboot: wire.RebootNone}}}
	if caps.Power == nil || !reflect.DeepEqual(*caps.Power, want) {
		t.Errorf("got power modes %+v, want %+v", caps.Power, want)
	}
	m.clock(800, 800)
	o.telemetry(cfg, func(s wire.Telemetry) bool {
		return s.ClockPercent != nil && *s.ClockPercent == 40 && s.Throttled != nil && *s.Throttled
	}, "the clock is at 40 % and held there")
	m.clock(2000, 2000)
	o.telemetry(cfg, func(s wire.Telemetry) bool {
		return s.ClockPercent != nil && *s.ClockPercent == 100 && !*s.Throttled
	}, "it is full again")
}

func TestAnInferencesEnergyIsThatOfTheBoardWhileItIsMeasured(t *testing.T) {
	t.Parallel()
	addr, m := serve(t), mustMachine(t)
	m.rail(8)
	m.write("sys/devices/platform/gpu.0/load", 125)
	o, cfg, _ := online(t, addr, m.under())
	s := o.telemetry(cfg, func(s wire.Telemetry) bool { return s.GPUPercent != nil }, "the GPU's load is known")
	if *s.GPUPercent != 12.5 || s.PowerW == nil || math.Abs(*s.PowerW-8) > 0.01 ||
		s.MemHeadroom == nil || *s.MemHeadroom != 50 {
		t.Errorf("got %s, want 12.5 %% of the GPU, 8 W and 50 %% of the memory", encoded(t, s))
	}
	if s.Joules != nil || s.CPUSeconds != nil {
		t.Errorf("got %+v without an inference, want no cost of one", s)
	}
	s = o.cost(cfg, func(s wire.Telemetry) bool { return s.Joules != nil && *s.Joules > 0 })
	if *s.Joules > 8*10 || s.CPUSeconds != nil { // of ten seconds, on a busy machine
		t.Errorf("got %v J and %v s, want some of 8 W and no proxy", *s.Joules, s.CPUSeconds)
	}
}

func TestAnInferencesCostIsProcessorTimeWhereNoEnergyIsMeasured(t *testing.T) {
	t.Parallel()
	m := mustMachine(t)
	m.work(1, 0, 0)
	r, spent := m.under(), 0
	r.inference = simulated(func(l *sim.Loader) {
		l.Run = func(int, <-chan struct{}) error { // one after the other
			spent += 200
			m.work(1+spent, spent, 0)
			return nil
		}
	})
	o, cfg, _ := online(t, serve(t), r)
	s := o.cost(cfg, func(s wire.Telemetry) bool { return s.CPUSeconds != nil && *s.CPUSeconds > 0 })
	if *s.CPUSeconds > 4 || s.Joules != nil { // a frame before may have fallen into two intervals
		t.Errorf("got %v s and %v J, want about 2 s", *s.CPUSeconds, s.Joules)
	}
}

// cost sends one frame after the other until telemetry has what one cost: only that of
// the interval in which one was answered has it.
func (o *operator) cost(cfg config.Config, known func(wire.Telemetry) bool) wire.Telemetry {
	o.tb.Helper()
	frame, sent := job(o.tb, patient, pngFrame(o.tb, 0)), 0
	return o.telemetry(cfg, func(s wire.Telemetry) bool {
		if s.Jobs == uint64(sent) {
			sent++
			o.publish(self(cfg).Job(ids("frame", sent)[sent-1]), frame)
		}
		return known(s)
	}, "an inference has its cost")
}
