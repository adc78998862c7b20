package check

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/limber-edge/limber/firmware/slot"
)

// Slots looks at which program the launcher starts.
type Slots struct {
	Folder string // of the state
}

// Run implements Check. Where the release in use cannot be started the launcher starts the
// one before; that a release did not prove itself is as it should be.
func (s Slots) Run(context.Context) Finding {
	const check = "slots"
	slots := slot.Open(s.Folder)
	p, err := slots.Phase()
	if errors.Is(err, fs.ErrPermission) {
		return failsBy(check, Warning, "run this as the agent's user", err)
	} else if err != nil {
		return failsBy(check, Error, fmt.Sprintf("remove it, what runs already, slot %s, goes on", p.Slot), err)
	}
	runs := "the program of the package runs"
	if p.Slot != slot.Package {
		r, err := slots.Release(p.Slot)
		switch {
		case err != nil && os.Geteuid() == 0: // who else may write there is another matter for the agent
			return fails(check, Warning, "run this as the agent's user", "%v", err)
		case err != nil:
			return fails(check, Error, fmt.Sprintf("update again; %s runs meanwhile", p.Previous), "%v", err)
		}
		runs = fmt.Sprintf("release %s in slot %s runs", r.Version, p.Slot)
	}
	if p.InTrial() {
		runs += ", on trial"
	}
	if l := p.Last; l != nil && l.Outcome != slot.Confirmed {
		runs += fmt.Sprintf("; %s: %s (%s), see `limber firmware status --state %s`", l.Version, l.Outcome, l.Reason,
			s.Folder)
	}
	return holds(check, Error, "%s", runs)
}
