package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/store"
)

// put lets a desired state wait. One that finds no room takes the place of the
// oldest: the newer ones count.
func (a *aims) put(r request) {
	for {
		select {
		case a.desires <- r:
			return
		default:
		}
		select {
		case oldest := <-a.desires:
			oldest.reply.Drop()
		default:
		}
	}
}

// desire reads a desired state, and has the target judge what it asks for.
func (a *aims) desire(ctx context.Context, r request) {
	if len(r.Message.Payload) == 0 && r.Message.Oversize == 0 {
		r.reply.Drop() // the operator took the retained message away
		return
	}
	d, err := readDesired(r)
	mode, bad := ModeOf(d.Aim())
	newest := a.versions.newest()
	switch {
	case err != nil && d.Version == 0: // unreadable: what was applied last stays in force
		a.reject(newest, &wire.Refusal{Reason: wire.Invalid, Err: err})
	case err != nil:
		a.reject(d.Version, &wire.Refusal{Reason: wire.Invalid, Err: err})
	case d.Version > newest && d.Version-newest > wire.VersionReach:
		a.reject(d.Version, wire.Refuse(wire.Invalid, "version %d is more than 2^32 ahead of %d, the last one applied: "+
			"see `limber fleet set --force-version`", d.Version, newest))
	case d.Version <= newest && !(d.Force && newest-d.Version > wire.VersionReach):
		a.tellOutdated(r, d.Version)
	case bad != nil:
		a.reject(d.Version, &wire.Refusal{Reason: wire.Invalid, Err: bad})
	default:
		a.judging = true
		a.ask(ctx, mode, func(err error) { a.judged(ctx, r, d, err) })
		return
	}
	r.reply.Drop()
}

func readDesired(r request) (d wire.Desired, err error) {
	if r.Message.Oversize > 0 {
		return d, fmt.Errorf("the desired state has %d bytes", r.Message.Oversize)
	}
	if err := wire.Decode(r.Message.Payload, &d); err != nil {
		return d, err
	}
	return d, d.Check()
}

// tellOutdated rejects a desired state that is too old to count, if somebody can be
// waiting for it. Who waits has just published it; what the broker retained, or
// delivers again for want of an acknowledgement, comes long after others took its
// place. The last one applied from its place may come again, too.
func (a *aims) tellOutdated(r request, version uint64) {
	if r.Message.Retained || r.Message.Duplicate || version == a.versions[r.Address.Device] {
		return
	}
	a.reject(version, wire.Refuse(wire.Conflict, "version %d was applied: set a greater one", a.versions.newest()))
}

// judged goes on with a desired state when the target has said why it cannot have
// it, or nothing.
func (a *aims) judged(ctx context.Context, r request, d wire.Desired, err error) {
	a.judging = false
	if err == nil {
		err = a.apply(ctx, r, d)
	}
	switch place := r.Address.Device; {
	case err != nil && ctx.Err() != nil: // the broker keeps it for the next start
		r.reply.Release()
		return
	case err != nil:
		a.reject(d.Version, err)
		if a.rejected[place] != d.Version {
			a.rejected[place] = d.Version
			a.tellUnmet(err)
		}
	default:
		a.report(wire.Reported{Version: d.Version, Status: wire.Applied})
	}
	r.reply.Drop()
}

// apply sets what a desired state asks for, and then remembers it with its version:
// one that was remembered first and then cut off would never be set. Where an order
// came later than the desired state, which waited for members, that order stays.
func (a *aims) apply(ctx context.Context, r request, d wire.Desired) error {
	applied := a.versions.with(r.Address.Device, d.Version)
	b, err := json.Marshal(applied)
	if err != nil {
		return err
	}
	cells, undo := []store.Cell{{Name: cellDesired, Value: b}}, func(context.Context) {}
	if !a.taken.After(r.Received) {
		var cell store.Cell
		if cell, undo, err = a.set(ctx, d.Aim(), r.Received); err != nil {
			return err
		}
		cells = append(cells, cell)
	}
	if err := a.deps.State.SetCells(cells...); err != nil {
		undo(ctx)
		return err
	}
	a.versions = applied
	return nil
}

func (a *aims) reject(version uint64, err error) {
	r := wire.Reported{Version: version, Status: wire.Rejected}
	if newest := a.versions.newest(); newest > version || version-newest > wire.VersionReach {
		r.AppliedVersion = newest // its topic may hold this one instead by now
	}
	r.Reason, r.Nearest, r.Detail = refusalOf(err)
	a.report(r)
}

// cellDesired holds the versions of the desired states that were applied.
const cellDesired = "desired"

// versions is the last desired version applied, by where it came from: the device's
// own name, or a group.
type versions map[string]uint64

func (v versions) newest() uint64 {
	var n uint64
	for _, version := range v {
		n = max(n, version)
	}
	return n
}

// with is v with another version of a place, the greatest. Greater ones were forced
// back.
func (v versions) with(place string, version uint64) versions {
	w := versions{place: version}
	for p, old := range v {
		if p != place && old <= version {
			w[p] = old
		}
	}
	return w
}

func (a *aims) savedVersions() versions {
	v := versions{}
	b, err := a.deps.State.Cell(cellDesired)
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
