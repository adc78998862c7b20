package engine

import (
	"fmt"

	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/pipeline"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
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
		told.Detail = fmt.Sprintf("no member is in time for a deadline of %v; the least late, %s, is expected to take "+
			"%.1f ms",
			j.Deadline, told.Member, wire.Millis(a.Predicted))
	default:
		return
	}
	e.deps.Events.Event(wire.SeverityWarning, told)
}

func (e *Engine) tellFaults(p *family.Profile) {
	for _, m := range p.Members {
		if m.Fault != "" {
			e.tellFault(faultOf(m))
		}
	}
}

// faultOf says of a member that it cannot be used, and the remedy.
func faultOf(m family.MemberProfile) string {
	if fullFault(m) {
		return "a member cannot be used: " + m.Fault + "; make room, it is tried again"
	}
	return "a member cannot be used: " + m.Fault + "; `limber agent --profile` tries it again"
}

func (e *Engine) tellFault(detail string) {
	e.deps.Events.Event(wire.SeverityError, wire.Event{Kind: wire.EventFault, Detail: detail})
}

func (e *Engine) tellTakeOver(old, next *backend) {
	from, to := way(old, next), way(next, old)
	e.log.Info("backend took over", "provider", to)
	e.deps.Events.Event(wire.SeverityInfo, wire.Event{Kind: wire.EventProvider,
		Detail: fmt.Sprintf("%s took over from %s with %d members", to, from, len(next.front))})
}

// tellNext tells which member of another family is prepared.
func (l *loader) tellNext(next *family.Family, member int) {
	l.deps.Events.Event(wire.SeverityInfo, wire.Event{Kind: wire.EventProgress, Member: next.Members[member].Name,
		Detail: fmt.Sprintf("family %s: preparing member %d of %d; family %s serves", next.Name, member+1,
			len(next.Members), l.deps.Family.Name)})
}

// tellMeasuring tells that the members of another family are measured.
func (l *loader) tellMeasuring(next *family.Family) {
	l.deps.Events.Event(wire.SeverityInfo, wire.Event{Kind: wire.EventProgress,
		Detail: fmt.Sprintf("family %s: measuring %d members; family %s serves", next.Name, len(next.Members),
			l.deps.Family.Name)})
}

// tellSucceeded tells that another family took over.
func (l *loader) tellSucceeded(next *family.Family, members int) {
	l.log.Info("family took over", "family", next.Name, "digest", next.Digest().Short(), "members", members)
	l.deps.Events.Event(wire.SeverityInfo, wire.Event{Kind: wire.EventProgress,
		Detail: fmt.Sprintf("family %s took over from family %s with %d members", next.Name, l.deps.Family.Name, members)})
}

// way says what a backend runs on, as far as that tells it from another.
func way(b, other *backend) string {
	v := b.loader.Variant()
	if v.Provider != other.provider() {
		return v.Provider
	}
	return v.String()
}
