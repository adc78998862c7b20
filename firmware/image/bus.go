package image

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/godbus/dbus/v5"
)

// Names of RAUC on the bus, and of the bus itself.
const (
	raucName   = "de.pengutronix.rauc"
	raucFace   = raucName + ".Installer"
	busName    = "org.freedesktop.DBus"
	properties = busName + ".Properties"
	operation  = raucFace + ".Operation"
)

// installer is RAUC's service on a bus, for as long as one request takes.
type installer struct {
	dbus.BusObject
	conn *dbus.Conn
}

// ask connects to a RAUC that does nothing at the moment, and has it do something. A
// connection does not outlive that, so that none is lost when the bus is restarted.
func (r *RAUC) ask(ctx context.Context, what string, do func(*installer) error) error {
	err := r.connected(ctx, do)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return fmt.Errorf("rauc: %s: %w", what, err)
}

func (r *RAUC) connected(ctx context.Context, do func(*installer) error) error {
	conn, err := dbus.Connect(r.bus, dbus.WithContext(ctx))
	if err != nil {
		return refuse(ErrUnsupported, "no D-Bus at %s: %w", r.bus, err)
	}
	defer conn.Close()
	i := &installer{conn.Object(raucName, "/"), conn}
	var doing string
	switch err := i.property(ctx, operation, &doing); {
	case isUnknown(err):
		return refuse(ErrUnsupported, "its service is not there (%w): install Debian's rauc and rauc-service, "+
			"and write /etc/rauc/system.conf", err)
	case err != nil:
		return err
	case doing != "idle":
		return refuse(ErrBusy, "another installation runs: wait for it to end")
	}
	return do(i)
}

// isUnknown tells whether the bus knows nobody of that name, nor how to start it.
func isUnknown(err error) bool {
	var e dbus.Error
	return errors.As(err, &e) &&
		(e.Name == busName+".Error.ServiceUnknown" || strings.HasPrefix(e.Name, busName+".Error.Spawn."))
}

// isRAUCs tells whether an error is RAUC's own, not one of the way there.
func isRAUCs(err error) bool {
	var e dbus.Error
	return errors.As(err, &e) && !strings.HasPrefix(e.Name, busName)
}

func (i *installer) property(ctx context.Context, name string, to any) error {
	var v dbus.Variant
	face, name := name[:strings.LastIndexByte(name, '.')], name[strings.LastIndexByte(name, '.')+1:]
	if err := i.call(ctx, properties+".Get", face, name).Store(&v); err != nil {
		return err
	}
	return v.Store(to)
}

func (i *installer) call(ctx context.Context, method string, args ...any) *dbus.Call {
	return i.CallWithContext(ctx, method, 0, args...)
}

func (i *installer) mark(ctx context.Context, state, slot string) error {
	return i.call(ctx, raucFace+".Mark", state, slot).Err
}

// judge says whether an image is for this device, before anything is done with it, and
// whether RAUC trusts it: an image that is damaged or whose signature it does not know it
// will not install either, and only then says why.
func (i *installer) judge(ctx context.Context, file string) (trusted bool, _ error) {
	var here, compatible, version string
	if err := i.property(ctx, raucFace+".Compatible", &here); err != nil {
		return false, err
	}
	err := i.call(ctx, raucFace+".Info", file).Store(&compatible, &version)
	switch {
	case isRAUCs(err):
		return false, nil
	case err != nil:
		return false, err
	case compatible != here:
		return false, refuse(ErrRefused, "image %s is for %q, this device is %q", version, compatible, here)
	}
	return true, nil
}

// slotStatus is what RAUC tells of a slot.
type slotStatus struct {
	Name   string
	Status map[string]dbus.Variant
}

// text is one of its words, empty where it is not told.
func (s slotStatus) text(key string) string {
	t, _ := s.Status[key].Value().(string)
	return t
}

func (s slotStatus) slot() Slot {
	return Slot{Name: s.Name, Version: s.text("bundle.version"), Good: s.text("boot-status") == "good"}
}

func (i *installer) slots(ctx context.Context) (s Slots, err error) {
	var all []slotStatus
	if err := i.call(ctx, raucFace+".GetSlotStatus").Store(&all); isRAUCs(err) {
		return s, refuse(ErrPrecondition, "%w: its system.conf must name the slot that the kernel's command line "+
			"has as rauc.slot= or root=, and the boot loader must answer", err)
	} else if err != nil {
		return s, err
	}
	if s, err = pair(all); err != nil {
		return s, err
	}
	return s, i.call(ctx, raucFace+".GetPrimary").Store(&s.Next)
}

// pair finds the slot that runs, and the other one of its class that can be started.
func pair(all []slotStatus) (s Slots, err error) {
	class := ""
	for _, one := range all {
		if one.text("state") == "booted" {
			s.Running, class = one.slot(), one.text("class")
		}
	}
	if s.Running.Name == "" {
		return s, refuse(ErrPrecondition, "none of its slots runs: install from one of them")
	}
	others := 0
	for _, one := range all {
		if one.text("class") == class && one.text("bootname") != "" && one.Name != s.Running.Name {
			s.Other, others = one.slot(), others+1
		}
	}
	if others != 1 {
		return s, refuse(ErrPrecondition, "slot %s runs and has %d others to be started instead, not one: two of class %q "+
			"need a bootname in RAUC's system.conf", s.Running.Name, others, class)
	}
	return s, nil
}
