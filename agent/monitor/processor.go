package monitor

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/shirou/gopsutil/v3/cpu"
)

// Mark is where a reader's interval begins: what the counters said then. The zero
// Mark is before everything that is known.
type Mark struct {
	total, busy, own float64 // s of processors, since the machine, or the process, started
	known            bool
}

// shares are the percentages of all processors that were used between two marks,
// and used by others than this process.
func (now Mark) shares(then Mark) (all, others *float64) {
	elapsed := now.total - then.total
	if !now.known || !then.known || elapsed <= 0 {
		return nil, nil
	}
	busy := min(max(0, now.busy-then.busy), elapsed)
	// The process is accounted apart from the machine, a tick earlier or later.
	own := min(max(0, now.own-then.own), busy)
	return tenths(100 * busy / elapsed), tenths(100 * (busy - own) / elapsed)
}

// readCounters reads those of the machine whose proc lies in root. Without those
// of this process nothing is known: its work would be that of others.
func readCounters(root string) Mark {
	machine, err := cpu.TimesWithContext(below(root), false)
	if err != nil || len(machine) == 0 {
		return Mark{}
	}
	stat, _ := os.ReadFile(filepath.Join(root, "proc", strconv.Itoa(os.Getpid()), "stat")) // unreadable is unknown
	own, err := ownSeconds(string(stat))
	if err != nil {
		return Mark{}
	}
	t := machine[0]
	busy := t.User + t.Nice + t.System + t.Irq + t.Softirq + t.Steal // User has the guests' time
	return Mark{total: busy + t.Idle + t.Iowait, busy: busy, own: own, known: true}
}

// ownSeconds are the seconds of processors in the stat of a process: fields 14 and
// 15 of proc_pid_stat(5), the name in brackets being the second. It is read by
// hand because gopsutil/v3 panics where that file is cut short or empty, as v4
// does not.
func ownSeconds(stat string) (float64, error) {
	const user, system = 14 - 3, 15 - 3 // from the field after the name
	field := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(field) <= system {
		return 0, fmt.Errorf("stat of a process with %d fields after its name", len(field))
	}
	u, err := strconv.ParseUint(field[user], 10, 64)
	if err != nil {
		return 0, err
	}
	s, err := strconv.ParseUint(field[system], 10, 64)
	return (float64(u) + float64(s)) / cpu.ClocksPerSec, err
}

// processors counts those of the machine whose proc lies in root.
func processors(root string) (n int) {
	b, _ := os.ReadFile(filepath.Join(root, "proc", "stat"))
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "cpu"); ok && rest != "" && rest[0] >= '0' && rest[0] <= '9' {
			n++
		}
	}
	return n
}

// waited is the share of the last 10 s in which a task waited for a resource, in
// percent.
func waited(root, resource string) *float64 {
	b, err := os.ReadFile(filepath.Join(root, "proc", "pressure", resource))
	if err != nil {
		return nil
	}
	return pressure(string(b))
}

// pressure is avg10 of the line "some avg10=1.32 avg60=... total=...".
func pressure(psi string) *float64 {
	for line := range strings.Lines(psi) {
		field := strings.Fields(line)
		if len(field) < 2 || field[0] != "some" {
			continue
		}
		value, ok := strings.CutPrefix(field[1], "avg10=")
		if !ok {
			return nil
		}
		if v, err := strconv.ParseFloat(value, 64); err == nil && v >= 0 && v <= 100 {
			return &v
		}
		return nil
	}
	return nil
}
