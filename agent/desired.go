package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/store"
)

// desire applies a desired state whose version is greater than the last one
// applied, whatever the place of either (the device itself, or one of its groups):
// what a broker retains comes in any order, and must end in the same.
func (a *Agent) desire(ctx context.Context, o order) {
	if len(o.msg.Payload) == 0 && o.msg.Oversize == 0 {
		return // the operator took the retained message away
	}
	seen := a.savedDesired()
	d, err := readDesired(o.msg)
	if err != nil {
		version := d.Version
		if version == 0 { // unreadable: what was applied last stays in force
			version = seen.newest()
		}
		a.reportDesired(ctx, version, refused{reason: wire.Invalid, error: err})
		return
	}
	if d.Version <= seen.newest() {
		a.tellOutdated(ctx, o, d.Version, seen)
		return
	}
	err = a.apply(ctx, o.topic.Device, d, seen)
	switch {
	case ctx.Err() != nil: // the agent stops; the broker keeps the desired state
	case err != nil:
		a.reportDesired(ctx, d.Version, err)
		if a.unmetDesired[o.topic.Device] != d.Version { // it comes again with every connection
			a.unmetDesired[o.topic.Device] = d.Version
			a.tellUnmet(err)
		}
	default:
		a.reportAim(ctx, d.Version)
	}
}

// tellOutdated rejects a desired state that is too old to count, if somebody can be
// waiting for it. Who waits has just published it; what the broker retained, or
// delivers again for want of an acknowledgement, comes long after others took its
// place. The last one applied from its place may come again, too.
func (a *Agent) tellOutdated(ctx context.Context, o order, version uint64, seen versions) {
	if o.msg.Retained || o.msg.Duplicate || version == seen[o.topic.Device] {
		return
	}
	a.reportDesired(ctx, version, refuse(wire.Conflict, fmt.Sprintf("version %d was applied: set a greater one", seen.newest())))
}

// apply sets what a desired state asks for, and then remembers its version: one
// that was remembered first and then cut off would never be set.
func (a *Agent) apply(ctx context.Context, from string, d wire.Desired, seen versions) error {
	if err := a.judgeAim(ctx, d.Aim()); err != nil {
		return err
	}
	if err := a.setAim(ctx, d.Aim()); err != nil {
		return err
	}
	seen[from] = d.Version
	return a.saveDesired(seen)
}

func readDesired(m mqtt.Message) (d wire.Desired, err error) {
	if m.Oversize > 0 {
		return d, fmt.Errorf("the desired state has %d bytes", m.Oversize)
	}
	if err := wire.Decode(m.Payload, &d); err != nil {
		return d, err
	}
	return d, d.Check()
}

// reportAim publishes what is in force; version 0 stands for the last one
// applied.
func (a *Agent) reportAim(ctx context.Context, version uint64) {
	if version == 0 {
		version = a.savedDesired().newest()
	}
	a.publishReported(ctx, wire.Reported{Version: version, Status: wire.Applied})
}

func (a *Agent) reportDesired(ctx context.Context, version uint64, err error) {
	r := wire.Reported{Version: version, Status: wire.Rejected}
	if newest := a.savedDesired().newest(); newest > version {
		r.AppliedVersion = newest // its topic may hold this one instead by now
	}
	r.Reason, r.Nearest, r.Detail = told(err)
	a.publishReported(ctx, r)
}

// publishReported tells what became of an order. It is a state: without a link
// it is told on the next connection, and only the newest.
func (a *Agent) publishReported(ctx context.Context, r wire.Reported) { a.sayReported(ctx, &r) }

// sayReported publishes a report, nil standing for the last one; at first that
// is what the last run applied.
func (a *Agent) sayReported(ctx context.Context, r *wire.Reported) <-chan error {
	a.standing.Lock()
	defer a.standing.Unlock()
	if r != nil {
		a.reported = r
	}
	if a.reported == nil {
		a.reported = &wire.Reported{Version: a.savedDesired().newest(), Status: wire.Applied}
	}
	return a.link.Send(ctx, a.message(a.self.Reported(), true, a.inForce(*a.reported)))
}

// inForce adds mode, goal and operating member to a report.
func (a *Agent) inForce(r wire.Reported) wire.Reported {
	if c := a.crew.Load(); c != nil {
		op, mode := c.pipe.Governed()
		r.Mode, r.Goal, r.Member = mode.String(), WireGoal(mode.Goal()), c.member(op).Name
	}
	return r
}

// cellDesired holds the versions of the desired states that were applied.
const cellDesired = "desired"

// versions is the last desired version applied, by where it came from: the
// device's own name, or a group.
type versions map[string]uint64

func (v versions) newest() uint64 {
	var n uint64
	for _, version := range v {
		n = max(n, version)
	}
	return n
}

func (a *Agent) savedDesired() versions {
	v := versions{}
	b, err := a.parts.Store.Cell(cellDesired)
	if err == nil {
		err = json.Unmarshal(b, &v)
	}
	if err == nil {
		return v
	}
	if !errors.Is(err, store.ErrNotFound) {
		a.log.Error("desired versions not readable, the broker's retained ones are applied anew", "err", err)
	}
	return versions{}
}

func (a *Agent) saveDesired(v versions) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return a.parts.Store.SetCell(cellDesired, b)
}
