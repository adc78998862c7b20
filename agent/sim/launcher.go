package sim

import (
	"errors"
	"fmt"
	"slices"

	"github.com/limber-edge/limber/agent/release"
	"github.com/limber-edge/limber/firmware/slot"
)

// Release is one of the program that does not prove itself on a device; all others do.
type Release struct {
	Version string      `json:"version"`
	Fails   slot.Reason `json:"fails"` // no_link: it reaches no broker; the others are told as they are launched
}

// reasons are those that a release may fail for.
func reasons() []slot.Reason {
	return []slot.Reason{slot.Crash, slot.Hang, slot.NoLink, slot.Canary, slot.Inference, slot.State}
}

func (r Release) check() error {
	if !slices.Contains(reasons(), r.Fails) {
		return fmt.Errorf("release %q: fails %q: wants one of %v", r.Version, r.Fails, reasons())
	}
	return nil
}

// said is what a release that is launched says last.
func (r Release) said() string {
	switch r.Fails {
	case slot.Crash:
		return fmt.Sprintf("panic: simulated, in release %s\n", r.Version)
	case slot.Hang:
		return ""
	}
	return fmt.Sprintf("release %s did not prove itself: %s: simulated\n", r.Version, r.Fails)
}

// fails is why a release does not prove itself; "" if it does.
func (p *Profile) fails(version string) slot.Reason {
	for _, r := range p.Releases {
		if r.Version == version {
			return r.Fails
		}
	}
	return ""
}

// program is what runs on a device: this one, whatever lies in the slot.
type program struct {
	slots   *slot.Agent // nil: the device takes no releases
	version string
	deaf    bool // it reaches no broker
}

// launch stands in for limber-boot: it says what is to run next, by what the slots say and
// by how the one before ended. Starts are not counted, as all ends are either clean or
// verdicts.
func (d *device) launch(ended error) (program, error) {
	is := program{version: d.Fleet.cfg.Version}
	if !d.Fleet.cfg.Releases.asked() {
		return is, nil
	}
	slots := slot.Open(d.cfg.State)
	p, err := slots.Phase()
	if err != nil {
		return is, err
	}
	fails := d.Fleet.cfg.Profile.fails(p.Version)
	switch {
	case !p.InTrial():
	case p.Verdict != "":
		p, err = slots.Launcher().Back(p.Verdict, fmt.Sprintln(ended))
	case fails != "" && fails != slot.NoLink:
		p, err = slots.Launcher().Back(fails, Release{p.Version, fails}.said())
	}
	if err != nil {
		return is, err
	}
	is.slots, is.deaf = slots.Agent(p.Slot), p.InTrial() && fails == slot.NoLink
	if p.Slot != slot.Package {
		r, err := slots.Release(p.Slot)
		if err != nil {
			return is, err
		}
		is.version = r.Version
	}
	return is, nil
}

// gaveWay tells whether a program ended so that another one is to run.
func gaveWay(err error) bool {
	return errors.Is(err, release.ErrSwitch) || errors.Is(err, release.ErrUnproved)
}
