package dash

import (
	"math"
	"slices"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/wire"
)

// fleetNews adds what changed of the list of devices.
func (st *stream) fleetNews(m *message) {
	if st.ask.wrong != nil {
		m.WhereError = fresh(st.told, "where", *st.ask.wrong)
		return
	}
	st.ranking.Update()
	m.Counts = fresh(st.told, "counts", st.counts())
	if st.ask.to == 0 || st.ask.rollout != "" {
		return
	}
	names, shown := []string{}, map[string]uint64{}
	m.Tiles = map[string]*tile{}
	for _, d := range st.window() {
		names, shown[d.Name] = append(names, d.Name), d.Change
		if st.tiles[d.Name] == d.Change {
			continue
		}
		if t := fresh(st.told, "tile "+d.Name, tileOf(d.Device)); t != nil {
			m.Tiles[d.Name] = t
		}
	}
	for name := range st.tiles {
		if _, still := shown[name]; !still {
			delete(st.told, "tile "+name) // and the page drops it
		}
	}
	st.tiles = shown
	m.Order = fresh(st.told, "order", names)
}

func (st *stream) counts() counts {
	k := st.ranking
	c := counts{Devices: k.All(), Lost: k.Count(fleet.LookLost), Fault: k.Count(fleet.LookFault),
		Updating: k.Count(fleet.LookUpdating), Offline: k.Count(fleet.LookOffline), Online: k.Count(fleet.LookOnline)}
	c.More = st.remote.Registry().Counts().Untracked > 0
	c.Fit = c.Lost + c.Fault + c.Updating + c.Offline + c.Online
	return c
}

// window are the devices on the screen.
func (st *stream) window() []*fleet.Ranked {
	all := st.ranking.Devices()
	if st.ask.only != "" {
		var some []*fleet.Ranked
		for _, d := range all {
			if d.Look() == st.ask.only && len(some) < st.ask.to {
				some = append(some, d)
			}
		}
		all = some
	}
	return all[min(st.ask.from, len(all)):min(st.ask.to, len(all))]
}

// tileOf is a device in short. What one said that is not there any more is past.
func tileOf(d fleet.Device) tile {
	t := tile{Look: d.Look(), Note: d.Note(), Labels: d.Labels}
	if s := d.State; s != nil {
		t.State = s.State
		if s.State != wire.Lost { // its time is that of the connection, with which the will was left
			t.Since = &s.TS
		}
	}
	if r := d.Reported; r != nil {
		t.Mode, t.Member = r.Mode, r.Member
	}
	if c := d.Caps; c != nil {
		t.Version, t.Members = c.Versions.Agent, len(c.Members)
		t.At = 1 + slices.IndexFunc(c.Members, func(m wire.Member) bool { return m.Name == t.Member })
		if c.Family != nil {
			t.Family = c.Family.Name
		}
	}
	if d.Telemetry != nil && d.Online() {
		t.measure(d)
	}
	return t
}

// measure adds the figures of the last telemetry, with as many places as a tile shows: what
// looks the same is no news.
func (t *tile) measure(d fleet.Device) {
	is := d.Telemetry
	t.P95MS, t.TempC = rounded(is.P95MS, 100), rounded(fleet.Hottest(is), 10)
	t.Queue, t.Outbox = is.Queue, is.Outbox
	if d.Pace.Known {
		t.JobsS, t.Late = rounded(&d.Pace.PerSecond, 100), rounded(&d.Pace.Late, 1000)
	}
}

// rounded is a figure in parts of so many of one; nil if it is not known, or none that could be.
func rounded(v *float64, parts float64) *float64 {
	if v == nil || math.IsNaN(*v) || math.IsInf(*v*parts, 0) {
		return nil
	}
	return new(math.Round(*v*parts) / parts)
}
