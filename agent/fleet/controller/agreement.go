package controller

import (
	"cmp"
	"maps"
	"math"
	"slices"

	"github.com/limber-edge/limber/agent/wire"
)

// Agreements are what devices found when they compared a family, in the order of those that
// somebody should look at first.
func Agreements(devices []wire.RolloutDevice) (all []wire.RolloutDevice) {
	for _, d := range devices {
		if d.Shadow != nil && d.Shadow.Frames > 0 {
			all = append(all, d)
		}
	}
	slices.SortStableFunc(all, func(a, b wire.RolloutDevice) int {
		return cmp.Compare(agreed(*a.Shadow), agreed(*b.Shadow))
	})
	return all
}

// agreed is the share of the frames, of which there are some.
func agreed(a wire.Agreement) float64 { return float64(a.Agreed) / float64(a.Frames) }

// Labelled is what the devices with a value of a label found, all together. Its p95 is the
// mean of theirs, by their frames.
type Labelled struct {
	Label   string `json:"label"`
	Value   string `json:"value"`
	Devices int    `json:"devices"`
	wire.Agreement
}

// add takes in what another device found.
func (l *Labelled) add(a wire.Agreement) {
	switch {
	case a.P95MS == nil:
	case l.P95MS == nil:
		l.P95MS = a.P95MS
	default:
		sum := *l.P95MS*float64(l.Frames) + *a.P95MS*float64(a.Frames)
		l.P95MS = new(sum / float64(l.Frames+a.Frames))
	}
	l.Devices++
	l.Frames, l.Agreed, l.Missed = l.Frames+a.Frames, l.Agreed+a.Agreed, l.Missed+a.Missed
	l.Agreement.Agreement = new(math.Round(1e6*agreed(l.Agreement)) / 1e6)
}

// Labels are those that operators gave a device.
type Labels func(device string) map[string]string

// Labels are those of a device of the fleet, where the Remote hears them.
func (r *Remote) Labels(device string) map[string]string { return r.Registry().Device(device).Labels }

// ByLabel are those of all labels that the devices have.
func ByLabel(devices []wire.RolloutDevice, of Labels) []Labelled {
	sums := map[[2]string]Labelled{}
	for _, d := range Agreements(devices) {
		for label, value := range of(d.Device) {
			key := [2]string{label, value}
			sum, known := sums[key]
			if !known {
				sum = Labelled{Label: label, Value: value}
			}
			sum.add(*d.Shadow)
			sums[key] = sum
		}
	}
	return slices.SortedFunc(maps.Values(sums), func(a, b Labelled) int {
		return cmp.Or(cmp.Compare(a.Label, b.Label), cmp.Compare(a.Value, b.Value))
	})
}

// ByUrgency compares devices of a rollout: those come first that are to be looked at sooner.
func ByUrgency(a, b wire.RolloutDevice) int {
	first := []string{wire.DeviceFailed, wire.DeviceTimedOut, wire.DeviceRolledBack, wire.DeviceRunning,
		wire.DeviceOffline, wire.DevicePending}
	rank := func(d wire.RolloutDevice) int {
		if i := slices.Index(first, d.State); i >= 0 {
			return i
		}
		return len(first)
	}
	return cmp.Compare(rank(a), rank(b))
}
