package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/firmware/power"
	"github.com/limber-edge/limber/store"
)

// What waits for the power mode of the board, and how long setting one may take
// where the command does not expire earlier.
const (
	powerMost     = 8 // commands
	powerPatience = 30 * time.Second
	rebootMost    = 5 * time.Minute // from nvpmodel's word to the end of this process
)

// PowerConfig is what the owner of a board allows, and who may change it.
type PowerConfig struct {
	SetMode     bool   // operators may change the power mode
	AllowReboot bool   // and reboot the board for one that takes it
	Keep        bool   // the mode of the last command is set again when the agent starts
	Socket      string // of the helper that has the rights; where there is none, or it is empty, this process's count
	Boot        string // names this start of the board; empty: unknown
}

// PowerDeps are what a Power works with.
type PowerDeps struct {
	Board   *power.Board
	State   *store.Store
	Events  Events
	Changed func() // Status may read differently; it must not block
	// Lock keeps updates from being activated until release is called. It does not wait:
	// its error is a *wire.Refusal while somebody has the lock.
	Lock func() (release func(), err error)
}

// Power sets the power mode of the board, with a permission only.
type Power struct {
	cfg    PowerConfig
	deps   PowerDeps
	log    *slog.Logger
	ready  chan struct{} // closed when Run is through: what an earlier run left is known
	memory atomic.Pointer[powerMemory]

	goesDown time.Duration // rebootMost, but for a test
}

// NewPower assembles it. It starts nothing.
func NewPower(cfg PowerConfig, deps PowerDeps, log *slog.Logger) *Power {
	p := &Power{cfg: cfg, deps: deps, log: log, ready: make(chan struct{}), goesDown: rebootMost}
	p.memory.Store(p.recall())
	return p
}

// Verb is the one that sets a mode.
func (p *Power) Verb() Verb {
	return Verb{Name: wire.VerbPower, Class: Serial, Most: powerMost, Prepare: p.prepare}
}

// Run finds out which mode is in force, and restores the one that was commanded last if
// that is to be kept. Commands wait for it. It ends by itself.
func (p *Power) Run(ctx context.Context) error {
	defer close(p.ready)
	m, board := p.memory.Load(), p.deps.Board
	before := board.Modes().Current
	if m.awaited(p.cfg.Boot) {
		board.Await(m.Mode, m.Before)
	}
	if differs := board.Ask(ctx); differs != "" {
		p.warn("%s", differs)
	}
	if board.Modes().Current != before {
		p.deps.Changed()
	}
	p.restore(ctx, m)
	return nil
}

// restore sets the mode that a command set last, unless it is left to the board's next
// start.
func (p *Power) restore(ctx context.Context, m *powerMemory) {
	modes := p.deps.Board.Modes()
	if !p.cfg.Keep || m.awaited(p.cfg.Boot) || m.Mode == modes.Current || !slices.Contains(modes.Names, m.Mode) {
		return
	}
	if _, err := p.change(ctx, power.Change{Mode: m.Mode}); err != nil && ctx.Err() == nil {
		p.warn("power.keep: what was set last is not restored: %v", err)
	}
}

func (p *Power) warn(format string, args ...any) {
	p.deps.Events.EventAtOnce(wire.SeverityWarning,
		wire.Event{Kind: wire.EventPower, Detail: fmt.Sprintf(format, args...)})
}

// Status is the power modes of the board; nil where there is nothing to choose.
func (p *Power) Status() *wire.Power {
	modes, learned := p.deps.Board.Modes(), p.memory.Load().Reboots
	if len(modes.Names) == 0 {
		return nil
	}
	s := &wire.Power{Modes: modes.Names, Mode: modes.Current}
	for _, name := range modes.Names {
		id, _ := modes.ID(name) // it is one of them
		reboot := cmp.Or(learned[name], wire.RebootUnknown)
		if modes.Clocks() {
			reboot = wire.RebootNone
		}
		s.List = append(s.List, wire.PowerMode{Name: name, ID: id, Reboot: reboot})
	}
	return s
}

// prepare says what a command for a power mode does, or why it cannot be accepted.
func (p *Power) prepare(_ context.Context, o Order) (Action, error) {
	names := p.deps.Board.Modes().Names
	switch {
	case !p.cfg.SetMode:
		return nil, wire.Refuse(wire.Unauthorized, "%w: its configuration must have power.set_mode = true",
			power.ErrForbidden)
	case o.AllowReboot && !p.cfg.AllowReboot:
		return nil, wire.Refuse(wire.Unauthorized, "rebooting the board was not allowed on this device: its "+
			"configuration must have power.allow_reboot = true")
	case len(names) == 0:
		return nil, wire.Refuse(wire.Unsupported, "this board has no power modes")
	case !slices.Contains(names, o.PowerMode):
		return nil, wire.Refuse(wire.Invalid, "power mode %.64q: %w; there are %s",
			o.PowerMode, power.ErrUnknown, joined(names))
	}
	return func(ctx context.Context, _ *Course) (Outcome, error) {
		select {
		case <-p.ready:
		case <-ctx.Done():
			return Outcome{}, ctx.Err()
		}
		if o.AllowReboot {
			return p.reboot(ctx, o.ID, o.PowerMode)
		}
		return p.set(ctx, power.Change{Mode: o.PowerMode, AtReboot: o.AtReboot})
	}, nil
}

// set carries out a command that does not reboot the board.
func (p *Power) set(ctx context.Context, c power.Change) (Outcome, error) {
	before := p.deps.Board.Modes().Current
	now, err := p.change(ctx, c)
	m := p.learn(p.memory.Load(), c, before, now, err)
	if err != nil {
		return Outcome{Remember: p.remember(m)}, err
	}
	m.Mode, m.Before, m.Boot, m.Command = c.Mode, "", "", ""
	if !c.AtReboot {
		return Outcome{Remember: p.remember(m)}, nil
	}
	m.Before, m.Boot = now, p.cfg.Boot
	return Outcome{Remember: p.remember(m), Detail: "takes effect at the next start"}, nil
}

// reboot carries out a command that may. Before the board goes down it is recorded for
// which start and command, so that the same command, which the broker delivers again to
// the next start, ends there: it never reboots the board a second time.
func (p *Power) reboot(ctx context.Context, id, mode string) (Outcome, error) {
	if m := p.memory.Load(); m.Command == id && !(m.Boot != "" && m.Boot == p.cfg.Boot) {
		return p.rebooted(mode)
	}
	release, err := p.deps.Lock()
	if err != nil {
		return Outcome{}, err
	}
	defer release()
	former, before := p.memory.Load(), p.deps.Board.Modes().Current
	m := *former
	m.Mode, m.Before, m.Boot, m.Command = mode, before, p.cfg.Boot, id
	if err := p.deps.State.SetCell(cellPower, m.encode()); err != nil {
		return Outcome{}, fmt.Errorf("the board is not rebooted, as that cannot be recorded: %w", err)
	}
	c := power.Change{Mode: mode, AllowReboot: true}
	now, err := p.change(ctx, c)
	switch {
	case err != nil:
		return Outcome{Remember: p.remember(p.learn(former, c, before, now, err))}, err
	case now == mode: // it took none
		m.Before, m.Boot, m.Command = "", "", ""
		return Outcome{Remember: p.remember(p.learn(&m, c, before, now, nil))}, nil
	}
	out := Outcome{Remember: p.remember(p.learn(&m, c, before, now, power.ErrReboot))}
	p.log.Info("the board restarts", "mode", mode)
	select {
	case <-ctx.Done():
		return out, fmt.Errorf("the board was to restart for power mode %s, and has not: %w", mode, ctx.Err())
	case <-time.After(p.goesDown): // nobody is to be kept from the lock for as long as the command is good
		return out, fmt.Errorf("the board was to restart for power mode %s, and has not within %v: reboot it by hand", mode,
			p.goesDown)
	}
}

// rebooted ends a command for which the board restarted.
func (p *Power) rebooted(mode string) (Outcome, error) {
	now := p.deps.Board.Modes().Current
	m := p.learn(p.memory.Load(), power.Change{Mode: mode}, "", now, power.ErrReboot)
	m.Before, m.Boot, m.Command = "", "", ""
	out := Outcome{Remember: p.remember(m)}
	if now != mode {
		return out, wire.Refuse(wire.Internal, "the board was restarted for power mode %s, but %s is in force", mode,
			cmp.Or(now, unknownMode))
	}
	return out, nil
}

const unknownMode = "unknown"

// order has the board changed, by its helper where there is one.
func (p *Power) order(ctx context.Context, c power.Change) error {
	if helper := p.deps.Board.Remote(p.cfg.Socket); helper.Present() {
		_, err := helper.Set(ctx, c)
		return err
	}
	own, err := p.deps.Board.Setter(power.Permission{SetMode: p.cfg.SetMode, Reboot: p.cfg.AllowReboot})
	if err == nil {
		_, err = own.Set(ctx, c)
	}
	return err
}

// change has the board changed. It tells of a change also where it failed half way.
func (p *Power) change(ctx context.Context, c power.Change) (now string, err error) {
	before := p.deps.Board.Modes().Current
	limited, cancel := context.WithTimeout(ctx, powerPatience)
	defer cancel()
	err = p.order(limited, c)
	if now = p.deps.Board.Modes().Current; now != before {
		p.log.Info("power mode changed", "mode", cmp.Or(now, unknownMode))
		p.deps.Events.Event(wire.SeverityInfo, wire.Event{Kind: wire.EventPower, Detail: fmt.Sprintf(
			"the board's power mode is %s; it was %s", cmp.Or(now, unknownMode), cmp.Or(before, unknownMode))})
		p.deps.Changed()
	}
	if err == nil || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return now, err
	}
	return now, &wire.Refusal{Reason: wire.Reason(power.Reason(err)), Err: err}
}
