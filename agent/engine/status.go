package engine

import (
	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/pipeline"
	"github.com/limber-edge/limber/family"
)

// State is whether the device can infer.
type State int

// The states of an engine. The zero State is Preparing.
const (
	Preparing   State = iota // no member can answer yet, and one may soon
	Ready                    // members answer; some may still be loading
	Degraded                 // likewise, but some are missing, or what serves stands in for a provider that failed
	Unavailable              // no member can answer until what Status.Detail says is mended
)

// String is the state in one word.
func (s State) String() string {
	return [...]string{"preparing", "ready", "degraded", "unavailable"}[s]
}

// Status is what an engine does. It is a value of its own: nothing in it changes.
type Status struct {
	State     State
	Detail    string // preparing: what of what; degraded, unavailable: why, and the remedy; else empty
	Family    *family.Family
	Profile   *family.Profile // that the members in use were chosen by; nil before there is one
	Variant   family.Variant  // on which they run
	Members   []Member        // those worth using on this device, by rising latency and accuracy
	Operating *family.Member  // that answers now; nil before there is one
	Mode      governor.Mode   // in force
	Target    governor.Mode   // that is pursued; another one than Mode where the members that serve lack the one it names
	Loading   bool            // members are still being loaded
}

// Member is one that is worth using, with what it takes.
type Member struct {
	*family.Member
	Profile family.MemberProfile
}

// view is what others see of the supervisor's state.
type view struct {
	Status
	tally   *tally        // of the family in use
	backend *backend      // that jobs go to; nil before there is one, and when none can be used
	stale   chan struct{} // closed when there is a newer view
}

// Status tells what the engine does now.
func (e *Engine) Status() Status {
	v := e.view.Load()
	s := v.Status
	if v.backend != nil {
		var at int
		at, s.Mode = v.backend.pipe.Governed()
		s.Operating = v.backend.member(at)
	}
	return s
}

// Snapshot is what telemetry and metrics tell of an engine. Its embedded figures are
// of all jobs since the start, those included that reached no pipeline.
type Snapshot struct {
	pipeline.Snapshot

	// Of the backend that serves; zero before there is one.
	pipeline.State
	Members  []Member // those whose indices State holds
	LogLost  uint64   // of the governor's calls, how many are missing in the log of decisions
	LogFault error    // why that cannot be written now
}

// Snapshot tells what the engine did and does.
func (e *Engine) Snapshot() Snapshot {
	s := Snapshot{Snapshot: e.counters.Snapshot()}
	if v := e.view.Load(); v.backend != nil {
		s.State, s.Members = v.backend.pipe.State(), v.Members
		s.LogLost, s.LogFault = v.backend.pipe.LogLost()
	}
	return s
}

// Answered counts the jobs that were answered with classes.
func (e *Engine) Answered() uint64 {
	s := e.counters.Snapshot()
	return s.Infer.Count()
}

// Progress is by what an engine that works is told from one that stands still.
type Progress struct {
	inferred uint64 // jobs that were answered with classes
	emptied  uint64 // times that no job was left
	open     int64  // jobs that have no answer yet
	unfit    uint64 // jobs that were found to be no frame
	infers   bool   // an inference is under way
}

// Progress tells how far the engine is.
func (e *Engine) Progress() Progress {
	b := e.view.Load().backend
	return Progress{inferred: e.Answered(), emptied: e.jobs.emptied.Load(), open: e.jobs.open.Load(),
		unfit: e.jobs.unfit.Load(), infers: b != nil && b.pipe.Infers()}
}

// Moved tells whether an inference ended since an earlier moment, or there was nothing to
// infer. Answers that only say no do not count: those are given beside an inference that
// hangs as well. Where none is under way they do that find frames broken: a camera may send
// nothing else, and faster than that is found.
func (p Progress) Moved(earlier Progress) bool {
	return p.open == 0 || p.inferred != earlier.inferred || p.emptied != earlier.emptied ||
		p.unfit != earlier.unfit && !p.infers && !earlier.infers
}
