package engine

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/pipeline"
	"github.com/limber-edge/limber/agent/wire"
)

// askPatience is how long the members in use may take to say what they can do:
// an inference that hangs is interrupted later than that.
const askPatience = time.Second

// Feasible tells whether the members in use can give what a mode asks for; if not,
// nearest is the goal that they can. It waits while members are prepared or
// loaded, for what they can do together is not known before; but a mode that names
// neither a member nor figures can always be had. Its errors are ctx's
// and a *wire.Refusal: unsupported where the device cannot infer, invalid for a
// fixed member that is not in use, infeasible, or busy where the members take longer
// than a second to say. After Run it is pipeline.ErrClosed.
func (e *Engine) Feasible(ctx context.Context, m governor.Mode) (nearest governor.Goal, err error) {
	for {
		v := e.view.Load()
		switch {
		case v.State == Unavailable:
			return nearest, wire.Refuse(wire.Unsupported, "%s", v.Detail)
		case m.Member() == "" && m.Goal() == (governor.Goal{}):
			return nearest, nil // whatever members there will be
		case v.backend != nil && m.Member() != "":
			return nearest, v.backend.lacks(m)
		case v.backend != nil && !v.Loading:
			nearest, err = v.backend.feasible(ctx, m)
			if !errors.Is(err, pipeline.ErrClosed) {
				return nearest, err
			} // else another backend has taken over, or will not
		}
		select {
		case <-v.stale:
		case <-e.over:
			return nearest, pipeline.ErrClosed
		case <-ctx.Done():
			return nearest, ctx.Err()
		}
	}
}

// feasible asks the governor. Its errors are those of Feasible and pipeline.ErrClosed.
func (b *backend) feasible(ctx context.Context, m governor.Mode) (governor.Goal, error) {
	asked, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	nearest, err := b.pipe.Feasible(asked, m)
	switch {
	case err == nil || errors.Is(err, pipeline.ErrClosed):
		return nearest, err
	case ctx.Err() != nil:
		return nearest, ctx.Err()
	case asked.Err() != nil:
		return nearest, wire.Refuse(wire.Busy, "the members in use are too busy to say what they can do")
	}
	return nearest, &wire.Refusal{Reason: wire.Infeasible, Err: err}
}

// lacks refuses a mode of a fixed member that the backend has not.
func (b *backend) lacks(m governor.Mode) error {
	var names []string
	for at := range b.front {
		names = append(names, b.member(at).Name)
	}
	if m.Member() == "" || slices.Contains(names, m.Member()) {
		return nil
	}
	return wire.Refuse(wire.Invalid, "mode %s: no such member in use; there are %s", m, strings.Join(names, ", "))
}
