// Package monitor reads how busy, how full and how warm the machine is.
//
// A part that this machine does not have is absent from a Sample, and no part
// that is missing takes another with it: a board without thermal sensors, or a
// kernel without pressure figures, is as usual as one that has all of them. Nor
// does one sensor hide another: disks are in hwmon, Jetsons in thermal zones, and
// both are read. A zone that never moves, such as PMIC-Die, which says 100 °C
// whatever happens, is told of, but the trend is that of those that move.
//
// Shares of the processor are those between two samples. The Monitor keeps the
// last counters, so nothing here waits. Percentages and temperatures are rounded
// to a tenth, which is more than they are good for.
//
// A Sample, some hundred microseconds, is for telemetry. ReadMemory is for whoever
// must give memory back before the kernel kills somebody.
package monitor

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/shirou/gopsutil/v3/common"
	"github.com/shirou/gopsutil/v3/cpu"
	"github.com/shirou/gopsutil/v3/load"
	"github.com/shirou/gopsutil/v3/process"
)

// Sample is the condition of the machine. What is unknown is nil.
type Sample struct {
	CPUPercent    *float64           // of all processors together, since the last Sample
	OthersPercent *float64           // the part of it that is not this process
	OwnSeconds    *float64           // s of processors that this process used since it began, to a hundredth
	MemPercent    *float64           // not available to a new program
	Load1         *float64           // runnable and blocked tasks, mean of a minute
	Pressure      *float64           // % of the last 10 s in which a task waited for a processor (PSI)
	TempsC        map[string]float64 // °C by sensor; of sensors of one name, the hottest
	Trend         *float64           // °C a minute by which the hottest sensor that ever moved rose over the last minute; after 20 s of samples
	NearTrip      *bool              // a sensor is within 5 °C of where the kernel begins to throttle it
	Memory
}

// Monitor takes samples. It belongs to one goroutine.
type Monitor struct {
	root string
	last counters
	heat heat
}

// counters are processor seconds since the machine, or the process, started.
type counters struct {
	total, busy, own float64
	known            bool
}

// New makes a Monitor of the machine whose proc and sys lie in root: "/", but
// for a test. The first Sample has no shares of the processor.
func New(root string) *Monitor { return &Monitor{root: root} }

// Sample reads the machine.
func (m *Monitor) Sample() Sample {
	ctx := below(m.root)
	var s Sample
	s.CPUPercent, s.OthersPercent = m.shares(ctx)
	if m.last.known {
		s.OwnSeconds = known(m.last.own)
	}
	s.Memory, s.MemPercent = memory(ctx, m.root)
	if v, err := load.AvgWithContext(ctx); err == nil {
		s.Load1 = known(v.Load1)
	}
	s.Pressure = waited(m.root, "cpu")
	s.TempsC = temperatures(m.root)
	s.Trend = m.heat.trend(time.Now(), s.TempsC)
	s.NearTrip = nearTrip(m.root)
	return s
}

// below tells gopsutil where its root is.
func below(root string) context.Context {
	return context.WithValue(context.Background(), common.EnvKey, common.EnvMap{
		common.HostProcEnvKey: filepath.Join(root, "proc"),
		common.HostSysEnvKey:  filepath.Join(root, "sys"),
	})
}

// shares are the percentages of the processor since the last call.
func (m *Monitor) shares(ctx context.Context) (all, others *float64) {
	now := read(ctx)
	then := m.last
	m.last = now
	elapsed := now.total - then.total
	if !now.known || !then.known || elapsed <= 0 {
		return nil, nil
	}
	busy := min(max(0, now.busy-then.busy), elapsed)
	// The process is accounted apart from the machine, a tick earlier or later.
	own := min(max(0, now.own-then.own), busy)
	return tenths(100 * busy / elapsed), tenths(100 * (busy - own) / elapsed)
}

// Processors is how many processors the machine has whose proc lies in root, those
// that this process may not use among them; 0 if that is unknown.
func Processors(root string) (n int) {
	b, _ := os.ReadFile(filepath.Join(root, "proc", "stat"))
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "cpu"); ok && rest != "" && rest[0] >= '0' && rest[0] <= '9' {
			n++
		}
	}
	return n
}

func read(ctx context.Context) counters {
	machine, err := cpu.TimesWithContext(ctx, false)
	if err != nil || len(machine) == 0 {
		return counters{}
	}
	self := process.Process{Pid: int32(os.Getpid())}
	own, err := self.TimesWithContext(ctx)
	if err != nil {
		return counters{}
	}
	t := machine[0]
	busy := t.User + t.Nice + t.System + t.Irq + t.Softirq + t.Steal // User has the guests' time
	return counters{total: busy + t.Idle + t.Iowait, busy: busy, own: own.User + own.System, known: true}
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

func tenth(v float64) float64 { return math.Round(10*v) / 10 }

// tenths is v to a tenth, or nil if it is no number.
func tenths(v float64) *float64 { return known(tenth(v)) }

// known is v, or nil if it is no number.
func known(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}
