package uplink

import (
	"context"
	"fmt"
	"time"

	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/store"
)

// gapEvery is the time between two looks at what was given up.
const gapEvery = time.Second

// tellGaps tells of records that had to be given up, until ctx ends. It waits until
// the link is up: until then one gap takes in what is lost next to it. It looks after
// acknowledgements that wait for the disk in vain as well.
func (u *Uplink) tellGaps(ctx context.Context) error {
	tick := time.NewTicker(gapEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			u.review()
			for u.conn.online.Load() && u.tellGap() {
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// tellGap puts the event that tells of one gap into the outbox; it is false if there
// was none.
func (u *Uplink) tellGap() bool {
	ok, err := u.outbox.Announce(func(_ uint64, g store.Gap) (store.Record, error) {
		m := message(u.cfg.Self.Event(wire.SeverityWarning), gapEvent(g))
		return store.Record{Topic: m.Topic, Payload: m.Payload}, nil
	})
	if err != nil {
		u.log.Error("lost messages not told of", "err", err)
	}
	return ok
}

// gapEvent is what is said of a gap.
func gapEvent(g store.Gap) wire.Event {
	lost := fmt.Sprintf("%d records (%d bytes) numbered %d to %d were", g.Records, g.Bytes, g.First, g.Last)
	switch g.Records {
	case 0:
		lost = fmt.Sprintf("an unknown number of records among those numbered %d to %d was", g.First, g.Last)
	case 1:
		lost = fmt.Sprintf("1 record (%d bytes) numbered %d was", g.Bytes, g.First)
	}
	between := ""
	if g.Mixed {
		between = "; others in between may have been delivered"
	}
	return wire.Event{
		TS: wire.At(time.Now()), Kind: wire.EventGap, Class: g.Class.String(), Reason: g.Reason.String(),
		Count: uint64(g.Records), Bytes: g.Bytes, First: g.First, Last: g.Last,
		Detail: fmt.Sprintf("%s given up, of class %s: %s%s", lost, g.Class, lossSentence(g.Reason), between),
	}
}

// lossSentence says why records were lost, and what can be done.
func lossSentence(l store.Loss) string {
	return [store.Losses]string{
		store.Quota:  "more waited than the outbox may hold, see outbox.mib",
		store.Age:    "the wait was longer than outbox.results_age or outbox.events_age",
		store.Count:  "more waited than outbox.results_count",
		store.Space:  "the file system has no room to spare, see outbox.free_mib",
		store.Disk:   "the disk failed or did not keep up",
		store.Damage: "not readable on the disk any more",
	}[l]
}
