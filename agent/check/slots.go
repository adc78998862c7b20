package check

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Slots looks at which program the launcher starts.
type Slots struct {
	Folder string // of the state
}

// Run implements Check.
func (s Slots) Run(context.Context) Finding {
	const check = "slots"
	current := filepath.Join(s.Folder, "slots", "current")
	remedy := fmt.Sprintf("remove %s: the program of the package runs then", current)
	slot, err := os.Readlink(current)
	if errors.Is(err, fs.ErrNotExist) {
		return holds(check, Error, "no release is installed: the program of the package runs")
	} else if err != nil {
		return failsBy(check, Error, remedy, err)
	}
	program := filepath.Join(current, "limber")
	if err := unix.Access(program, unix.X_OK); err != nil {
		return fails(check, Error, remedy, "slot %s is in use, but %s cannot be run: %v", slot, program, err)
	}
	return holds(check, Error, "the release in slot %s runs", slot)
}
