package monitor

import (
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/shirou/gopsutil/v3/mem"
)

// Memory is how much room there is. What is unknown is nil.
type Memory struct {
	AvailableMiB *float64 // MiB of the machine that a new program could have
	Headroom     *float64 // % left of the machine's memory, or of what its control groups may have, whichever is less
	Stalled      *float64 // % of the last 10 s in which a task waited for memory (PSI)
}

// memory is a reading of it.
type memory struct {
	Memory
	used *float64 // % of the machine's memory that is not available
}

// readMemory reads the room there is on the machine whose proc and sys lie in
// root. What is in use is what is not available, as gopsutil/v4 has it: v3 counts
// shared pages as a cache, which nobody gets back. Where meminfo cannot be read v3
// tells of a machine without memory, and in a container whose file system makes up
// meminfo more may be available than there is.
func readMemory(root string) (m memory) {
	m.Stalled = waited(root, "memory")
	left := groupHeadroom(root)
	if v, err := mem.VirtualMemoryWithContext(below(root)); err == nil && v.Total > 0 {
		available := min(v.Available, v.Total)
		percent := 100 * float64(available) / float64(v.Total)
		m.AvailableMiB, m.used = tenths(float64(available)/(1<<20)), tenths(100-percent)
		left = append(left, percent)
	}
	for _, percent := range left {
		if m.Headroom == nil || percent < *m.Headroom {
			m.Headroom = tenths(percent)
		}
	}
	return m
}

// hierarchy is where one version of control groups keeps what a group may have
// and has.
type hierarchy struct {
	mount  string
	limits []string // files; the kernel slows a group down at one, kills at the other
	usage  string
	idle   string // of memory.stat: what the kernel would take back first
}

// groupHeadroom are the percentages left in the control group of this process,
// and in those around it, that have a limit. File pages that nobody used of late
// count as left: they are where a model's mapped weights go first.
func groupHeadroom(root string) []float64 {
	b, err := os.ReadFile(filepath.Join(root, "proc", "self", "cgroup"))
	if err != nil {
		return nil
	}
	h, group, ok := memoryGroup(string(b))
	if !ok {
		return nil
	}
	var left []float64
	for ; ; group = path.Dir(group) {
		dir := filepath.Join(root, h.mount, filepath.FromSlash(group))
		left = append(left, h.headroom(dir)...)
		if group == "/" || group == "." {
			return left
		}
	}
}

// memoryGroup finds the group that counts memory in the lines
// "number:controllers:path" of a process. In a container the path may begin
// outside of what is mounted; then only the groups that can be seen count.
func memoryGroup(text string) (h hierarchy, group string, ok bool) {
	for line := range strings.Lines(text) {
		part := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(part) < 3 {
			continue
		}
		for controller := range strings.SplitSeq(part[1], ",") {
			if controller == "memory" {
				return hierarchy{
					mount: "sys/fs/cgroup/memory", limits: []string{"memory.limit_in_bytes"},
					usage: "memory.usage_in_bytes", idle: "total_inactive_file",
				}, path.Clean("/" + part[2]), true
			}
		}
		if part[0] == "0" && part[1] == "" { // version 2, which counts only what no version 1 does
			group, ok = path.Clean("/"+part[2]), true
			h = hierarchy{
				mount: "sys/fs/cgroup", limits: []string{"memory.max", "memory.high"},
				usage: "memory.current", idle: "inactive_file",
			}
		}
	}
	return h, group, ok
}

// headroom is what one group has left of each of its limits, in percent.
func (h hierarchy) headroom(dir string) (left []float64) {
	usage, ok := bytesIn(filepath.Join(dir, h.usage))
	if !ok {
		return nil
	}
	usage = max(0, usage-idlePages(filepath.Join(dir, "memory.stat"), h.idle))
	for _, limit := range h.limits {
		if most, ok := bytesIn(filepath.Join(dir, limit)); ok && most > 0 {
			left = append(left, max(0, 100*(most-usage)/most))
		}
	}
	return left
}

// noLimit is where a limit of version 1 means none: the kernel writes the
// largest multiple of a page. Version 2 writes "max", which is no number.
const noLimit = 1 << 62

func bytesIn(path string) (float64, bool) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	return float64(n), err == nil && n >= 0 && n < noLimit
}

// idlePages is a field of memory.stat, in bytes; 0 where it is missing.
func idlePages(path, field string) float64 {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	return statField(string(b), field)
}

func statField(text, field string) float64 {
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || name != field {
			continue
		}
		if n, err := strconv.ParseInt(value, 10, 64); err == nil && n > 0 {
			return float64(n)
		}
	}
	return 0
}
