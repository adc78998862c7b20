package bench

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

// sender is a camera that sends frames, by the clock and not by what comes back.
type sender struct {
	mailbox *fleet.Mailbox
	jobs    [][]byte        // payloads, in turns
	beats   []time.Duration // when its frames are due, since the beginning
}

// beats are the moments of one of several cameras that together send at a rate,
// each as far from the next as from the one before.
func beats(camera, of int, rate float64, from, until time.Duration) (due []time.Duration) {
	for i := camera; ; i += of {
		at := from + time.Duration(float64(i)/rate*float64(time.Second))
		if at >= until {
			return due
		}
		due = append(due, at)
	}
}

// postmark is a result as it came in; it is read when there is time for it.
type postmark struct {
	frame   int // in the ledger
	at      time.Duration
	payload []byte
}

// drive lets cameras send and returns what became of every frame. Results come to
// the client's mailbox.
func drive(ctx context.Context, c *desk.Client, cameras []sender, deadline time.Duration) (*ledger, error) {
	a := &ledger{deadline: deadline}
	name, frames := fleet.NewID()[:12], map[string]int{}
	for i, cam := range cameras {
		for k, due := range cam.beats {
			frames[frameID(name, i, k)] = len(a.fates)
			a.fates = append(a.fates, fate{camera: i, due: due})
		}
	}
	begin, next := time.Now().Add(leadTime), 0
	g, gctx := errgroup.WithContext(ctx)
	for i, cam := range cameras {
		own := a.fates[next:][:len(cam.beats)]
		next += len(own)
		g.Go(func() error {
			return cam.run(gctx, begin, own, func(k int) string { return c.Self.Job(frameID(name, i, k)) })
		})
	}
	var mail []postmark
	g.Go(func() (err error) {
		mail, err = collect(gctx, c.Mailbox, frames, begin)
		return err
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return a, a.enter(mail)
}

// leadTime is what the cameras have to get ready before the first frame is due.
const leadTime = 20 * time.Millisecond

func frameID(name string, camera, k int) string { return fmt.Sprintf("%s-%d-%d", name, camera, k) }

// run sends every frame when it is due, and notes how late it left. One that
// leaves late does not delay the ones after it.
func (c *sender) run(ctx context.Context, begin time.Time, frames []fate, topic func(k int) string) error {
	for k := range frames {
		due := begin.Add(frames[k].due)
		if err := desk.Wait(ctx, due); err != nil {
			return err
		}
		outcome := c.mailbox.Send(ctx, mqtt.Message{Topic: topic(k), Payload: c.jobs[k%len(c.jobs)], QoS: 1})
		frames[k].lag = time.Since(due)
		if err := desk.Sent(outcome); err != nil {
			return fmt.Errorf("camera: %w", err)
		}
	}
	return nil
}

// collect takes in the results of frames until none is missing, or nothing comes
// any more.
func collect(ctx context.Context, st *fleet.Mailbox, frames map[string]int, begin time.Time) (
	mail []postmark, err error) {
	seen := make([]bool, len(frames))
	for len(mail) < len(frames) {
		wait, cancel := context.WithTimeout(ctx, desk.Silence)
		m, err := st.Next(wait)
		cancel()
		at := time.Since(begin)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			return mail, nil // what is missing the ledger tells
		}
		t, err := wire.ParseTopic(m.Topic)
		i, ours := frames[t.ID]
		if err != nil || t.Kind != wire.KindResult || !ours || seen[i] {
			continue
		}
		seen[i] = true
		mail = append(mail, postmark{i, at, m.Payload})
	}
	return mail, nil
}

// enter reads the results into the ledger.
func (a *ledger) enter(mail []postmark) error {
	var errs []error
	for _, m := range mail {
		var r wire.Result
		if err := wire.Decode(m.payload, &r); err != nil {
			errs = append(errs, fmt.Errorf("a result cannot be read: %w", err))
			continue
		}
		f := &a.fates[m.frame]
		*f = newFate(*f, m.at-f.due, &r)
	}
	return errors.Join(errs...)
}
