package agent

import (
	"cmp"
	"runtime"
	"time"

	"github.com/limber-edge/limber/agent/config"
	"github.com/limber-edge/limber/agent/control"
	"github.com/limber-edge/limber/agent/engine"
	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/release"
	"github.com/limber-edge/limber/agent/update"
	"github.com/limber-edge/limber/agent/wire"
)

// documents are what the device says of itself: functions of what the engine and
// the control say of themselves. It is an uplink.Documents.
type documents struct {
	cfg      config.Config
	deps     *Deps
	engine   *engine.Engine
	control  *control.Control
	power    *control.Power
	updater  *update.Updater  // nil: the device takes no other family
	releaser *release.Updater // nil: nor another release
	machine  string
}

// Detail is what its engine's status says.
func (d documents) Detail(p wire.Presence) string { return detailOf(d.engine.Status(), p) }

// detailOf is what keeps the device from working or, while it is online, how far it
// is on its way: of one that is lost hours later that would be no news. A device that
// answers has nothing to say here.
func detailOf(s engine.Status, p wire.Presence) string {
	if s.State == engine.Unavailable || s.State == engine.Preparing && p == wire.Online {
		return s.Detail
	}
	return ""
}

// Caps is what the device can do.
func (d documents) Caps() wire.Caps {
	s := d.engine.Status()
	c := wire.Caps{
		TS: wire.At(time.Now()), Versions: wire.Versions{Agent: d.deps.Version, Runtime: d.deps.Runtime},
		Verbs: d.control.Verbs(), Modes: governor.Modes(), Groups: append([]string{wire.Everybody}, d.cfg.Groups...),
		Members: []wire.Member{}, Machine: d.machine, Arch: runtime.GOARCH, Power: d.power.Status(),
		Metrics: d.cfg.Metrics.Address(),
	}
	if d.updater != nil {
		u := d.updater.Status()
		c.Shadow, c.Update, c.LastUpdate = true, u.Step, u.Last
	}
	if d.releaser != nil {
		r := d.releaser.Status()
		c.Release, c.Update, c.LastUpdate = &r.Running, cmp.Or(c.Update, r.Step), newest(c.LastUpdate, r.Last)
	}
	if s.Profile == nil {
		return c
	}
	c.Family = &wire.Family{Name: s.Family.Name, Digest: "sha256:" + string(s.Family.Digest())}
	c.Profile = &wire.Profile{TS: wire.At(s.Profile.Taken), Provider: s.Variant.Provider, Threads: s.Variant.Threads,
		OthersPercent: s.Profile.OthersPercent}
	for _, m := range s.Members {
		c.Members = append(c.Members, wire.Member{Name: m.Name, Top1: m.Top1, MMACs: m.MMACs, Resolution: m.Arch.R,
			P50MS: &m.Profile.P50ms, P95MS: &m.Profile.P95ms})
	}
	return c
}

// Reported is what became of the last order, and what is in force.
func (d documents) Reported() wire.Reported {
	r := d.control.Status().Reported
	if s := d.engine.Status(); s.Operating != nil {
		r.Mode, r.Goal, r.Member = s.Mode.String(), control.WireGoal(s.Mode.Goal()), s.Operating.Name
	}
	return r
}

// Version is that of the desired state applied last; 0 if none was.
func (d documents) Version() uint64 { return d.control.Status().Newest }

// newest is the later of two updates that ended; either may be nil.
func newest(a, b *wire.LastUpdate) *wire.LastUpdate {
	if a == nil || b != nil && b.TS.After(a.TS.Time) {
		return b
	}
	return a
}
