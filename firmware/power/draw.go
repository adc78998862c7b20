package power

import "math"

// Draw learns what a board takes when no inference runs and what one adds, from
// intervals in which inferences ran for different shares of the time: a line
// through (share, watts), which forgets. What other programs take is, on
// average, part of what it takes without inferences. The zero Draw knows
// nothing.
type Draw struct {
	n, x, y, xx, xy float64 // sums over the intervals, the older the less
}

// How a Draw forgets and when it knows: a tenth of what it remembers is new
// after a minute of seconds, and shares must have differed by more than their
// noise, or there is no line.
const (
	drawMemory = 600.0       // intervals
	drawLeast  = 20.0        // intervals
	drawSpread = 0.05 * 0.05 // variance of the shares
)

// Add tells of an interval: the share of it in which inferences ran, in [0, 1],
// and the mean power, in watts.
func (d *Draw) Add(share, watts float64) {
	if !(share >= 0 && share <= 1 && watts >= 0) || math.IsInf(watts, 0) {
		return
	}
	const keep = 1 - 1/drawMemory
	d.n, d.x, d.y = keep*d.n+1, keep*d.x+share, keep*d.y+watts
	d.xx, d.xy = keep*d.xx+share*share, keep*d.xy+share*watts
}

// Split is the power without an inference and what one that runs adds, in watts;
// false as long as the intervals do not tell them apart.
func (d *Draw) Split() (idle, active float64, ok bool) {
	if d.n < drawLeast {
		return 0, 0, false
	}
	x, y := d.x/d.n, d.y/d.n
	spread := d.xx/d.n - x*x
	if spread < drawSpread {
		return 0, 0, false
	}
	active = (d.xy/d.n - x*y) / spread
	idle = y - active*x
	return idle, active, active > 0 && idle >= 0
}
