package agent

import (
	"math"
	"time"

	"github.com/limber-edge/limber/agent/monitor"
	"github.com/limber-edge/limber/agent/pipeline"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/firmware/power"
)

// vitals are what the machine and its board say of themselves, for telemetry,
// and what an inference costs of them. They belong to one goroutine.
type vitals struct {
	machine *monitor.Machine
	seen    monitor.Mark // of the machine, at the last telemetry
	board   *power.Board
	reading power.Reading // the last one
	told    cost          // at the last telemetry
	felt    cost          // at the last reading that taught draw something
	busy    time.Duration // that inferences had taken, at that time
	draw    power.Draw
	counted pipeline.Snapshot // at the last telemetry
}

// cost is what was spent up to a time. What is unknown is nil.
type cost struct {
	at     time.Time
	joules *float64 // J of the whole board
	cpu    *float64 // s of processors that the agent used
}

func newVitals(machine *monitor.Machine, board *power.Board) *vitals {
	v := &vitals{machine: machine, board: board}
	var s monitor.Sample
	s, v.seen = machine.Sample(v.seen) // the next one tells of the time in between
	v.feel(0)
	v.told = cost{v.reading.At, v.reading.Joules, s.OwnSeconds}
	return v
}

// feelLeast is the shortest interval that says something of power: RAPL's
// counters move in steps of a millisecond, and a frame is inferred in some.
const feelLeast = 500 * time.Millisecond

// feel reads the board; busy is how long all inferences took since the start.
// Energy is summed between readings: the more there are, the better is it known.
func (v *vitals) feel(busy time.Duration) {
	v.reading = v.board.Read(time.Now())
	since := v.reading.At.Sub(v.felt.at)
	if since < feelLeast {
		return
	}
	if from, to := v.felt.joules, v.reading.Joules; from != nil && to != nil && busy >= v.busy {
		v.draw.Add(min(1, (busy-v.busy).Seconds()/since.Seconds()), (*to-*from)/since.Seconds())
	}
	v.felt, v.busy = cost{at: v.reading.At, joules: v.reading.Joules}, busy
}

// tell writes everything known into t. answered is how many frames were answered
// with classes since the last telemetry, busy how long all inferences took since
// the start.
func (v *vitals) tell(t *wire.Telemetry, answered int, busy time.Duration) {
	var s monitor.Sample
	s, v.seen = v.machine.Sample(v.seen)
	v.feel(busy)
	t.CPUPercent, t.OthersPercent, t.Pressure, t.Load1 = s.CPUPercent, s.OthersPercent, s.Pressure, s.Load1
	t.MemPercent, t.MemHeadroom, t.MemPressure = s.MemPercent, s.Headroom, s.Stalled
	t.TempsC, t.TempTrend, t.NearTrip = s.TempsC, s.Trend, s.NearTrip
	t.GPUPercent, t.ClockPercent, t.Throttled = v.reading.GPUPercent, rounded(v.reading.ClockPercent, 10), v.reading.Capped
	now := cost{v.reading.At, v.reading.Joules, s.OwnSeconds}
	t.PowerW = rounded(v.watts(now), 1000)
	t.Joules = rounded(each(v.told.joules, now.joules, answered), 1e6)
	if now.joules == nil {
		t.CPUSeconds = rounded(each(v.told.cpu, now.cpu, answered), 1e6)
	}
	v.told = now
	if idle, active, ok := v.draw.Split(); ok {
		t.IdleW, t.ActiveW = rounded(&idle, 1000), rounded(&active, 1000)
	}
}

// watts are the mean since the last telemetry: that of a moment says little of
// bursts, and RAPL has none. Where there is no mean yet it is that of now.
func (v *vitals) watts(now cost) *float64 {
	seconds := now.at.Sub(v.told.at).Seconds()
	if v.reading.Watts == nil || now.joules == nil || v.told.joules == nil || seconds <= 0 {
		return v.reading.Watts
	}
	mean := (*now.joules - *v.told.joules) / seconds
	return &mean
}

// each is the share of every one of n frames in what was spent between two times.
func each(from, to *float64, n int) *float64 {
	if from == nil || to == nil || *to < *from || n == 0 {
		return nil
	}
	share := (*to - *from) / float64(n)
	return &share
}

// rounded is v to so many parts of one.
func rounded(v *float64, parts float64) *float64 {
	if v == nil {
		return nil
	}
	r := math.Round(*v*parts) / parts
	return &r
}
