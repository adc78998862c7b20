package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/store"
)

// cellGap keeps a gap that was not told of over a restart.
const cellGap = "gap"

// gapPatience is how long a gap that an earlier run left waits for its event to
// be safe.
const gapPatience = time.Second

// gapRoom is more than an event takes, in bytes of the outbox.
const gapRoom = 4 << 10

// reportGap tells of records that had to be given up. It waits until the link
// is up and the outbox has room: in a full one the event would push out a
// record, and then be pushed out itself, with its count.
func (a *Agent) reportGap() {
	_, bytes := a.parts.Outbox.Depth()
	if !a.linkUp.Load() || bytes > int64(a.cfg.Outbox.MiB)<<20-gapRoom {
		return
	}
	saved := a.untold
	gap := a.takeGap()
	if gap.Records == 0 {
		return
	}
	told := a.tellGap(gap)
	if saved.Records == 0 {
		return
	}
	select {
	case <-told:
		a.storeGap(store.Gap{})
	case <-time.After(gapPatience): // the cell stays: better told twice than never
	}
}

// tellGap publishes a gap; told is closed when the event is delivered or on the
// disk.
func (a *Agent) tellGap(gap store.Gap) (told <-chan struct{}) {
	safe := make(chan struct{})
	event := wire.Event{
		TS: wire.At(time.Now()), Kind: wire.EventGap, Count: uint64(gap.Records),
		Detail: fmt.Sprintf("%d records (%d bytes) numbered %d to %d were given up: the outbox was full or its disk failed",
			gap.Records, gap.Bytes, gap.First, gap.Last),
	}
	a.appendFor(&ticket{id: "gap", acks: []func(){func() { close(safe) }}}, func(uint64) (store.Record, error) {
		m := a.message(a.self.Event(wire.SeverityWarning), false, event)
		return store.Record{Topic: m.Topic, Payload: m.Payload}, nil
	})
	return safe
}

// takeGap returns all that was not told of.
func (a *Agent) takeGap() store.Gap {
	old, gap := a.untold, a.parts.Outbox.TakeGap()
	a.untold = store.Gap{}
	switch {
	case gap.Records == 0:
		return old
	case old.Records > 0:
		gap = store.Gap{Records: old.Records + gap.Records, Bytes: old.Bytes + gap.Bytes,
			First: min(old.First, gap.First), Last: max(old.Last, gap.Last)}
	}
	return gap
}

// saveGap keeps what was not told of for the next start.
func (a *Agent) saveGap() {
	if gap := a.takeGap(); gap.Records > 0 {
		a.storeGap(gap)
	}
}

func (a *Agent) storeGap(gap store.Gap) {
	b, err := json.Marshal(gap)
	if err == nil {
		err = a.parts.Store.SetCell(cellGap, b)
	}
	if err != nil {
		a.log.Error("count of lost messages not kept", "err", err)
	}
}

// loadGap reads what the last run could not tell of.
func (a *Agent) loadGap() {
	b, err := a.parts.Store.Cell(cellGap)
	if err == nil {
		err = json.Unmarshal(b, &a.untold)
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		a.log.Error("count of lost messages not readable", "err", err)
	}
}
