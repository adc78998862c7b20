package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/limber-edge/limber/agent/bench/camera"
	"github.com/limber-edge/limber/agent/bench/desk"
	"github.com/limber-edge/limber/agent/bench/figure"
	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
)

func shadowFigures() [][3]string {
	return [][3]string{{"p95 at 30 frames a second", "ms", figure.Lower}, {"p95 at half the capacity", "ms", figure.Lower}}
}

func smallShadow(t *testing.T, out io.Writer, slot time.Duration) *shadowBench {
	return &shadowBench{Bench: testBench(t, out), rounds: 1, slot: slot,
		size: camera.Size{Name: "vga", Width: 64, Side: 48}}
}

// mustCompare is work beside a device that says of each family that a frame was compared,
// and ends when it is told to; or fails it as a reason says.
func mustCompare(t *testing.T, s *site, fails wire.Reason, work func(context.Context, shadowing) error) error {
	t.Helper()
	next := &family.Family{Name: "next"}
	over := errors.New("over")
	filters := []string{s.self.Filter(wire.KindCmd)}
	return desk.Connect(t.Context(), s.url, t.Output(), filters, func(ctx context.Context, device *fleet.Mailbox) error {
		g, gctx := errgroup.WithContext(ctx)
		g.Go(func() error {
			return receiveAll(gctx, device, func(c wire.Topic, payload []byte) {
				var order wire.Command
				if err := wire.Decode(payload, &order); err != nil {
					t.Error(err)
				}
				a := wire.Ack{ID: c.ID, Verb: wire.VerbFamily, State: wire.CommandExecuting, Shadow: &wire.Agreement{Frames: 1}}
				switch {
				case c.Verb == wire.VerbCancel:
					a.ID, a.State, a.Shadow = order.Cancel, wire.CommandCancelled, &wire.Agreement{Frames: 7}
				case fails != "":
					a.State, a.Reason = wire.CommandFailed, fails
				}
				b, err := json.Marshal(a)
				if err == nil {
					err = device.Publish(gctx, mqtt.Message{Topic: s.self.Ack(wire.VerbFamily, a.ID), Payload: b, QoS: 1})
				}
				if err != nil {
					t.Error(err)
				}
			})
		})
		g.Go(func() error {
			acks := []string{s.self.Filter(wire.KindAck)}
			err := desk.Connect(gctx, s.url, t.Output(), acks, func(ctx context.Context, operator *fleet.Mailbox) error {
				return work(ctx, shadowing{mailbox: operator, self: s.self, next: next})
			})
			return errors.Join(err, over)
		})
		if err := g.Wait(); err.Error() != over.Error() {
			return err
		}
		return nil
	})
}

// With a real agent: TestShadowMeasuresARealAgent.
func TestShadowOffersEachLoadWithAndWithout(t *testing.T) {
	var out bytes.Buffer
	b, s := smallShadow(t, &out, 50*time.Millisecond), mustSite(t)
	b.jobs = [][]byte{[]byte("a frame")}
	err := mustCompare(t, s, "", func(ctx context.Context, shadow shadowing) error {
		b.shadow = shadow
		ok := func(string) wire.Result { return wire.Result{Status: wire.OK, ExpectedTop1: new(0.75), Met: true} }
		mustAnswer(t, s, ok, func(ctx context.Context, c *desk.Client) error {
			b.client = c
			return b.measure(ctx)
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	mustAgree(t, mustFigures(t, out.String()), "shadow", shadowFigures())
}

func TestAShadowThatADeviceRefusesEndsTheBenchmark(t *testing.T) {
	s := mustSite(t)
	err := mustCompare(t, s, wire.Unsupported, func(ctx context.Context, shadow shadowing) error {
		return shadow.begin(ctx, func() error { return nil })
	})
	if err == nil || !strings.Contains(err.Error(), "the family is not compared: failed unsupported") {
		t.Errorf("got %v", err)
	}
}
