package image

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// maxHead is how much of a program's output is kept, in bytes: slots take a few lines.
const maxHead = 16 << 10

// head is the beginning of an output.
type head []byte

// Write implements io.Writer.
func (h *head) Write(b []byte) (int, error) {
	*h = append(*h, b[:min(len(b), maxHead-len(*h))]...)
	return len(b), nil
}

// statusNormal is that of a slot that would be started.
const statusNormal = "normal"

// slotsInfo is what nvbootctrl tells of the slots of a boot chain or a root file system.
type slotsInfo struct {
	current byte      // 'A' or 'B'
	status  [2]string // of A and B: "normal" or what is wrong
}

// errNotArmed is in place of slots where the firmware knows one root file system.
var errNotArmed = errors.New("RootFS A/B is not enabled")

// parseSlotsInfo reads what `nvbootctrl dump-slots-info` prints since JetPack 5:
//
//	Current rootfs slot: A
//	Active rootfs slot: A
//	num_slots: 2
//	slot: 0,             retry_count: 3,             status: normal
//	slot: 1,             retry_count: 0,             status: unbootable
func parseSlotsInfo(out string) (info slotsInfo, err error) {
	if strings.Contains(out, errNotArmed.Error()) {
		return info, errNotArmed
	}
	for line := range strings.Lines(out) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch value = strings.TrimSpace(value); {
		case strings.HasPrefix(key, "Current ") && strings.HasSuffix(key, " slot"):
			if value != "A" && value != "B" {
				return info, fmt.Errorf("the current slot is %.40q, neither A nor B", value)
			}
			info.current = value[0]
		case key == "slot":
			number, rest, _ := strings.Cut(value, ",")
			if number != "0" && number != "1" {
				return info, fmt.Errorf("there is a slot %.40q, neither 0 nor 1", number)
			}
			_, status, _ := strings.Cut(rest, "status:")
			info.status[number[0]-'0'] = strings.TrimSpace(status)
		}
	}
	if info.current == 0 || info.status[0] == "" || info.status[1] == "" {
		return info, errors.New("what it prints is not known")
	}
	return info, nil
}

// parseVariable reads a file of efivars: four bytes of attributes, then the value, little end
// first.
func parseVariable(b []byte) (low byte, err error) {
	const attributes = 4
	if len(b) <= attributes {
		return 0, fmt.Errorf("it has %d bytes, and no value", len(b))
	}
	return b[attributes], nil
}

// rootDevice is the major:minor of the file system mounted last at /, by
// /proc/self/mountinfo, whose fields are: id, parent, major:minor, root, mount point.
func rootDevice(mountinfo string) string {
	device := ""
	for line := range strings.Lines(mountinfo) {
		if f := strings.Fields(line); len(f) > 4 && f[4] == "/" {
			device = path.Base(f[2])
		}
	}
	return device
}

// partitionSlot is the slot that a partition belongs to by its name, by its uevent file; 0
// where that is none of NVIDIA's.
func partitionSlot(uevent string) byte {
	for line := range strings.Lines(uevent) {
		switch strings.TrimSpace(line) {
		case "PARTNAME=APP":
			return 'A'
		case "PARTNAME=APP_b":
			return 'B'
		}
	}
	return 0
}
