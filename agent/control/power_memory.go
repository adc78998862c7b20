package control

import (
	"encoding/json"
	"errors"
	"maps"

	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/firmware/power"
	"github.com/limber-edge/limber/store"
)

// cellPower is where a powerMemory outlives a restart.
const cellPower = "power"

// powerMemory is what is to be known of commands for a power mode after a restart.
type powerMemory struct {
	Mode string `json:"mode,omitempty"` // that a command set last
	// Of one that was left to the board's next start: the mode in force before, which start
	// that was, and the command that had the board reboot; empty if none had.
	Before  string `json:"before,omitempty"`
	Boot    string `json:"boot,omitempty"`
	Command string `json:"command,omitempty"`
	// Reboots is what setting a mode took when it was tried last, by its name.
	Reboots map[string]wire.PowerReboot `json:"reboots,omitempty"`
}

// awaited tells whether the mode is left to the start after this one.
func (m *powerMemory) awaited(boot string) bool { return m.Boot != "" && m.Boot == boot }

// learn is a copy with what is known after a change was tried.
func (p *Power) learn(m *powerMemory, c power.Change, before, now string, err error) *powerMemory {
	learned, takes := *m, wire.RebootUnknown
	switch {
	case p.deps.Board.Modes().Clocks():
		return &learned
	case errors.Is(err, power.ErrReboot):
		takes = wire.RebootRequired
	case err == nil && now == c.Mode && before != now:
		takes = wire.RebootNone
	default:
		return &learned
	}
	learned.Reboots = maps.Clone(m.Reboots)
	if learned.Reboots == nil {
		learned.Reboots = map[string]wire.PowerReboot{}
	}
	learned.Reboots[c.Mode] = takes
	return &learned
}

func (m *powerMemory) encode() []byte {
	b, err := json.Marshal(m)
	if err != nil {
		panic("control: what is to be known of the power mode cannot be encoded: " + err.Error())
	}
	return b
}

// recall reads what an earlier run left.
func (p *Power) recall() *powerMemory {
	m := new(powerMemory)
	b, err := p.deps.State.Cell(cellPower)
	if err == nil {
		err = json.Unmarshal(b, m)
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		p.log.Error("what is known of the power mode is not readable", "err", err)
		m = new(powerMemory)
	}
	return m
}

// remember is what is to be stored from now on.
func (p *Power) remember(m *powerMemory) []store.Cell {
	former := p.memory.Swap(m)
	if !maps.Equal(former.Reboots, m.Reboots) {
		p.deps.Changed()
	}
	return []store.Cell{{Name: cellPower, Value: m.encode()}}
}
