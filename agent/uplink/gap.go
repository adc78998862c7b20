package uplink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/store"
)

// cellGap keeps a gap that was not told of over a restart.
const cellGap = "gap"

const (
	gapEvery = time.Second // between two looks at what was given up
	gapRoom  = 4 << 10     // bytes of the outbox: more than an event takes
)

// gaps keeps what an earlier run could not tell of. One goroutine has it to itself.
type gaps struct {
	state   *store.Store
	log     *slog.Logger
	pending store.Gap
}

// tellGaps tells of records that had to be given up, until ctx ends. What an earlier
// run left is forgotten when its event was delivered or is on the disk: better told
// twice than never.
func (u *Uplink) tellGaps(ctx context.Context) error {
	tick := time.NewTicker(gapEvery)
	defer tick.Stop()
	var safe <-chan struct{}
	for {
		select {
		case <-tick.C:
			earlier := u.gaps.pending.Records > 0
			if told := u.tellGap(); earlier && told != nil {
				safe = told
			}
		case <-safe:
			u.gaps.save(store.Gap{})
			safe = nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// tellGap publishes what was not told of; the channel, if any, is closed when the
// event is safe. It waits until the link is up and the outbox has room: in a full
// one the event would push out a record, and then be pushed out itself, with its
// count.
func (u *Uplink) tellGap() (safe <-chan struct{}) {
	if _, bytes := u.outbox.Depth(); !u.conn.online.Load() || bytes > u.cfg.Quota-gapRoom {
		return nil
	}
	gap := u.gaps.take(u.outbox)
	if gap.Records == 0 {
		return nil
	}
	told := make(chan struct{})
	u.post(message(u.cfg.Self.Event(wire.SeverityWarning), wire.Event{
		TS: wire.At(time.Now()), Kind: wire.EventGap, Count: uint64(gap.Records),
		Detail: fmt.Sprintf("%d records (%d bytes) numbered %d to %d were given up: the outbox was full or its disk failed",
			gap.Records, gap.Bytes, gap.First, gap.Last),
	}), func() { close(told) })
	return told
}

// SaveGap keeps what was not told of for the next start. It is for the end, when Run
// has returned and nobody answers a request any more: the last answers may push out
// records as well.
func (u *Uplink) SaveGap() {
	if gap := u.gaps.take(u.outbox); gap.Records > 0 {
		u.gaps.save(gap)
	}
}

// take returns all that was not told of.
func (g *gaps) take(outbox *store.Outbox) store.Gap {
	old, gap := g.pending, outbox.TakeGap()
	g.pending = store.Gap{}
	switch {
	case gap.Records == 0:
		return old
	case old.Records > 0:
		gap = store.Gap{Records: old.Records + gap.Records, Bytes: old.Bytes + gap.Bytes,
			First: min(old.First, gap.First), Last: max(old.Last, gap.Last)}
	}
	return gap
}

func (g *gaps) save(gap store.Gap) {
	b, err := json.Marshal(gap)
	if err == nil {
		err = g.state.SetCell(cellGap, b)
	}
	if err != nil {
		g.log.Error("count of lost messages not kept", "err", err)
	}
}

// load reads what the last run could not tell of.
func (g *gaps) load() {
	b, err := g.state.Cell(cellGap)
	if err == nil {
		err = json.Unmarshal(b, &g.pending)
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		g.log.Error("count of lost messages not readable", "err", err)
	}
}
