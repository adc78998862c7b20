package monitor

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// heat is the hottest sensor's last minute, at most one value a second.
type heat struct {
	times []time.Time
	temps []float64 // °C
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
		hottest := -300.0
		for _, t := range temps {
			hottest = max(hottest, t)
		}
		h.times, h.temps = append(h.times, now), append(h.temps, hottest)
	}
	for now.Sub(h.times[0]) > trendSpan {
		h.times, h.temps = h.times[1:], h.temps[1:]
	}
	if last := len(h.times) - 1; h.times[last].Sub(h.times[0]) < trendLeast {
		return nil
	}
	return tenths(slope(h.times, h.temps))
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
	zones, _ := filepath.Glob(filepath.Join(root, "sys/class/thermal/thermal_zone*")) // the pattern is well formed
	var near *bool
	for _, zone := range zones {
		temp, ok := milli(filepath.Join(zone, "temp"))
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
	b, err := os.ReadFile(kind)
	if k := strings.TrimSpace(string(b)); err != nil || k != "passive" && k != "hot" {
		return 0, false
	}
	celsius, ok = milli(strings.TrimSuffix(kind, "_type") + "_temp")
	return celsius, ok && celsius > 0 // firmware without a value says 0 or absolute zero
}

// milli reads a file of thousandths.
func milli(path string) (float64, bool) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	return float64(n) / 1000, err == nil
}
