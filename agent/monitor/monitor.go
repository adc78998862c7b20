// Package monitor reads how busy, how full and how warm the machine is.
//
//	/proc/stat, own stat ──▶ counters, at most every 50 ms ── less a reader's Mark ─▶ shares ─┐
//	/proc/meminfo, cgroup ─▶ Memory, at most every 50 ms ─────────────────────────────────────┼─▶ Sample
//	load, PSI, sensors ────▶ the rest, at most every 500 ms ──────────────────────────────────┘
//
// One Machine serves everybody in a process: however many ask, the files are read
// no more often than that, and nothing runs while nobody asks. Nor do readers
// disturb one another: the machine keeps counters, and each reader keeps the Mark
// of where its own interval began.
//
// A part that this machine does not have is absent from a Sample, and no part
// that is missing takes another with it: a board without thermal sensors, or a
// kernel without pressure figures, is as usual as one that has all of them. Nor
// does one sensor hide another: disks are in hwmon, Jetsons in thermal zones, and
// both are read. A zone that never moves, such as PMIC-Die, which says 100 °C
// whatever happens, is told of, but the trend is that of those that move.
//
// Percentages and temperatures are rounded to a tenth, which is more than they
// are good for.
package monitor

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/shirou/gopsutil/v3/common"
	"github.com/shirou/gopsutil/v3/load"
)

// Sample is the condition of the machine. What is unknown is nil. Readers share
// what its pointers and its map lead to: none may write there.
type Sample struct {
	CPUPercent    *float64           // of all processors together, since the reader's Mark
	OthersPercent *float64           // the part of it that is not this process
	OwnSeconds    *float64           // s of processors that this process used since it began, to a hundredth
	MemPercent    *float64           // not available to a new program
	Load1         *float64           // runnable and blocked tasks, mean of a minute
	Pressure      *float64           // % of the last 10 s in which a task waited for a processor (PSI)
	TempsC        map[string]float64 // °C by sensor; of sensors of one name, the hottest
	Trend         *float64           // °C a minute, over the last, of the hottest sensor that ever moved; from 20 s on
	NearTrip      *bool              // a sensor is within 5 °C of where the kernel begins to throttle it
	Memory
}

// How long a reading is told again before the files are read anew. An interval of
// telemetry may be a tenth of a second, and members that are loaded one after
// another must see what the one before took; sensors may lie behind a slow bus.
const (
	pace       = 50 * time.Millisecond
	sensorPace = 500 * time.Millisecond
)

// Machine reads one machine for all who ask. It is safe for concurrent use; who
// asks while another one reads the same files has that one's reading.
type Machine struct {
	root       string
	counters   reading[Mark]
	memory     reading[memory]
	condition  reading[Sample] // neither of an interval nor of memory
	processors reading[int]
	heat       heat // of condition's readings
}

// New makes a Machine whose proc and sys lie in root: "/", but for a test.
func New(root string) *Machine { return &Machine{root: root} }

// Sample is the machine as it is now, and where the reader's next interval
// begins. Shares of the processor are those since the reader's last one; with the
// zero Mark, or one of less than 50 ms ago, there may be none.
func (m *Machine) Sample(since Mark) (Sample, Mark) {
	s, now := m.condition.latest(sensorPace, m.readCondition), m.mark()
	s.CPUPercent, s.OthersPercent = now.shares(since)
	if now.known {
		s.OwnSeconds = known(now.own)
	}
	mem := m.memory.latest(pace, m.readMemory)
	s.Memory, s.MemPercent = mem.Memory, mem.used
	return s, now
}

// Others is the OthersPercent of a Sample, and where the reader's next interval
// begins: what a policy asks for that needs no more.
func (m *Machine) Others(since Mark) (percent *float64, now Mark) {
	now = m.mark()
	_, percent = now.shares(since)
	return percent, now
}

// Memory is the room there is now.
func (m *Machine) Memory() Memory { return m.memory.latest(pace, m.readMemory).Memory }

// Processors is how many processors the machine has, those that this process may
// not use among them; 0 if that is unknown.
func (m *Machine) Processors() int {
	return m.processors.latest(pace, func() int { return processors(m.root) })
}

// Boot names this start of the machine; empty if that is unknown.
func (m *Machine) Boot() string {
	b, _ := os.ReadFile(filepath.Join(m.root, "proc", "sys", "kernel", "random", "boot_id")) // unreadable is unknown
	return strings.TrimSpace(string(b))
}

// ID is of the machine, whatever it is called: 16 hexadecimal digits of the SHA-256 of
// its /etc/machine-id, which must not be told itself; empty if it has none.
func (m *Machine) ID() string {
	b, _ := os.ReadFile(filepath.Join(m.root, "etc", "machine-id")) // unreadable is none
	id := strings.TrimSpace(string(b))
	if len(id) != 32 { // such as "uninitialized", of an image that was never started
		return ""
	}
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:8])
}

// Model is what the board calls itself; empty where it does not, as on a PC.
func (m *Machine) Model() string {
	b, _ := os.ReadFile(filepath.Join(m.root, "proc", "device-tree", "model"))
	return strings.TrimRight(string(b), "\x00\n")
}

func (m *Machine) mark() Mark {
	return m.counters.latest(pace, func() Mark { return readCounters(m.root) })
}

func (m *Machine) readMemory() memory { return readMemory(m.root) }

func (m *Machine) readCondition() Sample {
	var s Sample
	if v, err := load.AvgWithContext(below(m.root)); err == nil {
		s.Load1 = known(v.Load1)
	}
	s.Pressure = waited(m.root, "cpu")
	s.TempsC = temperatures(m.root)
	s.Trend = m.heat.trend(time.Now(), s.TempsC)
	s.NearTrip = nearTrip(m.root)
	return s
}

// reading is what some files said last, and when.
type reading[T any] struct {
	mu    sync.Mutex
	at    time.Time // zero: never
	value T
}

// latest is the reading, taken anew if it is as old as the pace.
func (r *reading[T]) latest(pace time.Duration, read func() T) T {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := time.Now(); r.at.IsZero() || now.Sub(r.at) >= pace {
		r.value, r.at = read(), now
	}
	return r.value
}

// below tells gopsutil where its root is.
func below(root string) context.Context {
	return context.WithValue(context.Background(), common.EnvKey, common.EnvMap{
		common.HostProcEnvKey: filepath.Join(root, "proc"),
		common.HostSysEnvKey:  filepath.Join(root, "sys"),
	})
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
