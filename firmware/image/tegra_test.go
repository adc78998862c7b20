package image

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What nvbootctrl prints, in its form, of a Jetson that runs from slot A.
const (
	chainOfA = "Current version: 36.4.0\nCapsule update status: 0\nCurrent bootloader slot: A\n" +
		"Active bootloader slot: A\nnum_slots: 2\nslot: 0,             status: normal\nslot: 1,             status: normal\n"
	rootfsOfA = "Current rootfs slot: A\nActive rootfs slot: A\nnum_slots: 2\n" +
		"slot: 0,             retry_count: 3,             status: normal\n" +
		"slot: 1,             retry_count: 3,             status: normal\n"
)

// partition is where the name of the one that is mounted is found.
const partition = "sys/dev/block/259:1/uevent"

// files of a board, by path.
type files map[string]string

// jetson is a sound one.
func jetson() files {
	return files{
		nvbootctrl:                   script(chainOfA, rootfsOfA),
		variable(redundancyLevel):    value(1),
		variable(rootfsStatus + "A"): value(0),
		"proc/self/mountinfo":        "22 1 259:1 / / rw - ext4 /dev/root rw\n23 22 0:21 / /proc rw - proc proc rw\n",
		partition:                    "MAJOR=259\nMINOR=1\nDEVNAME=nvme0n1p1\nPARTNAME=APP\n",
	}
}

func script(chain, rootfs string) string {
	return fmt.Sprintf("#!/bin/sh\ncase $* in\n'-t rootfs dump-slots-info') printf '%%s' '%s' ;;\n"+
		"dump-slots-info) printf '%%s' '%s' ;;\nesac\n", rootfs, chain)
}

// lost is what is printed when the starts of slot B are used up, inB when that one runs.
func lost(printed string) string {
	return regexp.MustCompile("(?m)^slot: 1,.*$").ReplaceAllString(printed, "slot: 1, retry_count: 0, status: unbootable")
}

func inB(printed string) string { return strings.ReplaceAll(printed, "slot: A", "slot: B") }

func variable(name string) string { return "sys/firmware/efi/efivars/" + name + vendorGUID }

func value(low byte) string { return "\a\x00\x00\x00" + string([]byte{low}) + "\x00\x00\x00" }

// board lays files in a folder.
func board(tb testing.TB, f files) tegra {
	tb.Helper()
	root := tb.TempDir()
	for name, text := range f {
		mustWrite(tb, filepath.Join(root, name), text)
	}
	return tegra(root)
}

func TestAJetsonThatWouldNotStartAnImageIsRefusedWithTheRemedy(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		wrong  files
		reason string
		remedy string
	}{
		{"not armed in the firmware", files{variable(redundancyLevel): value(0)}, "not armed", "ROOTFS_AB=1"},
		{"an empty variable", files{variable(redundancyLevel): ""}, "RootfsRedundancyLevel: it has 0 bytes", ""},
		{"not armed for nvbootctrl", files{nvbootctrl: "#!/bin/sh\n[ $1 != -t ] || " +
			"{ echo RootFS A/B is not enabled.; exit 1; }\n" + script(chainOfA, "")}, "not enabled", "ROOTFS_AB=1"},
		{"B unbootable", files{variable(rootfsStatus + "B"): value(0xff)},
			"slot B is marked unbootable (RootfsStatusSlotB is 0xff", "OS chain B status to Normal"},
		{"A unbootable", files{variable(rootfsStatus + "A"): value(0xff)},
			"slot A is marked unbootable", "OS chain A status to Normal"},
		{"B unbootable for nvbootctrl", files{nvbootctrl: script(chainOfA, lost(rootfsOfA))},
			`nvbootctrl says "unbootable"`, "OS chain B status to Normal"},
		{"chain B unbootable", files{nvbootctrl: script(lost(chainOfA), rootfsOfA)},
			`boot chain of slot B is "unbootable"`, "capsule"},
		{"chain and root file system", files{nvbootctrl: script(inB(chainOfA), rootfsOfA)},
			"boot chain runs from slot B and the root file system from slot A", "off and on"},
		{"another partition", files{partition: "PARTNAME=APP_b\n"},
			"partition of slot B is mounted", "extlinux.conf"},
		{"JetPack 4", files{nvbootctrl: script("magic:0x43424e00, version: 5\nslot: 0, priority: 15, suffix: _a\n", "")},
			"dump-slots-info", "JetPack 5"},
		{"a tool that fails", files{nvbootctrl: "#!/bin/sh\nexit 3\n"}, "exit status 3", "does not answer"},
	} {
		f := jetson()
		maps.Copy(f, tt.wrong)
		// There is no bus: RAUC is not even asked.
		err := NewRAUC("unix:path=/none", string(board(t, f))).Preflight(t.Context())
		if !errors.Is(err, ErrPrecondition) {
			t.Errorf("%s: %v", tt.name, err)
		} else if e := err.Error(); !strings.Contains(e, tt.reason) || !strings.Contains(e, tt.remedy) {
			t.Errorf("%s: %v, want %q and %q", tt.name, err, tt.reason, tt.remedy)
		}
	}
}

func TestAJetsonWithoutItsVariableIsNotArmed(t *testing.T) {
	t.Parallel()
	f := jetson()
	delete(f, variable(redundancyLevel))
	err := board(t, f).preflight(t.Context())
	if !errors.Is(err, ErrPrecondition) || !strings.Contains(err.Error(), "not armed") {
		t.Error(err)
	}
}

func TestASoundBoardIsNotRefused(t *testing.T) {
	t.Parallel()
	encrypted, b := jetson(), jetson()
	delete(encrypted, partition)
	b[nvbootctrl] = script(inB(chainOfA), inB(rootfsOfA))
	b[partition] = "PARTNAME=APP_b\n"
	for name, f := range map[string]files{
		"no Jetson": {}, "in slot A": jetson(), "in slot B": b, "encrypted": encrypted,
	} {
		if err := board(t, f).preflight(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAToolThatHangsIsKilledWithWhatItStarted(t *testing.T) {
	t.Parallel()
	f := jetson()
	pipe := filepath.Join(t.TempDir(), "pid")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	f[nvbootctrl] = "#!/bin/sh\nsleep 300 &\necho $! >" + pipe + "\nwait\n"
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	b := board(t, f)
	go func() { ended <- b.preflight(ctx) }()
	pid, err := os.ReadFile(pipe)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(pid)))
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.PidfdOpen(n, 0)
	if err == unix.ESRCH {
		return // gone, and reaped
	} else if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	ends := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	if got, err := unix.Poll(ends, 10_000); got != 1 { // a kill takes effect a moment later
		t.Errorf("what it started goes on (%d, %v)", got, err)
	}
}

func FuzzParseSlotsInfo(f *testing.F) {
	for _, seed := range []string{
		chainOfA, rootfsOfA, lost(rootfsOfA), "RootFS A/B is not enabled.", "Current  slot: C", "slot: 2,",
		"slot: 0, status:",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, out string) {
		info, err := parseSlotsInfo(out)
		if err != nil {
			return
		}
		if (info.current != 'A' && info.current != 'B') || info.status[0] == "" || info.status[1] == "" {
			t.Errorf("%+v", info)
		}
	})
}

func FuzzBoardFiles(f *testing.F) {
	sound := jetson()
	f.Add(sound["proc/self/mountinfo"], sound[partition], []byte(value(0xff)))
	f.Add("1 2 ../../x / / rw\n", "PARTNAME=APP_b", []byte{1, 2, 3, 4})
	f.Fuzz(func(t *testing.T, mountinfo, uevent string, efivar []byte) {
		if device := rootDevice(mountinfo); strings.Contains(device, "/") && device != "/" {
			t.Errorf("the device is %q", device)
		}
		if slot := partitionSlot(uevent); slot != 0 && !strings.Contains(uevent, "PARTNAME=APP") {
			t.Errorf("the slot is %c", slot)
		}
		if low, err := parseVariable(efivar); err == nil && low != efivar[4] {
			t.Errorf("the value is %d", low)
		}
	})
}
