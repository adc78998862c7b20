package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/limber-edge/limber/agent/bench/desk"
	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

// traffic is the cameras and the record of their frames.
type traffic struct {
	mailbox *fleet.Mailbox
	self    wire.Address
	plan    *plan
	rec     *record
}

// run notes everything the device says while the cameras are driven; whoever
// watches does so until they have been.
func (t *traffic) run(ctx context.Context, drive func(context.Context) error,
	watch ...func(context.Context) error) error {
	g, gctx := errgroup.WithContext(ctx)
	done, stop := context.WithCancel(gctx)
	for _, w := range append(watch, t.receive) {
		g.Go(func() error { return w(done) })
	}
	g.Go(func() error {
		defer stop()
		return drive(gctx)
	})
	return g.Wait()
}

// practise runs the cameras for a while with a record of its own.
func (t *traffic) practise(ctx context.Context, deadline time.Duration, name string) (*record, error) {
	warm := *t
	warm.rec = newRecord(t.plan, deadline)
	warm.rec.begin(name, 0)
	return warm.rec, warm.run(ctx, func(ctx context.Context) error {
		if err := warm.send(ctx, warmUpTime); err != nil {
			return err
		}
		return errors.Join(warm.rec.await(ctx, lastCall), warm.rec.settle(ctx))
	})
}

// send runs every camera for a while, each at its own beat.
func (t *traffic) send(ctx context.Context, d time.Duration) error {
	g, gctx := errgroup.WithContext(ctx)
	end := time.Now().Add(d)
	for i, c := range t.plan.cameras {
		g.Go(func() error {
			offset := time.Second / CameraRate * time.Duration(i) / time.Duration(len(t.plan.cameras))
			return t.camera(gctx, c, time.Now().Add(offset), end)
		})
	}
	return g.Wait()
}

// source is a camera of frames that are given their ids by the device, which
// counts them. So it knows the ids if it counts what it sends.
type source struct {
	name string
	boot string // of the device
	sent int    // frames
}

func (c *source) next() string {
	c.sent++
	return fmt.Sprintf("%s-%.8s-%d", c.name, c.boot, c.sent)
}

// camera publishes frames until end. A frame that comes late does not delay the
// ones after it: a camera does not wait for the network.
func (t *traffic) camera(ctx context.Context, c *source, next, end time.Time) error {
	for ; next.Before(end); next = next.Add(time.Second / CameraRate) {
		if err := desk.Wait(ctx, next); err != nil {
			return err
		}
		image := t.rec.sent(c.next())
		outcome := t.mailbox.Send(ctx, mqtt.Message{Topic: t.self.Frame(c.name), Payload: t.plan.jobs[image], QoS: 1})
		if err := desk.Sent(outcome); err != nil {
			return fmt.Errorf("camera: %w", err)
		}
	}
	return nil
}

// receive notes everything the device says until ctx ends.
func (t *traffic) receive(ctx context.Context) error {
	for {
		m, err := t.mailbox.Next(ctx)
		if err != nil {
			return nil // asked to stop
		}
		topic, err := wire.ParseTopic(m.Topic)
		if err != nil {
			return err
		}
		if err := t.rec.note(topic.Kind, m.Payload); err != nil {
			return fmt.Errorf("%s: %w", m.Topic, err)
		}
	}
}
