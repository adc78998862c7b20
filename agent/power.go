package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/firmware/power"
)

// What waits for the power mode of the board, and how long setting one may take
// where the command does not expire earlier.
const (
	powerMost     = 8 // commands
	powerPatience = 30 * time.Second
)

// controlPower obeys commands for the power mode, one after the other, until ctx
// ends. They have a goroutine of their own: what sets a power mode may hang.
func (a *Agent) controlPower(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-a.power.some:
			if o, ok := a.power.take(); ok {
				a.command(ctx, o)
			}
		}
	}
}

// judgePower says what a command for a power mode does, or why it cannot be
// accepted.
func (a *Agent) judgePower(mode string, expires time.Time) (deed, error) {
	board := a.parts.Board
	setter, err := board.Setter(power.Permission{SetMode: a.cfg.Power.SetMode})
	if err != nil {
		return nil, refused{reason: wire.Unauthorized, error: fmt.Errorf("%w: its configuration must have power.set_mode = true", err)}
	}
	names := board.Modes().Names
	switch {
	case len(names) == 0:
		return nil, refuse(wire.Unsupported, "this board has no power modes")
	case !slices.Contains(names, mode):
		return nil, refused{reason: wire.Invalid, error: fmt.Errorf("power mode %.64q: %w; there are %s", mode, power.ErrUnknown, joined(names))}
	}
	return func(ctx context.Context) error { return a.setPower(ctx, setter, mode, expires) }, nil
}

// setPower puts a power mode in force. It tells of a change also where it failed
// half way.
func (a *Agent) setPower(ctx context.Context, setter *power.Setter, mode string, expires time.Time) error {
	board := a.parts.Board
	before := board.Modes().Current
	limited, cancel := context.WithTimeout(ctx, min(time.Until(expires), powerPatience))
	defer cancel()
	err := setter.Set(limited, mode)
	if now := board.Modes().Current; now != before {
		const unknown = "unknown"
		a.log.Info("power mode changed", "mode", cmp.Or(now, unknown))
		a.news.tell(wire.SeverityInfo, wire.Event{Kind: wire.EventPower,
			Detail: fmt.Sprintf("the board's power mode is %s; it was %s", cmp.Or(now, unknown), cmp.Or(before, unknown))})
		a.sayCaps(ctx)
	}
	switch {
	case errors.Is(err, power.ErrReboot):
		return refused{reason: wire.NeedsReboot, error: err}
	case errors.Is(err, context.DeadlineExceeded):
		return refused{reason: wire.Expired, error: err}
	}
	return err
}
