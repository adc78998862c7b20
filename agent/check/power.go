package check

import (
	"context"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/limber-edge/limber/firmware/power"
)

// Power looks at the power modes of the board, and at whether they can be changed where
// the owner allows it.
type Power struct {
	Board   *power.Board
	SetMode bool   // the owner allows it
	Socket  string // of the helper that sets modes for agents without root
}

// Run implements Check. A device that cannot do what its owner allows works as well
// without, so that is a warning.
func (p Power) Run(context.Context) Finding {
	const check = "power"
	modes := p.Board.Modes()
	has := "this board has no power modes"
	if len(modes.Names) > 0 {
		has = "modes " + strings.Join(modes.Names, ", ")
		if modes.Current != "" {
			has += "; " + modes.Current + " is in force"
		}
	}
	switch {
	case !p.SetMode:
		return holds(check, Warning, "%s; operators may not change it (power.set_mode)", has)
	case len(modes.Names) == 0:
		return fails(check, Warning, "set power.set_mode to false", "power.set_mode is true, but %s", has)
	case unix.Access(p.Socket, unix.W_OK) == nil:
		return holds(check, Warning, "%s; the helper at %s sets them", has, p.Socket)
	case os.Geteuid() != 0:
		return fails(check, Warning, "name the modes in /etc/limber/power.env and `systemctl start limber-power.socket`, "+
			"or set power.set_mode to false", "power.set_mode is true, but this user may not change the mode: %s", has)
	}
	return holds(check, Warning, "%s", has)
}
