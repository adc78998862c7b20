package dash

import (
	"slices"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/wire"
)

// deviceNews is what changed of the device on the screen; nil for nothing.
func (st *stream) deviceNews() *deviceScreen {
	if st.ask.device == "" {
		return nil
	}
	w := st.remote.Registry().Whole(st.ask.device)
	is := deviceScreen{Name: w.Name, Known: fresh(st.told, "known", w.There())}
	is.Tile = fresh(st.told, "tile", tileOf(w.Device))
	is.Facts = fresh(st.told, "facts", factsOf(w))
	is.Front = fresh(st.told, "front", frontOf(w.Device))
	is.Modes = fresh(st.told, "modes", modesOf(w.Device))
	is.Aim = fresh(st.told, "aim", aimOf(w))
	is.Commands = fresh(st.told, "commands", st.history.commands(w.Name))
	is.Series, st.points = st.history.since(w.Name, st.points)
	is.Events = st.eventNews(w.Device)
	is.Decisions = st.decisionNews(w.Device)
	if is.nothing() {
		return nil
	}
	return &is
}

// nothing tells whether nothing is told but the name.
func (d *deviceScreen) nothing() bool {
	return d.Known == nil && d.Tile == nil && d.Facts == nil && d.Front == nil && d.Modes == nil && d.Aim == nil &&
		d.Commands == nil && d.Series == nil && d.Events == nil && d.Decisions == nil
}

// factsOf are the facts that have no place of their own on the screen.
func factsOf(w fleet.Whole) []fact {
	facts := []fact{}
	for _, f := range w.Facts(time.Time{}) { // what depends on the time is among those left out
		if !slices.Contains([]string{"state", "detail", "labels", "member", "event"}, f.Name) {
			facts = append(facts, fact(f))
		}
	}
	return facts
}

// frontOf are the members that the device told of, but for those whose accuracy none can have.
func frontOf(d fleet.Device) []member {
	front := []member{}
	if d.Caps == nil {
		return front
	}
	for _, m := range d.Caps.Members {
		if m.Top1 >= 0 && m.Top1 <= 1 {
			front = append(front, member{Name: m.Name, Top1: m.Top1, MMACs: m.MMACs, Resolution: m.Resolution,
				P50MS: likely(m.P50MS), P95MS: likely(m.P95MS), Operating: d.Reported != nil && m.Name == d.Reported.Member})
		}
	}
	return front
}

// The latencies that can be, in milliseconds.
const (
	leastMS = 1e-6 // a nanosecond
	mostMS  = 1e9  // eleven days
)

// likely is a latency that can be; nil for another one: an axis that had it would have nothing else, or no end.
func likely(ms *float64) *float64 {
	if ms == nil || !(*ms >= leastMS && *ms <= mostMS) {
		return nil
	}
	return ms
}

func modesOf(d fleet.Device) []string {
	if d.Caps == nil {
		return []string{}
	}
	return append([]string{}, d.Caps.Modes...)
}

// aimOf is what the device pursues, and what it is to.
func aimOf(w fleet.Whole) (a aim) {
	if r := w.Reported; r != nil {
		a = aim{Mode: r.Mode, Goal: r.Goal, Status: r.Status, Reason: r.Reason, Detail: r.Detail, Nearest: r.Nearest}
	}
	if d := w.DesiredNow; d != nil {
		a.Desired = &desired{Of: w.DesiredOf, Version: d.Version, Mode: d.Mode, Goal: d.Goal}
	}
	return a
}

// eventNews are the events that were not told, as far as they are kept.
func (st *stream) eventNews(d fleet.Device) (all []deviceEvent) {
	if st.events > d.Heard {
		st.events = 0 // it went and came again
	}
	fresh := min(d.Heard-st.events, uint64(len(d.Events)))
	st.events = d.Heard
	for _, e := range d.Events[uint64(len(d.Events))-fresh:] {
		all = append(all, deviceEvent{TS: e.TS, Severity: e.Severity, Kind: e.Kind, From: e.From, Member: e.Member,
			Detail: e.Detail, Text: e.Sentence()})
	}
	return all
}

// decisionNews are the decisions that were not told: those that the telemetry before did not
// have, as the device's clock may go back. Telemetry has the newest first.
func (st *stream) decisionNews(d fleet.Device) (all []decision) {
	if d.Telemetry == nil || d.Telemetry == st.measured {
		return nil
	}
	told := map[wire.Time]bool{}
	if st.measured != nil {
		for _, of := range st.measured.Decisions {
			told[of.TS] = true
		}
	}
	st.measured = d.Telemetry
	for _, of := range slices.Backward(d.Telemetry.Decisions) {
		if !told[of.TS] {
			all = append(all, decisionOf(of))
		}
	}
	return all
}

func decisionOf(d wire.Decision) decision {
	return decision{TS: d.TS, Member: d.Member, Reason: d.Reason, SlackMS: d.SlackMS, Waiting: d.Waiting,
		PredictedMS: d.PredictedMS, Chance: d.Chance, InferMS: d.InferMS, Belief: d.Belief,
		Options: optionsOf(d)}
}

func optionsOf(d wire.Decision) []wire.Option {
	options := []wire.Option{}
	for _, o := range d.Options {
		if likely(&o.PredictedMS) != nil {
			options = append(options, o)
		}
	}
	return options
}
