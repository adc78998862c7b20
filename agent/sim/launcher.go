package sim

import (
	"errors"
	"fmt"

	"github.com/limber-edge/limber/agent/release"
	"github.com/limber-edge/limber/firmware/slot"
)

// Release is one of the program that does not prove itself on a device; all others do.
type Release struct {
	Version string      `json:"version"`
	Fails   slot.Reason `json:"fails"` // crash: it ends at once; no_link: it reaches no broker
}

func (r Release) check() error {
	if r.Fails != slot.Crash && r.Fails != slot.NoLink {
		return fmt.Errorf("release %q: fails %q: wants %s or %s", r.Version, r.Fails, slot.Crash, slot.NoLink)
	}
	return nil
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
	case fails == slot.Crash:
		p, err = slots.Launcher().Back(slot.Crash, fmt.Sprintf("panic: simulated, in release %s\n", p.Version))
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
