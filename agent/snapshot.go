package agent

import (
	"errors"
	"time"

	"github.com/limber-edge/limber/agent/control"
	"github.com/limber-edge/limber/agent/engine"
	"github.com/limber-edge/limber/agent/monitor"
	"github.com/limber-edge/limber/agent/uplink"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/store"
)

// Snapshot is what the device did since its start and does now, for telemetry and
// whoever else measures it. Its counts and histograms only grow: each reader has
// intervals of its own.
type Snapshot struct {
	Engine  engine.Snapshot
	Uplink  uplink.Status
	Traffic uplink.Traffic

	Answered   uint64                 // jobs with classes
	Refused    map[wire.Reason]uint64 // jobs, for every reason there is for one
	TurnedAway uint64                 // jobs refused before they reached the engine
	Superseded uint64                 // frames whose place a newer one took
	Unseen     uint64                 // of these, those that the engine was not given
	Commands   control.Counts

	Waiting [store.Classes]store.Depth          // in the outbox
	Lost    [store.Classes][store.Losses]uint64 // records of the outbox, since it was opened

	Versions wire.Versions
	Fault    error // that stands: a sentence, with the remedy; nil if there is none
}

// Snapshot may be called from any goroutine, also before Run and after it.
func (a *Agent) Snapshot() Snapshot {
	s := Snapshot{Engine: a.engine.Snapshot(), Uplink: a.uplink.Status(), Traffic: a.uplink.Traffic(),
		Answered: a.jobs.answered.Load(), Refused: make(map[wire.Reason]uint64, len(a.jobs.refused)),
		TurnedAway: a.jobs.turnedAway.Load(), Superseded: a.jobs.superseded.Load(), Unseen: a.jobs.unseen.Load(),
		Commands: a.control.Counts(),
		Waiting:  a.deps.Outbox.Depths(), Lost: a.deps.Outbox.Lost(),
		Versions: wire.Versions{Agent: a.deps.Version, Runtime: a.deps.Runtime}, Fault: a.standing()}
	for why, n := range a.jobs.refused {
		s.Refused[why] = n.Load()
	}
	return s
}

// standing is what keeps the device from doing all it is there for.
func (a *Agent) standing() error {
	faults := []error{a.deps.Unsaved, a.deps.Outbox.Fault(), a.deps.Store.Fault()}
	if s := a.engine.Status(); s.State == engine.Degraded || s.State == engine.Unavailable {
		faults = append(faults, errors.New(s.Detail))
	}
	return errors.Join(faults...)
}

// Vitals are what the board and the machine say of themselves; what is unknown is nil.
type Vitals struct {
	Watts  *float64           // W of the whole board
	TempsC map[string]float64 // °C by sensor; nobody may write there
}

// Vitals reads them anew, unless that was done a moment ago.
func (a *Agent) Vitals() Vitals {
	s, _ := a.deps.Machine.Sample(monitor.Mark{})
	return Vitals{a.deps.Board.Read(time.Now()).Watts, s.TempsC}
}
