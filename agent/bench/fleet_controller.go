package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"

	"github.com/limber-edge/limber/agent/bench/desk"
	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

// benchController is that of the fleet.
var benchController = wire.Address{Fleet: benchFleet, Device: wire.Controller}

// serve starts the controller, and waits until it is there.
func (b *fleetBench) serve(ctx context.Context, s *site) error {
	err := s.startSelf(ctx, "fleet", "serve", "--state", filepath.Join(s.dir, "controller"), "--broker", s.url, "--fleet",
		benchFleet, "--log-level", "error")
	if err != nil {
		return err
	}
	return desk.Connect(ctx, s.url, b.Stderr, []string{benchController.State()}, func(ctx context.Context,
		m *fleet.Mailbox) error {
		return awaitDocument(ctx, m, func(_ wire.Topic, state wire.State) bool { return state.State == wire.Online })
	})
}

// rollOut has the controller bring a mode to all devices at once.
func (b *fleetBench) rollOut(ctx context.Context, s *site) error {
	filters := []string{benchController.Filter(wire.KindRollout)}
	return desk.Connect(ctx, s.url, b.Stderr, filters, func(ctx context.Context, m *fleet.Mailbox) error {
		asked, err := json.Marshal(wire.RolloutCommand{Action: wire.RolloutStart, Rollout: "bench", Spec: &wire.RolloutSpec{
			Mode: "low-latency", Phases: []string{"100%"}, SoakMS: new(0.0),
			Gates: []wire.Gate{{Name: wire.GateSuccess, Limit: "1"}}}, TTLMS: new(wire.Millis(desk.StartTime))})
		if err != nil {
			return err
		}
		topic := benchController.Cmd(wire.VerbRollout, fleet.NewID())
		if err := m.Publish(ctx, mqtt.Message{Topic: topic, Payload: asked, QoS: 1}); err != nil {
			return err
		}
		var last wire.Rollout
		err = awaitDocument(ctx, m, func(t wire.Topic, r wire.Rollout) bool {
			if t.ID == "bench" {
				last = r
			}
			return last.State.Final()
		})
		if err == nil && last.State != wire.RolloutDone {
			err = fmt.Errorf("rollout of a mode: %s: %s", last.State, last.Why)
		}
		return err
	})
}

// awaitDocument reads messages until one is enough.
func awaitDocument[M wire.State | wire.Rollout](ctx context.Context, m *fleet.Mailbox,
	enough func(wire.Topic, M) bool) error {
	ctx, cancel := context.WithTimeout(ctx, desk.StartTime)
	defer cancel()
	for {
		msg, err := m.Next(ctx)
		if err != nil {
			return fmt.Errorf("the controller does not answer: %w", err)
		}
		var doc M
		t, err := wire.ParseTopic(msg.Topic)
		if err == nil {
			err = wire.Decode(msg.Payload, &doc)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", msg.Topic, err)
		}
		if enough(t, doc) {
			return nil
		}
	}
}
