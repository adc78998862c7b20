package monitor

import (
	"maps"
	"path/filepath"
	"strings"
	"time"
)

// heat is the sensors' last minute, at most one sample a second.
type heat struct {
	times []time.Time
	temps []map[string]float64 // °C by sensor
	first map[string]float64   // the first value of each sensor
	moved map[string]bool      // it had another one since
}

// How the trend is taken: a line through the last minute, once there are enough
// seconds of it to be told from noise.
const (
	trendSpan  = time.Minute
	trendLeast = 20 * time.Second
	trendPace  = time.Second
)

// trend notes the temperatures of now and returns the slope, in °C a minute.
func (h *heat) trend(now time.Time, temps map[string]float64) *float64 {
	if len(temps) == 0 {
		*h = heat{}
		return nil
	}
	if n := len(h.times); n == 0 || now.Sub(h.times[n-1]) >= trendPace {
		h.times, h.temps = append(h.times, now), append(h.temps, maps.Clone(temps))
		h.watch(temps)
	}
	for now.Sub(h.times[0]) > trendSpan {
		h.times, h.temps = h.times[1:], h.temps[1:]
	}
	times, hottest := h.hottest()
	if last := len(times) - 1; last < 0 || times[last].Sub(times[0]) < trendLeast {
		return nil
	}
	return tenths(slope(times, hottest))
}

// watch notes which sensors move.
func (h *heat) watch(temps map[string]float64) {
	if h.first == nil {
		h.first, h.moved = map[string]float64{}, map[string]bool{}
	}
	for name, t := range temps {
		if first, seen := h.first[name]; !seen {
			h.first[name] = t
		} else if t != first {
			h.moved[name] = true
		}
	}
}

// hottest is the hottest of the sensors that moved, or of all while none did, at
// the times at which there was one.
func (h *heat) hottest() (times []time.Time, temps []float64) {
	const none = -300 // °C
	for i, at := range h.times {
		hottest := float64(none)
		for name, t := range h.temps[i] {
			if h.moved[name] || len(h.moved) == 0 {
				hottest = max(hottest, t)
			}
		}
		if hottest > none {
			times, temps = append(times, at), append(temps, hottest)
		}
	}
	return times, temps
}

// slope is that of the line with the least squares, a minute.
func slope(times []time.Time, values []float64) float64 {
	var x, y, xx, xy float64
	n := float64(len(values))
	for i, v := range values {
		t := times[i].Sub(times[0]).Minutes()
		x, y, xx, xy = x+t, y+v, xx+t*t, xy+t*v
	}
	return (n*xy - x*y) / (n*xx - x*x)
}

// tripMargin is how near to its trip point a sensor is near, in °C.
const tripMargin = 5

// nearTrip tells whether a thermal zone is near a trip point at which the kernel
// slows something down (passive) or warns of a shutdown (hot); nil where no zone
// has such a point.
func nearTrip(root string) *bool {
	var near *bool
	for _, zone := range zones(root) {
		temp, ok := celsius(filepath.Join(zone, "temp"))
		if !ok {
			continue
		}
		kinds, _ := filepath.Glob(filepath.Join(zone, "trip_point_*_type"))
		for _, kind := range kinds {
			trip, ok := tripPoint(kind)
			if !ok {
				continue
			}
			if near == nil {
				near = new(bool)
			}
			*near = *near || temp >= trip-tripMargin
		}
	}
	return near
}

// tripPoint is the temperature, in °C, of a trip point of a kind that matters.
func tripPoint(kind string) (celsius float64, ok bool) {
	if k := sysText(kind); k != "passive" && k != "hot" {
		return 0, false
	}
	celsius, ok = milli(strings.TrimSuffix(kind, "_type") + "_temp")
	return celsius, ok && celsius > 0 // firmware without a value says 0 or absolute zero
}
