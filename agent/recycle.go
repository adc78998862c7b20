package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/limber-edge/limber/agent/monitor"
	"github.com/limber-edge/limber/agent/pipeline"
)

// ErrHung ends Run when an inference hangs and cannot be interrupted, or when
// inferences hung too often. Nothing that ONNX Runtime holds may be freed then:
// the process must end, for its supervisor to start it anew.
var ErrHung = pipeline.ErrHung

// Inferences that hang so often within such a time are not the fault of one
// frame or one session.
const (
	hangsMost = 3
	hangsTime = time.Hour
)

// work starts a crew and replaces what hangs.
func (a *Agent) work(ctx context.Context, g *errgroup.Group, c *crew) {
	c.start(ctx, g)
	g.Go(func() error { return a.recycle(ctx, c) })
}

// recycle gives members that hung a new session, until ctx ends.
func (a *Agent) recycle(ctx context.Context, c *crew) error {
	var hangs []time.Time
	for {
		var at int
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.over:
			return nil
		case at = <-c.hung:
		}
		name := c.member(at).Name
		hangs = append(hangs, time.Now())
		if n := len(hangs); n >= hangsMost && hangs[n-1].Sub(hangs[n-hangsMost]) < hangsTime {
			c.hangs.Store(true)
			return fmt.Errorf("member %s: %d inferences were interrupted within %v: %w", name, hangsMost, hangsTime, ErrHung)
		}
		a.fault(fmt.Sprintf("member %s hung and was interrupted; it gets a new session", name))
		if err := c.renew(ctx, at); err != nil && ctx.Err() == nil {
			a.log.Error("member gets no new session", "member", name, "err", err)
			a.fault(fmt.Sprintf("member %s gets no new session; this is tried again: %v", name, err))
		}
	}
}

// renew puts a new session in the place of one that hung. A member that made
// room in memory meanwhile gets one when it comes back; so does one that no
// session can be made for now, unless it is the only one in use, which goes on
// with the session it has.
func (c *crew) renew(ctx context.Context, at int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.sessions[at]
	if c.retired || old == nil {
		return nil
	}
	s, err := c.shelf.Session(c.front[at])
	if err != nil {
		if c.pipe.Use(ctx, at, nil) == nil {
			c.free(at)
			c.spared[at] = newSpared(monitor.Memory{})
		}
		return err
	}
	c.sessions[at] = c.line.hold(s, c.front[at])
	if err := c.pipe.Use(ctx, at, c.sessions[at]); err != nil {
		return errors.Join(err, old.Close()) // the pipeline ends, and the new one with the crew
	}
	return old.Close()
}
