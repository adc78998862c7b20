// Package host tells what the machine and its board are like, for telemetry, and what
// an inference costs of them.
//
//	monitor.Machine ── shares, memory, heat ─┐
//	power.Board ────── watts, joules, clocks ┴▶ Stats ─▶ telemetry, and the governor's power
//
// Energy is summed between readings, and split in what the board takes anyway and what
// an inference adds, by how long inferences ran meanwhile.
package host

import (
	"math"
	"time"

	"github.com/limber-edge/limber/agent/monitor"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/firmware/power"
)

// Stats are what the machine and its board say of themselves. They belong to one
// goroutine.
type Stats struct {
	machine *monitor.Machine
	seen    monitor.Mark // of the machine, at the last telemetry
	board   *power.Board
	reading power.Reading // the last one
	told    cost          // at the last telemetry
	last    cost          // at the last reading that taught draw something
	busy    time.Duration // that inferences had taken, at that time
	draw    power.Draw
}

// cost is what was spent up to a time. What is unknown is nil.
type cost struct {
	at     time.Time
	joules *float64 // J of the whole board
	cpu    *float64 // s of processors that the agent used
}

// New begins the first interval.
func New(machine *monitor.Machine, board *power.Board) *Stats {
	h := &Stats{machine: machine, board: board}
	var s monitor.Sample
	s, h.seen = machine.Sample(h.seen) // the next one tells of the time in between
	h.Sample(0)
	h.told = cost{h.reading.At, h.reading.Joules, s.OwnSeconds}
	return h
}

// sampleLeast is the shortest interval that says something of power: RAPL's
// counters move in steps of a millisecond, and a frame is inferred in some.
const sampleLeast = 500 * time.Millisecond

// Sample reads the board; busy is how long all inferences took since the start.
// Energy is summed between readings: the more there are, the better is it known.
func (h *Stats) Sample(busy time.Duration) {
	h.reading = h.board.Read(time.Now())
	since := h.reading.At.Sub(h.last.at)
	if since < sampleLeast {
		return
	}
	if from, to := h.last.joules, h.reading.Joules; from != nil && to != nil && busy >= h.busy {
		h.draw.Add(min(1, (busy-h.busy).Seconds()/since.Seconds()), (*to-*from)/since.Seconds())
	}
	h.last, h.busy = cost{at: h.reading.At, joules: h.reading.Joules}, busy
}

// Fill writes everything known into t. answered is how many frames were answered
// with classes since the last telemetry, busy how long all inferences took since
// the start.
func (h *Stats) Fill(t *wire.Telemetry, answered uint64, busy time.Duration) {
	var s monitor.Sample
	s, h.seen = h.machine.Sample(h.seen)
	h.Sample(busy)
	t.CPUPercent, t.OthersPercent, t.Pressure, t.Load1 = s.CPUPercent, s.OthersPercent, s.Pressure, s.Load1
	t.MemPercent, t.MemHeadroom, t.MemPressure = s.MemPercent, s.Headroom, s.Stalled
	t.TempsC, t.TempTrend, t.NearTrip = s.TempsC, s.Trend, s.NearTrip
	t.GPUPercent, t.ClockPercent, t.Throttled = h.reading.GPUPercent, rounded(h.reading.ClockPercent, 10), h.reading.Capped
	now := cost{h.reading.At, h.reading.Joules, s.OwnSeconds}
	t.PowerW = rounded(h.watts(now), 1000)
	t.Joules = rounded(each(h.told.joules, now.joules, answered), 1e6)
	if now.joules == nil {
		t.CPUSeconds = rounded(each(h.told.cpu, now.cpu, answered), 1e6)
	}
	h.told = now
	if idle, active, ok := h.draw.Split(); ok {
		t.IdleW, t.ActiveW = rounded(&idle, 1000), rounded(&active, 1000)
	}
}

// watts are the mean since the last telemetry: that of a moment says little of
// bursts, and RAPL has none. Where there is no mean yet it is that of now.
func (h *Stats) watts(now cost) *float64 {
	seconds := now.at.Sub(h.told.at).Seconds()
	if h.reading.Watts == nil || now.joules == nil || h.told.joules == nil || seconds <= 0 {
		return h.reading.Watts
	}
	return new((*now.joules - *h.told.joules) / seconds)
}

// each is the share of every one of n frames in what was spent between two times.
func each(from, to *float64, n uint64) *float64 {
	if from == nil || to == nil || *to < *from || n == 0 {
		return nil
	}
	return new((*to - *from) / float64(n))
}

// rounded is v to so many parts of one.
func rounded(v *float64, parts float64) *float64 {
	if v == nil {
		return nil
	}
	return new(math.Round(*v*parts) / parts)
}

// Split is the power of the board without an inference and what one that runs adds, in
// watts; false as long as that is not known.
func (h *Stats) Split() (idle, active float64, ok bool) { return h.draw.Split() }
