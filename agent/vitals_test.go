package agent_test

import (
	"math"
	"reflect"
	"testing"

	"github.com/limber-edge/limber/agent/wire"
)

func TestR3_AClockThatStepsDownShowsInTelemetry(t *testing.T) {
	t.Parallel()
	addr, m := serve(t), mustMachine(t)
	m.clock(2000, 2000)
	cfg := newConfig(t, addr)
	o := operate(t, addr)
	start(t, cfg, m.env())
	o.telemetry(cfg, func(s wire.Telemetry) bool {
		return s.ClockPercent != nil && *s.ClockPercent == 100 && s.Throttled != nil && !*s.Throttled
	}, "the clock is full")
	caps := decoded[wire.Caps](t, o.await(self(cfg).Caps(), 1))
	if want := (wire.Power{Modes: []string{"clock-100", "clock-75", "clock-50"}, Mode: "clock-100"}); caps.Power == nil || !reflect.DeepEqual(*caps.Power, want) {
		t.Errorf("got power modes %+v, want %+v", caps.Power, want)
	}
	m.clock(800, 800)
	o.telemetry(cfg, func(s wire.Telemetry) bool {
		return s.ClockPercent != nil && *s.ClockPercent == 40 && s.Throttled != nil && *s.Throttled
	}, "the clock is at 40 % and held there")
	m.clock(2000, 2000)
	o.telemetry(cfg, func(s wire.Telemetry) bool { return s.ClockPercent != nil && *s.ClockPercent == 100 && !*s.Throttled }, "it is full again")
}

func TestAnInferencesEnergyIsThatOfTheBoardWhileItIsMeasured(t *testing.T) {
	t.Parallel()
	addr, m := serve(t), mustMachine(t)
	m.rail(8)
	m.write("sys/devices/platform/gpu.0/load", 125)
	o, cfg, _ := online(t, addr, m.env())
	s := o.telemetry(cfg, func(s wire.Telemetry) bool { return s.GPUPercent != nil }, "the GPU's load is known")
	if *s.GPUPercent != 12.5 || s.PowerW == nil || math.Abs(*s.PowerW-8) > 0.01 || s.MemHeadroom == nil || *s.MemHeadroom != 50 {
		t.Errorf("got %s, want 12.5 %% of the GPU, 8 W and 50 %% of the memory", encoded(t, s))
	}
	if s.Joules != nil || s.CPUSeconds != nil {
		t.Errorf("got %+v without an inference, want no cost of one", s)
	}
	frame := job(t, patient, pngFrame(t, 0))
	for _, id := range ids("frame", 20) {
		o.publish(self(cfg).Job(id), frame)
	}
	s = o.telemetry(cfg, func(s wire.Telemetry) bool { return s.Joules != nil }, "an inference has its energy")
	if *s.Joules <= 0 || *s.Joules > 8 || s.CPUSeconds != nil {
		t.Errorf("got %v J and %v s, want some of 8 W and no proxy", *s.Joules, s.CPUSeconds)
	}
}

func TestAnInferencesCostIsProcessorTimeWhereNoEnergyIsMeasured(t *testing.T) {
	t.Parallel()
	o, cfg, _ := online(t, serve(t))
	frame, sent := job(t, patient, largePNG(t)), 0 // slow to decode
	s := o.telemetry(cfg, func(s wire.Telemetry) bool {
		if s.Jobs == uint64(sent) {
			sent++
			o.publish(self(cfg).Job(ids("frame", sent)[sent-1]), frame)
		}
		return s.Joules != nil || s.CPUSeconds != nil && *s.CPUSeconds > 0
	}, "an inference has its cost")
	if s.Joules != nil {
		t.Skipf("this machine measures its energy: %v J", *s.Joules)
	}
	if *s.CPUSeconds > 10 {
		t.Errorf("got %v s, want a plausible cost of one frame", *s.CPUSeconds)
	}
}
