package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

// Synced is a device that was told the time.
type Synced struct {
	Device   string  `json:"device"`
	BootID   string  `json:"boot_id"`
	ConnSeq  uint64  `json:"conn_seq"`
	BehindMS float64 `json:"behind_ms"` // its clock, when the question came here; the way of that is not taken off
}

// SyncFilters is what a mailbox must subscribe to for AnswerSync.
func SyncFilters(fleet string) []string { return fleetFilters(fleet, wire.KindSync) }

// answersMost is how many answers may wait for the broker's acknowledgement at once:
// the later an answer, the less a device learns from it.
const answersMost = 64

// AnswerSync tells each device that connects what time it is here, until ctx ends,
// which is no error. told is called after each answer, or with why it was not given,
// one call at a time.
func (b *Mailbox) AnswerSync(ctx context.Context, told func(Synced, error)) error {
	var answers sync.WaitGroup
	defer answers.Wait()
	var one sync.Mutex
	tell := func(s Synced, err error) {
		one.Lock()
		defer one.Unlock()
		told(s, err)
	}
	room := make(chan struct{}, answersMost)
	for {
		m, err := b.Next(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			tell(Synced{}, err)
			continue
		}
		s, answer, err := answerTo(m, time.Now())
		if err != nil {
			tell(s, err)
			continue
		}
		room <- struct{}{}
		answers.Go(func() {
			defer func() { <-room }()
			if err := b.Publish(ctx, answer); !errors.Is(err, context.Canceled) {
				tell(s, err)
			}
		})
	}
}

// answerTo makes the answer to a sync that came now.
func answerTo(m mqtt.Message, now time.Time) (s Synced, answer mqtt.Message, err error) {
	t, err := wire.ParseTopic(m.Topic)
	if err != nil {
		return s, answer, err
	}
	s.Device = t.Device
	if m.Retained {
		return s, answer, errors.New("a retained sync is not answered: nobody knows when it was sent")
	}
	var asked wire.Sync
	if err := wire.Decode(m.Payload, &asked); err != nil {
		return s, answer, fmt.Errorf("sync: %w", err)
	}
	s.BootID, s.ConnSeq, s.BehindMS = asked.BootID, asked.ConnSeq, wire.Millis(now.Sub(asked.TS.Time))
	b, err := json.Marshal(wire.Synced{TS: wire.At(now), BootID: asked.BootID, ConnSeq: asked.ConnSeq})
	return s, mqtt.Message{Topic: t.Synced(), Payload: b, QoS: 1}, err
}
