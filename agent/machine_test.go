package agent_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/limber-edge/limber/agent"
	"github.com/limber-edge/limber/agent/monitor"
	"github.com/limber-edge/limber/firmware/power"
)

// machine is a tree with the proc and sys of a machine that a device runs on.
type machine struct {
	tb   testing.TB
	root string
}

// mustMachine is one with half of its memory left.
func mustMachine(tb testing.TB) machine {
	tb.Helper()
	m := machine{tb, tb.TempDir()}
	m.memory(50)
	return m
}

// under has a device run there.
func (m machine) under() rig {
	return rig{alter: func(d *agent.Deps) { d.Machine, d.Board = monitor.New(m.root), power.New(m.root) }}
}

// write replaces a file at once, as those who read it expect of a kernel.
func (m machine) write(path string, value ...any) {
	m.tb.Helper()
	path = filepath.Join(m.root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		m.tb.Fatal(err)
	}
	if err := os.WriteFile(path+".new", []byte(fmt.Sprintln(value...)), 0o700); err != nil {
		m.tb.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		m.tb.Fatal(err)
	}
}

// memory sets how much of it is left, in percent.
func (m machine) memory(left int) {
	m.tb.Helper()
	m.write("proc/meminfo", "MemTotal: 4096000 kB\nMemFree: 1 kB\nMemAvailable:", 40960*left,
		"kB\nBuffers: 0 kB\nCached: 0 kB")
}

// work sets what the processors did in so many seconds, in hundredths of one: for
// this process, and for others.
func (m machine) work(seconds, own, others int) {
	m.tb.Helper()
	m.write("proc/stat", fmt.Sprintf("cpu  %d 0 0 %d 0 0 0 0 0 0", own+others, 100*seconds-own-others))
	m.write(fmt.Sprintf("proc/%d/stat", os.Getpid()), os.Getpid(),
		fmt.Sprintf("(device) S 1 1 1 0 -1 0 0 0 0 0 %d", own),
		"0 0 0 20 0 8 0 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0")
}

// clock sets the clock of both processors and its limit, in MHz of 2000.
func (m machine) clock(now, limit int) {
	m.tb.Helper()
	for n := range 2 {
		dir := fmt.Sprintf("sys/devices/system/cpu/cpu%d/cpufreq/", n)
		m.write(dir+"cpuinfo_max_freq", 2_000_000)
		m.write(dir+"scaling_max_freq", 1000*limit)
		m.write(dir+"scaling_cur_freq", 1000*now)
	}
}

// mustFake is a copy of a board of firmware/power's, with a stand-in for nvpmodel.
func mustFake(tb testing.TB, name string) machine {
	tb.Helper()
	m := mustMachine(tb)
	for _, part := range []string{"boards/" + name, "tool"} {
		if err := os.CopyFS(m.root, os.DirFS(filepath.Join("../firmware/power/testdata", part))); err != nil {
			tb.Fatal(err)
		}
	}
	return m
}

// rail sets the power of the whole board, in watts.
func (m machine) rail(watts int) {
	m.tb.Helper()
	m.write("sys/class/hwmon/hwmon0/name", "ina3221")
	m.write("sys/class/hwmon/hwmon0/in1_label", "VDD_IN")
	m.write("sys/class/hwmon/hwmon0/in1_input", 5000)
	m.write("sys/class/hwmon/hwmon0/curr1_input", 200*watts)
}
