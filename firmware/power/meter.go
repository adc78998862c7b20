package power

import (
	"path/filepath"
	"strings"
	"time"
)

// meter turns readings into energy.
type meter struct {
	known    bool // the power is known now, or will be at the next reading
	at       time.Time
	watts    *float64           // of rails, at that time
	counters map[string]counter // of RAPL, at that time
}

// counter is the energy counter of a package, in microjoules.
type counter struct {
	value float64
	span  float64 // where it starts anew; 0 if unknown
}

// follow is the energy, in joules, since the last call: the mean of the power
// at both ends times the time. What passed while it was unknown is not counted.
func (m *meter) follow(now time.Time, watts *float64) (joules float64) {
	then, before := m.at, m.watts
	m.at, m.watts = now, watts
	m.known = watts != nil
	if watts == nil || before == nil || !now.After(then) {
		return 0
	}
	return (*before + *watts) / 2 * now.Sub(then).Seconds()
}

// count is the mean power and the energy, in joules, since the last call, of
// counters. There is no power before the second call, nor when the packages
// changed.
func (m *meter) count(now time.Time, counters map[string]counter) (watts *float64, joules float64) {
	then, before := m.at, m.counters
	m.at, m.counters = now, counters
	m.known = len(counters) > 0
	if len(counters) == 0 || len(before) != len(counters) || !now.After(then) {
		return nil, 0
	}
	for name, c := range counters {
		last, ok := before[name]
		if !ok {
			return nil, 0
		}
		used, ok := c.since(last)
		if !ok {
			return nil, 0
		}
		joules += used / 1e6
	}
	w := joules / now.Sub(then).Seconds()
	return &w, joules
}

// since is what was counted between two readings, across one new start.
func (c counter) since(last counter) (microjoules float64, ok bool) {
	used := c.value - last.value
	if used >= 0 {
		return used, true
	}
	used += c.span
	return used, c.span > 0 && used >= 0
}

// packages are RAPL's counters of whole packages, by zone. Their parts (core,
// uncore, dram) are in zones below; a zone named psys counts the packages a
// second time. Kernels since 5.10 let only root read them.
func (b *Board) packages() map[string]counter {
	var counters map[string]counter
	for _, zone := range b.glob("sys/class/powercap/intel-rapl:*") {
		name, ok := text(filepath.Join(zone, "name"))
		if !ok || !strings.HasPrefix(name, "package-") {
			continue
		}
		value, ok := number(filepath.Join(zone, "energy_uj"))
		if !ok || value < 0 {
			continue
		}
		span, _ := number(filepath.Join(zone, "max_energy_range_uj"))
		if counters == nil {
			counters = map[string]counter{}
		}
		counters[filepath.Base(zone)] = counter{value: value, span: span}
	}
	return counters
}
