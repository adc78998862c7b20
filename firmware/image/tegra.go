package image

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// tegra is the root folder of a board, which may be a Jetson: JetPack 5 or newer.
type tegra string

// nvbootctrl is NVIDIA's program for slots.
const nvbootctrl = "usr/sbin/nvbootctrl"

// Variables of the firmware, by NVIDIA's vendor GUID. All are 32 bits, of which the lowest
// eight matter.
const (
	redundancyLevel = "RootfsRedundancyLevel" // 0 or absent: one root file system
	rootfsStatus    = "RootfsStatusSlot"      // with A or B after it; absent: 0
	unbootable      = 0xff                    // set when its starts are used up, and reset by nobody
	vendorGUID      = "-781e084c-a330-417c-b678-38e696380cb9"
)

// preflight says why this board would not start an image, or not come back from it. A board
// that is no Jetson is not asked.
func (t tegra) preflight(ctx context.Context) error {
	if _, err := os.Stat(t.path(nvbootctrl)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := t.armed(); err != nil {
		return err
	}
	chain, err := t.slots(ctx)
	if err != nil {
		return err
	}
	rootfs, err := t.slots(ctx, "-t", "rootfs")
	if err != nil {
		return err
	}
	if err := t.agree(chain, rootfs); err != nil {
		return err
	}
	return t.bootable(chain, rootfs)
}

const flash = "flash the board with ROOTFS_AB=1: it cannot be set in the system that runs"

func (t tegra) armed() error {
	level, err := t.variable(redundancyLevel)
	if err != nil {
		return err
	}
	if level == 0 {
		return refuse(ErrPrecondition, "two root file systems are not armed in the firmware (%s is 0), so that the old one "+
			"would be started whatever is installed: %s", redundancyLevel, flash)
	}
	return nil
}

// slots asks nvbootctrl for the slots of the boot loader's chain or, by its options, for
// those of the root file system.
func (t tegra) slots(ctx context.Context, options ...string) (slotsInfo, error) {
	args := append(options, "dump-slots-info")
	out, err := t.run(ctx, args...)
	if ctx.Err() != nil {
		return slotsInfo{}, ctx.Err()
	}
	info, unread := parseSlotsInfo(out)
	switch {
	case errors.Is(unread, errNotArmed):
		return info, refuse(ErrPrecondition, "nvbootctrl: %w: %s", unread, flash)
	case err != nil:
		return info, refuse(ErrPrecondition, "nvbootctrl %v: %w: no image is installed while the boot loader "+
			"does not answer", args, err)
	case unread != nil:
		return info, refuse(ErrPrecondition, "nvbootctrl %v: %w: that of JetPack 5 or newer is understood", args, unread)
	}
	return info, nil
}

// agree refuses a board that started the chain of one slot and the root file system of the
// other: the image would be written to the one that runs, or never started.
func (t tegra) agree(chain, rootfs slotsInfo) error {
	const remedy = "switch it off and on, and if that does not help flash the board"
	if chain.current != rootfs.current {
		return refuse(ErrPrecondition, "the boot chain runs from slot %c and the root file system from slot %c: %s",
			chain.current, rootfs.current, remedy)
	}
	mounted, err := t.mounted()
	if err != nil {
		return err
	}
	if mounted != 0 && mounted != rootfs.current {
		return refuse(ErrPrecondition, "the boot loader started slot %c, but the partition of slot %c is mounted as /: "+
			"correct root= in its extlinux.conf", rootfs.current, mounted)
	}
	return nil
}

// bootable refuses a board of which a slot would not be started.
func (t tegra) bootable(chain, rootfs slotsInfo) error {
	for i, slot := range []byte{'A', 'B'} {
		if s := chain.status[i]; s != statusNormal {
			return refuse(ErrPrecondition, "the boot chain of slot %c is %.40q: install the board's boot loader anew, by a "+
				"capsule or by flashing", slot, s)
		}
		name := rootfsStatus + string(slot)
		v, err := t.variable(name)
		if err != nil {
			return err
		}
		if s := rootfs.status[i]; v == unbootable || s != statusNormal {
			return refuse(ErrPrecondition, "the root file system of slot %c is marked unbootable (%s is %#02x, "+
				"nvbootctrl says %.40q) and would not be started whatever is installed: set OS chain %[1]c status to "+
				"Normal in the firmware's menu, or "+
				`printf '\7\0\0\0\0\0\0\0' into its file in efivars, after chattr -i`, slot, name, v, s)
		}
	}
	return nil
}

// variable is the low byte of a variable of the firmware, 0 where it is not set.
func (t tegra) variable(name string) (byte, error) {
	b, err := os.ReadFile(t.path("sys/firmware/efi/efivars", name+vendorGUID))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	var v byte
	if err == nil {
		v, err = parseVariable(b)
	}
	if err != nil {
		return 0, refuse(ErrPrecondition, "read the firmware's variable %s: %w", name, err)
	}
	return v, nil
}

// mounted is the slot whose partition is the root file system, 0 where that has no
// partition of a name of NVIDIA's: it may be encrypted, or an overlay.
func (t tegra) mounted() (byte, error) {
	b, err := os.ReadFile(t.path("proc/self/mountinfo"))
	if err != nil {
		return 0, refuse(ErrPrecondition, "find the root file system: %w", err)
	}
	b, err = os.ReadFile(t.path("sys/dev/block", rootDevice(string(b)), "uevent"))
	if err != nil { // no partition
		return 0, nil
	}
	return partitionSlot(string(b)), nil
}

func (t tegra) path(parts ...string) string {
	return filepath.Join(append([]string{string(t)}, parts...)...)
}

const (
	toolPatience = 5 * time.Second
	pipePatience = 100 * time.Millisecond // for what the tool left behind, which may hold its output
)

// run runs nvbootctrl, and kills it with what it started when it takes too long.
func (t tegra) run(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, toolPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, t.path(nvbootctrl), args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = pipePatience
	var out head
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return string(out), err
}
