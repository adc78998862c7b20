// Package image replaces the whole system of a device, kernel and root file system, by the
// update program that the system came with. What a release of this program can change
// (firmware/slot) needs none of it.
//
//	Preflight ─▶ the image is fetched ─▶ Install ─▶ reboot ─▶ Active ─┬─▶ Confirm
//	                                                                  └─▶ Revert ─▶ reboot
//
// The one rule that makes it correct: only the slot that does not run is written, and only
// while the one that runs can be started again. The update program and the boot loader
// remember all of it, and this package nothing, so that every step may be repeated after a
// power cut. Who calls records which slot ran before Install: if after the reboot Active
// names the other one it is on trial until Confirm, and if it names the same the boot loader
// came back by itself, as it does from a slot that is started several times and not
// confirmed.
//
// RAUC is driven by D-Bus, not by its command line: that tells progress and the reason of a
// failure without words to be parsed, and who may ask it is decided by the bus's policy
// instead of by running as root. On a Jetson, whatever installs, the boot loader is asked
// first (tegra.go): one whose redundancy is not armed takes every image, and starts the old
// one.
//
// Mender and SWUpdate are not built, and fit so:
//   - Mender, standalone (its daemon must be off, as it would commit by itself): Install is
//     `mender-update install FILE`, Confirm `commit`, Revert `rollback`. Active reads
//     mender_boot_part, and upgrade_available for a slot on trial, from the boot
//     environment, and the version from `show-artifact`. Preflight is that nothing waits
//     for a commit.
//   - SWUpdate: Install sends the file through its control socket and reads the progress
//     socket. It knows of no slots: its configuration names a selection for each (`stable,b`),
//     and Active must be told which root device each of them means. Confirm and Revert set
//     `ustate` in the boot environment, which is that of an image on trial until then.
package image

import (
	"context"
	"errors"
	"fmt"
)

// Installer is an update program of a whole system with two slots. Its errors are ctx's,
// those below and, for what nobody branches on, the program's own in its words.
type Installer interface {
	// Preflight says why an image could not be installed, or would not start, or could not
	// be taken back: ErrPrecondition, ErrBusy or ErrUnsupported. It changes nothing and is
	// asked before a byte is fetched.
	Preflight(ctx context.Context) error

	// Install writes an image, a file with an absolute path, to the slot that does not run,
	// and has that start next. It must not be called while the slot that runs is on trial:
	// the other one is the way back. ErrRefused: nothing was written. After any other error
	// Revert to the slot that runs, or Install again: whether the image starts next is then
	// known. When ctx ends the installation goes on, and all methods return ErrBusy until it
	// has ended. Progress is told by the goroutine that called, and may be nil.
	Install(ctx context.Context, file string, progress func(percent int, step string)) error

	// Active tells which slot runs, and which starts next.
	Active(ctx context.Context) (Slots, error)

	// Confirm keeps the slot that runs: no number of starts makes the boot loader leave it.
	Confirm(ctx context.Context) error

	// Revert has a slot start next, by its name the one that ran before Install, and the
	// other one not until another image lies there. It serves before the reboot as well as
	// after it. ErrPrecondition: there is no way back, as that slot would not start.
	Revert(ctx context.Context, to string) error
}

// Slots are the two of a device.
type Slots struct {
	Running, Other Slot
	Next           string // name of the slot that starts next
}

// Slot holds an image.
type Slot struct {
	Name    string // as the update program calls it, such as rootfs.0
	Version string // of the image; empty where the update program did not install it
	Good    bool   // the boot loader would start it
}

// Errors that a caller branches on.
var (
	ErrPrecondition = errors.New("an image cannot be installed on this device as it stands")
	ErrBusy         = errors.New("another installation runs")
	ErrUnsupported  = errors.New("this device has no update program for images")
	ErrRefused      = errors.New("the image is not for this device")
)

// refusal is an error in words of its own that stands for one of those above.
type refusal struct {
	error
	is error
}

// refuse is a refusal in words, as of fmt.Errorf.
func refuse(is error, format string, args ...any) error {
	return refusal{fmt.Errorf(format, args...), is}
}

// Unwrap returns what it says and what it stands for.
func (r refusal) Unwrap() []error { return []error{r.error, r.is} }
