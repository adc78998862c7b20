package rollout

import (
	"math"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/wire"
)

// hour is how far Evidence goes back.
const hour = time.Hour

// slots are how many minutes Evidence keeps of a device: more than an hour has, as
// cuts make some of them short.
const slots = 64

// Evidence is what the devices answered in the last hour, in minutes, as their telemetry
// tells: some 1.6 KiB of a device, of up to fleet.MaxDevices. It is of the memory alone:
// after a restart of the controller it begins anew. It is not for several goroutines at
// once.
type Evidence struct {
	devices map[string]*history
}

// history is that of one device.
type history struct {
	boot string
	at   time.Time // of the last telemetry
	last counters
	cut  bool // what follows is of a minute of its own

	ring  [slots]minute
	first int // of the ring
	count int
}

// framesMost is how many frames a second a device may have answered: counters that say more
// are broken, and would be all the evidence there is.
const framesMost = 50_000

// counters are those of telemetry: they begin at 0 with each boot.
type counters struct{ jobs, answered, missed uint64 }

// minute is what was answered from start on, for a minute at most.
type minute struct {
	start  int64 // Unix time, ms
	frames uint32
	missed uint32
	timed  uint32  // frames, where a p95 is known
	p95    float32 // of infer, ms: the mean of intervals, by their frames
}

// tally is what devices answered in some time.
type tally struct {
	Frames uint64  `json:"f,omitempty"`
	Missed uint64  `json:"m,omitempty"` // of these
	Timed  uint64  `json:"t,omitempty"` // of these, where a p95 is known
	P95MS  float64 `json:"p,omitempty"` // of infer: the mean of intervals, by their frames
}

// NewEvidence has none yet.
func NewEvidence() *Evidence { return &Evidence{devices: map[string]*history{}} }

// Take takes the telemetry of a device, received now, that runs since boot (the one that
// its state names). The first of a device only says where its counters stand; after that
// it counts what they grew by, or all that they have where they began anew.
func (e *Evidence) Take(device, boot string, t *wire.Telemetry, now time.Time) {
	h, known := e.devices[device]
	is := counters{jobs: t.Jobs, missed: t.Missed}
	if gone := t.Refused + t.Superseded + uint64(max(0, t.Queue)); gone < t.Jobs {
		is.answered = t.Jobs - gone
	}
	switch {
	case known && !now.Before(h.at):
		h.take(boot, is, t.P95MS, now)
	case !known && len(e.devices) < fleet.MaxDevices:
		e.devices[device] = &history{boot: boot, at: now, last: is}
	}
}

// Forget forgets a device.
func (e *Evidence) Forget(device string) { delete(e.devices, device) }

// take counts what was answered since the last telemetry, as of the time of that: so a
// minute has nothing that was answered before it began.
func (h *history) take(boot string, is counters, p95 *float64, now time.Time) {
	since, was := h.at, h.last
	if boot != h.boot || is.jobs < was.jobs {
		was = counters{}
	}
	// answered falls when what had been counted is refused after all: what it then gains
	// was counted before
	is.answered = max(is.answered, was.answered)
	frames := clamp(is.answered - was.answered)
	was.missed = min(is.missed, was.missed)
	missed := clamp(min(is.missed-was.missed, uint64(frames)))
	// a frame counts once it is taken up, its miss once it was answered: with the next ones
	is.missed = was.missed + uint64(missed)
	h.boot, h.at, h.last = boot, now, is
	if frames == 0 {
		return
	}
	m := h.minute(since)
	span := now.Sub(time.UnixMilli(m.start)) + time.Minute // telemetry that was held up comes all at once
	if float64(m.frames)+float64(frames) > span.Seconds()*framesMost {
		return
	}
	m.frames, m.missed = clamp(uint64(m.frames)+uint64(frames)), clamp(uint64(m.missed)+uint64(missed))
	if p95 != nil && *p95 >= 0 && *p95 <= math.MaxFloat32 {
		sum := float64(m.p95)*float64(m.timed) + *p95*float64(frames)
		m.timed = clamp(uint64(m.timed) + uint64(frames))
		m.p95 = float32(sum / float64(m.timed))
	}
}

// minute is the one that an interval begun at since belongs to.
func (h *history) minute(since time.Time) *minute {
	if h.count > 0 && !h.cut {
		m := &h.ring[(h.first+h.count-1)%slots]
		switch age := since.UnixMilli() - m.start; {
		case age < 0: // the clock was put back: what is known would be of hours to come
			h.first, h.count = 0, 0
		case age < time.Minute.Milliseconds():
			return m
		}
	}
	h.cut = false
	if h.count == slots {
		h.first, h.count = (h.first+1)%slots, slots-1
	}
	m := &h.ring[(h.first+h.count)%slots]
	*m = minute{start: since.UnixMilli()}
	h.count++
	return m
}

// of is what a device answered in intervals that began from since on, in the hour before
// now. It has what comes next be kept apart from what began before since.
func (e *Evidence) of(device string, since, now time.Time) (t tally) {
	h, ok := e.devices[device]
	if !ok {
		return t
	}
	if last := (h.first + h.count - 1 + slots) % slots; h.count > 0 && h.ring[last].start < since.UnixMilli() {
		h.cut = true
	}
	from := max(since.UnixMilli(), now.Add(-hour).UnixMilli())
	sum := 0.0 // of p95, by frames
	for i := range h.count {
		if m := &h.ring[(h.first+i)%slots]; m.start >= from {
			t.Frames += uint64(m.frames)
			t.Missed += uint64(m.missed)
			t.Timed += uint64(m.timed)
			sum += float64(m.p95) * float64(m.timed)
		}
	}
	if t.Timed > 0 {
		t.P95MS = digits(sum / float64(t.Timed))
	}
	return t
}

// add takes in what others answered.
func (t *tally) add(o tally) {
	t.Frames += o.Frames
	t.Missed += o.Missed
	if o.Timed > 0 {
		t.P95MS = (t.P95MS*float64(t.Timed) + o.P95MS*float64(o.Timed)) / float64(t.Timed+o.Timed)
		t.Timed += o.Timed
	}
}

// value is the figure that a gate looks at, and the frames that it is of.
func (t tally) value(gate string) (v float64, frames uint64) {
	if gate == wire.GateP95 {
		return t.P95MS, t.Timed
	}
	if t.Frames == 0 {
		return 0, 0
	}
	return float64(t.Missed) / float64(t.Frames), t.Frames
}

func clamp(n uint64) uint32 { return uint32(min(n, math.MaxUint32)) }
