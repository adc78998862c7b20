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

// SyncFilters is what a mailbox must subscribe to for AnswerSync: answers as well, for
// its own must come back.
func SyncFilters(fleet string) []string { return fleetFilters(fleet, wire.KindSync, wire.KindSynced) }

// answersMost is how many answers may wait for the broker's acknowledgement at once:
// the later an answer, the less a device learns from it.
const answersMost = 64

// AnswerSync tells each device that connects what time it is here, until ctx ends,
// which is no error. told is called after each answer, or with why it was not given,
// one call at a time. Its error is ErrDropped: no answer of its own has come back.
func (b *Mailbox) AnswerSync(ctx context.Context, told func(Synced, error)) error {
	ctx, stop := context.WithCancelCause(ctx)
	a := &syncAnswers{box: b, told: told, dropped: stop, room: make(chan struct{}, answersMost),
		back: syncEcho{sent: map[string]string{}, heard: make(chan struct{})}}
	defer a.all.Wait()
	defer stop(nil)
	for {
		m, err := b.Next(ctx)
		switch {
		case errors.Is(context.Cause(ctx), ErrDropped):
			return ErrDropped
		case ctx.Err() != nil:
			return nil
		case err != nil:
			a.tell(Synced{}, err)
		case !a.back.hear(m):
			a.answer(ctx, m)
		}
	}
}

// syncAnswers are those under way.
type syncAnswers struct {
	box     *Mailbox
	dropped context.CancelCauseFunc
	room    chan struct{} // holds one token for each that the broker has not acknowledged
	back    syncEcho
	all     sync.WaitGroup

	mu   sync.Mutex // held while it is told
	told func(Synced, error)
}

func (a *syncAnswers) tell(s Synced, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.told(s, err)
}

// answer answers a sync.
func (a *syncAnswers) answer(ctx context.Context, m mqtt.Message) {
	s, answer, err := AnswerTo(m, time.Now())
	if err != nil {
		a.tell(s, err)
		return
	}
	a.back.listen(answer)
	a.room <- struct{}{}
	a.all.Go(func() {
		breaks := a.box.breaks()
		err := a.box.Publish(ctx, answer)
		<-a.room
		if err == nil {
			err = a.box.handedOn(ctx, breaks, a.back.heard, nil)
		}
		switch {
		case errors.Is(err, ErrDropped):
			a.dropped(err)
		case !errors.Is(err, context.Canceled):
			a.tell(s, err)
		}
	})
}

// syncEcho listens for the first answer that comes back: then this name may give them.
type syncEcho struct {
	sent  map[string]string // by topic, the last answer, of MaxDevices at most; nil once one came back
	heard chan struct{}     // closed then
}

func (e *syncEcho) listen(answer mqtt.Message) {
	if _, again := e.sent[answer.Topic]; e.sent != nil && (again || len(e.sent) < MaxDevices) {
		e.sent[answer.Topic] = string(answer.Payload)
	}
}

// hear tells whether a message is an answer, which is nobody's question.
func (e *syncEcho) hear(m mqtt.Message) bool {
	t, err := wire.ParseTopic(m.Topic)
	if err != nil || t.Kind != wire.KindSynced {
		return false
	}
	if sent, ok := e.sent[m.Topic]; ok && sent == string(m.Payload) {
		e.sent = nil
		close(e.heard)
	}
	return true
}

// AnswerTo makes the answer to a sync that came now.
func AnswerTo(m mqtt.Message, now time.Time) (s Synced, answer mqtt.Message, err error) {
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
