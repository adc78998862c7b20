package engine

import (
	"fmt"

	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/pipeline"
	"github.com/limber-edge/limber/agent/wire"
)

// tellInfeasible tells of a job that no member can satisfy, and names the one that
// comes nearest.
func (e *Engine) tellInfeasible(b *backend, j *pipeline.Job, a *pipeline.Answer) {
	told := wire.Event{Kind: wire.EventInfeasible, Detail: a.Detail}
	switch {
	case a.Reason == wire.Infeasible:
		told.Member = b.best().Name
	case a.Reason == "" && a.Choice == governor.Infeasible:
		told.Member = b.member(a.Member).Name
		told.Detail = fmt.Sprintf("no member is in time for a deadline of %v; the least late, %s, is expected to take %.1f ms",
			j.Deadline, told.Member, wire.Millis(a.Predicted))
	default:
		return
	}
	e.deps.Events.Event(wire.SeverityWarning, told)
}
