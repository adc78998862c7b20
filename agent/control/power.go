package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
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

// powerModes are those of a board, which operators may set, or not.
type powerModes struct {
	board      *power.Board
	permission power.Permission
	events     Events
	changed    func()
	log        *slog.Logger
}

// Power is the verb that sets the power mode of the board with a permission only. changed is called after each change.
func Power(b *power.Board, p power.Permission, events Events, changed func(), log *slog.Logger) Verb {
	modes := &powerModes{b, p, events, changed, log}
	return Verb{Name: wire.VerbPower, Class: Serial, Most: powerMost, Prepare: modes.prepare}
}

// prepare says what a command for a power mode does, or why it cannot be accepted.
func (p *powerModes) prepare(_ context.Context, c Order) (Action, error) {
	setter, err := p.board.Setter(p.permission)
	if err != nil {
		return nil, wire.Refuse(wire.Unauthorized, "%w: its configuration must have power.set_mode = true", err)
	}
	names := p.board.Modes().Names
	switch {
	case len(names) == 0:
		return nil, wire.Refuse(wire.Unsupported, "this board has no power modes")
	case !slices.Contains(names, c.PowerMode):
		return nil, wire.Refuse(wire.Invalid, "power mode %.64q: %w; there are %s",
			c.PowerMode, power.ErrUnknown, joined(names))
	}
	return func(ctx context.Context, _ *Course) (Outcome, error) {
		return Outcome{}, p.set(ctx, setter, c.PowerMode)
	}, nil
}

// set puts a power mode in force. It tells of a change also where it failed half way.
func (p *powerModes) set(ctx context.Context, setter *power.Setter, mode string) error {
	before := p.board.Modes().Current
	limited, cancel := context.WithTimeout(ctx, powerPatience)
	defer cancel()
	err := setter.Set(limited, mode)
	if now := p.board.Modes().Current; now != before {
		const unknown = "unknown"
		p.log.Info("power mode changed", "mode", cmp.Or(now, unknown))
		p.events.Event(wire.SeverityInfo, wire.Event{Kind: wire.EventPower,
			Detail: fmt.Sprintf("the board's power mode is %s; it was %s", cmp.Or(now, unknown), cmp.Or(before, unknown))})
		p.changed()
	}
	if errors.Is(err, power.ErrReboot) {
		return &wire.Refusal{Reason: wire.NeedsReboot, Err: err}
	}
	return err
}
