package image

import (
	"context"
	"path/filepath"
)

// SystemBus is where RAUC's service is found but in tests.
const SystemBus = "unix:path=/run/dbus/system_bus_socket"

// RAUC is an Installer: RAUC 1.3 or newer (the tests have Debian's 1.8) with its service, two
// slots of one class that have boot names, and any boot loader that RAUC knows.
type RAUC struct {
	bus   string // address of a D-Bus
	board tegra
}

var _ Installer = (*RAUC)(nil)

// NewRAUC returns the RAUC on a bus, for the board whose root folder is given: "/" but in
// tests. Neither is looked for until it is asked.
func NewRAUC(bus, root string) *RAUC { return &RAUC{bus, tegra(root)} }

// Preflight implements Installer.
func (r *RAUC) Preflight(ctx context.Context) error {
	if err := r.board.preflight(ctx); err != nil {
		return err
	}
	return r.ask(ctx, "look for a slot", func(i *installer) error {
		s, err := i.slots(ctx)
		if err != nil {
			return err
		}
		if !s.Running.Good {
			return refuse(ErrPrecondition, "slot %s runs and is marked bad, so there would be no way back to it: confirm it, "+
				"as with `rauc status mark-good`, or go back to %s first", s.Running.Name, s.Other.Name)
		}
		return nil
	})
}

// Install implements Installer.
func (r *RAUC) Install(ctx context.Context, file string, progress func(percent int, step string)) error {
	if !filepath.IsAbs(file) { // RAUC would take a URL, too, and fetch what nobody judged
		return refuse(ErrRefused, "install %s: it is not the absolute path of a file", file)
	}
	return r.ask(ctx, "install "+file, func(i *installer) error {
		trusted, err := i.judge(ctx, file)
		if err != nil {
			return err
		}
		if err := i.install(ctx, file, progress); err != nil && !trusted {
			return refuse(ErrRefused, "%w", err)
		} else if err != nil {
			return err
		}
		s, err := i.slots(ctx)
		if err == nil && s.Next != s.Other.Name { // activate-installed=false
			err = i.mark(ctx, "active", s.Other.Name)
		}
		return err
	})
}

// Active implements Installer.
func (r *RAUC) Active(ctx context.Context) (s Slots, err error) {
	err = r.ask(ctx, "read the slots", func(i *installer) error {
		s, err = i.slots(ctx)
		return err
	})
	return s, err
}

// Confirm implements Installer.
func (r *RAUC) Confirm(ctx context.Context) error {
	return r.ask(ctx, "confirm the slot that runs", func(i *installer) error { return i.mark(ctx, "good", "booted") })
}

// Revert implements Installer.
func (r *RAUC) Revert(ctx context.Context, to string) error {
	return r.ask(ctx, "go back to "+to, func(i *installer) error {
		s, err := i.slots(ctx)
		if err != nil {
			return err
		}
		back, from := s.Running, s.Other
		if to == from.Name {
			back, from = from, back
		}
		if to != back.Name {
			return refuse(ErrPrecondition, "there are the slots %s and %s", s.Running.Name, s.Other.Name)
		}
		if !back.Good {
			return refuse(ErrPrecondition, "slot %s is marked bad: install a good image in it", to)
		}
		if err := i.mark(ctx, "active", to); err != nil { // first: it is the way out
			return err
		}
		return i.mark(ctx, "bad", from.Name)
	})
}
