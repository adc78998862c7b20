package agent

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/pipeline"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
)

// news turns what happens into events: at most one of each kind a second, with
// how many there were since the last one told of.
type news struct {
	publish func(wire.Severity, wire.Event)

	mu    sync.Mutex
	kinds map[wire.EventKind]*bulletin
}

// bulletin is what is to be told of one kind.
type bulletin struct {
	severity wire.Severity
	event    wire.Event
	waiting  uint64 // happenings not told of
	told     time.Time
}

// eventPace is the shortest time between two events of a kind.
const eventPace = time.Second

func newNews(publish func(wire.Severity, wire.Event)) *news {
	return &news{publish: publish, kinds: make(map[wire.EventKind]*bulletin)}
}

// tell publishes an event, or holds it back until a second has passed since the
// last of its kind. Of several that were held back the newest is told, from
// where the first began.
func (n *news) tell(s wire.Severity, e wire.Event) {
	n.mu.Lock()
	b := n.kinds[e.Kind]
	if b == nil {
		b = new(bulletin)
		n.kinds[e.Kind] = b
	}
	if b.waiting > 0 {
		e.From = b.event.From
	}
	b.severity, b.event = s, e
	b.waiting++
	due := n.take(b, eventPace)
	n.mu.Unlock()
	n.send(due)
}

// flush publishes what was held back since the pace ago, or longer.
func (n *news) flush(pace time.Duration) {
	n.mu.Lock()
	var due []bulletin
	for _, b := range n.kinds {
		due = append(due, n.take(b, pace)...)
	}
	n.mu.Unlock()
	n.send(due)
}

// take returns the bulletin if it may be published now.
func (n *news) take(b *bulletin, pace time.Duration) []bulletin {
	now := time.Now()
	if b.waiting == 0 || now.Sub(b.told) < pace {
		return nil
	}
	due := *b
	due.event.TS = wire.At(now)
	if due.waiting > 1 {
		due.event.Count = due.waiting
	}
	b.waiting, b.told = 0, now
	return []bulletin{due}
}

func (n *news) send(due []bulletin) {
	for _, b := range due {
		n.publish(b.severity, b.event)
	}
}

func (a *Agent) publishEvent(s wire.Severity, e wire.Event) { a.post(a.self.Event(s), e) }

// fault tells of a part that does not work.
func (a *Agent) fault(detail string) {
	a.news.tell(wire.SeverityError, wire.Event{Kind: wire.EventFault, Detail: detail})
}

// switches tells of changes of a crew's operating member.
type switches struct {
	agent *Agent
	crew  *crew
}

// Switched implements pipeline.Observer.
func (s switches) Switched(from, to int, why string) {
	s.agent.news.tell(wire.SeverityInfo, wire.Event{
		Kind: wire.EventSwitch, From: s.crew.member(from).Name, Member: s.crew.member(to).Name, Detail: why,
	})
}

// Hung implements pipeline.Observer. Nobody waits for more hangs than end the
// agent.
func (s switches) Hung(member int) {
	select {
	case s.crew.hung <- member:
	default:
	}
}

// tellInfeasible tells of a job that no member can satisfy, and names the one that
// comes nearest.
func (a *Agent) tellInfeasible(t *ticket, ans *pipeline.Answer) {
	e := wire.Event{Kind: wire.EventInfeasible, Detail: ans.Detail}
	switch {
	case ans.Reason == wire.Infeasible:
		e.Member = t.crew.member(len(t.crew.front) - 1).Name
	case ans.Reason == "" && ans.Choice == governor.Infeasible:
		e.Member = t.crew.member(ans.Member).Name
		e.Detail = fmt.Sprintf("no member is in time for a deadline of %v; the least late, %s, is expected to take %.1f ms",
			t.deadline, e.Member, wire.Millis(ans.Predicted))
	default:
		return
	}
	a.news.tell(wire.SeverityWarning, e)
}

// tellFaults tells of members that cannot be used.
func (a *Agent) tellFaults(p *family.Profile) {
	for _, m := range p.Members {
		switch {
		case m.Fault == "":
		case fullFault(m):
			a.fault("a member cannot be used: " + m.Fault + "; make room, it is tried again")
		default:
			a.fault("a member cannot be used: " + m.Fault + "; `limber agent --profile` tries it again")
		}
	}
}

// reportStart tells of what was found at the start.
func (a *Agent) reportStart() {
	if c := a.crew.Load(); c != nil {
		a.tellFaults(c.profile)
	}
	for _, err := range []error{a.parts.Fault, a.parts.Unsaved} {
		if err != nil {
			a.fault(err.Error())
		}
	}
	aside := a.parts.Outbox.Quarantined()
	if q := a.parts.Store.Quarantined(); q != "" {
		aside = append(aside, q)
	}
	if len(aside) > 0 {
		a.fault("damaged files were set aside: " + joined(aside))
	}
}

func joined(names []string) string { return strings.Join(names, ", ") }
