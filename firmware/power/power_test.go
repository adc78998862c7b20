package power_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/limber-edge/limber/firmware/power"
)

// board is a tree with sys, etc and var as a board shows them.
type board struct {
	tb   testing.TB
	root string
}

func mustBoard(tb testing.TB) board {
	tb.Helper()
	return board{tb, tb.TempDir()}
}

func (b board) write(path string, value ...any) {
	b.tb.Helper()
	path = filepath.Join(b.root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		b.tb.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(fmt.Sprintln(value...)), 0o700); err != nil {
		b.tb.Fatal(err)
	}
}

// remove takes a part of the board away.
func (b board) remove(path string) {
	b.tb.Helper()
	if err := os.RemoveAll(filepath.Join(b.root, path)); err != nil {
		b.tb.Fatal(err)
	}
}

// channel is one of an INA3221.
type channel struct {
	name   string
	mv, ma int
}

// hwmon adds a chip as JetPack 5 and 6 show it, with the driver's own sum.
func (b board) hwmon(n int, channels ...channel) {
	b.tb.Helper()
	dir := fmt.Sprintf("sys/class/hwmon/hwmon%d/", n)
	b.write(dir+"name", "ina3221")
	for i, c := range channels {
		b.write(fmt.Sprintf("%sin%d_label", dir, i+1), c.name)
		b.write(fmt.Sprintf("%sin%d_input", dir, i+1), c.mv)
		b.write(fmt.Sprintf("%scurr%d_input", dir, i+1), c.ma)
	}
	b.write(dir+"in7_label", "sum of shunt voltages")
	b.write(dir+"in7_input", 760)
	b.write(dir+"curr4_input", 9999)
}

// iio adds a chip as JetPack 4 shows it.
func (b board) iio(address string, channels ...channel) {
	b.tb.Helper()
	dir := "sys/bus/i2c/drivers/ina3221x/" + address + "/iio:device0/"
	for i, c := range channels {
		b.write(fmt.Sprintf("%srail_name_%d", dir, i), c.name)
		b.write(fmt.Sprintf("%sin_power%d_input", dir, i), c.mv*c.ma/1000)
	}
}

// cpu adds a processor, clocks in kHz.
func (b board) cpu(n, now, limit, full int) {
	b.tb.Helper()
	dir := fmt.Sprintf("sys/devices/system/cpu/cpu%d/cpufreq/", n)
	b.write(dir+"scaling_cur_freq", now)
	b.write(dir+"scaling_max_freq", limit)
	b.write(dir+"cpuinfo_max_freq", full)
	b.write(dir+"scaling_governor", "schedutil")
}

// rapl adds a zone.
func (b board) rapl(zone, name string, microjoules int) {
	b.tb.Helper()
	dir := "sys/class/powercap/" + zone + "/"
	b.write(dir+"name", name)
	b.write(dir+"energy_uj", microjoules)
	b.write(dir+"max_energy_range_uj", 100_000_000)
}

var (
	orinNX  = []channel{{"VDD_IN", 19000, 500}, {"VDD_CPU_GPU_CV", 19000, 200}, {"VDD_SOC", 19000, 100}}
	orinAGX = [][]channel{
		{{"VDD_GPU_SOC", 19000, 200}, {"VDD_CPU_CV", 19000, 100}, {"VIN_SYS_5V0", 5000, 1000}},
		{{"NC", 0, 0}, {"VDDQ_VDD2_1V8AO", 5000, 400}, {"NC", 0, 0}},
	}
	xavierAGX = [][]channel{
		{{"GPU", 12000, 100}, {"CPU", 12000, 200}, {"SOC", 12000, 100}},
		{{"CV", 12000, 0}, {"VDDRQ", 12000, 50}, {"SYS5V", 5000, 400}},
	}
	nano = []channel{{"POM_5V_IN", 5000, 600}, {"POM_5V_GPU", 5000, 100}, {"POM_5V_CPU", 5000, 200}}
)

func show(v *float64) string {
	if v == nil {
		return "absent"
	}
	return fmt.Sprintf("%.3f", *v)
}

func TestEachBoardsTotalCountsNoWattTwice(t *testing.T) {
	for _, tt := range []struct {
		name  string
		make  func(board)
		watts string
		rails int
	}{
		{"Orin NX: the input is all", func(b board) { b.hwmon(1, orinNX...) }, "9.500", 3},
		{"Orin NX: the input's chip comes last", func(b board) { b.hwmon(1, orinNX[1:]...); b.hwmon(2, orinNX[0]) }, "9.500",
			3},
		{"AGX Orin: the memory is fed by the 5 V", func(b board) { b.hwmon(3, orinAGX[0]...); b.hwmon(4, orinAGX[1]...) },
			"10.700", 4},
		{"AGX Orin industrial: the carrier board is not the module", func(b board) {
			b.hwmon(3, orinAGX[0]...)
			b.hwmon(4, orinAGX[1]...)
			b.hwmon(5, channel{"CVB_ATX_12V", 12000, 3000})
		}, "10.700", 5},
		{"AGX Xavier: all six", func(b board) { b.iio("1-0040", xavierAGX[0]...); b.iio("1-0041", xavierAGX[1]...) }, "7.400",
			6},
		{"Nano: the input is all", func(b board) { b.iio("6-0040", nano...) }, "3.000", 3},
		{"both drivers: hwmon alone", func(b board) { b.hwmon(1, orinNX...); b.iio("6-0040", nano...) }, "9.500", 3},
		{"a channel that is off", func(b board) {
			b.hwmon(1, xavierAGX[0]...)
			b.write("sys/class/hwmon/hwmon1/in2_enable",
				0)
		}, "2.400", 2},
		{"another chip", func(b board) { b.hwmon(1, orinNX...); b.write("sys/class/hwmon/hwmon1/name", "tmp451") }, "absent",
			0},
		{"under zero", func(b board) { b.hwmon(1, channel{"CPU", 12000, -3}) }, "0.000", 1},
		{"an input that cannot be read is no smaller total", func(b board) {
			b.hwmon(1, orinNX...)
			b.remove("sys/class/hwmon/hwmon1/curr1_input")
		}, "absent", 2},
		{"a term that cannot be read is no smaller sum", func(b board) {
			b.iio("1-0040", xavierAGX[0]...)
			b.write("sys/bus/i2c/drivers/ina3221x/1-0040/iio:device0/in_power1_input", "")
		}, "absent", 2},
		{"no rails", func(board) {}, "absent", 0},
	} {
		b := mustBoard(t)
		tt.make(b)
		r := power.New(b.root).Read(time.Now())
		if show(r.Watts) != tt.watts || len(r.Rails) != tt.rails {
			t.Errorf("%s: got %s W of rails %v, want %s W of %d", tt.name, show(r.Watts), r.Rails, tt.watts, tt.rails)
		}
	}
}

func TestRailsAreNamedWithTheirWatts(t *testing.T) {
	b := mustBoard(t)
	b.hwmon(0, orinNX...)
	want := map[string]float64{"VDD_IN": 9.5, "VDD_CPU_GPU_CV": 3.8, "VDD_SOC": 1.9}
	if got := power.New(b.root).Read(time.Now()).Rails; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestEnergyOfRailsIsTheirPowerOverTime(t *testing.T) {
	b := mustBoard(t)
	p, now := power.New(b.root), time.Now()
	for _, tt := range []struct {
		name   string
		ma     int // of 5 V; under zero: the rail is gone
		after  time.Duration
		joules string
	}{
		{"the first reading", 1000, 0, "0.000"},
		{"5 W for a second", 1000, time.Second, "5.000"},
		{"rising to 15 W", 3000, time.Second, "15.000"},
		{"not known", -1, time.Second, "absent"},
		{"what passed meanwhile is not counted", 3000, time.Second, "15.000"},
		{"a clock that stands", 3000, 0, "15.000"},
		{"and on", 3000, 2 * time.Second, "45.000"},
	} {
		b.hwmon(0, channel{"VDD_IN", 5000, tt.ma})
		if tt.ma < 0 {
			b.remove("sys/class/hwmon/hwmon0/curr1_input")
		}
		now = now.Add(tt.after)
		if r := p.Read(now); show(r.Joules) != tt.joules {
			t.Errorf("%s: got %s J, want %s", tt.name, show(r.Joules), tt.joules)
		}
	}
}

func TestRAPLCountsPackagesOnceAndAcrossTheirWrap(t *testing.T) {
	b := mustBoard(t)
	p, now := power.New(b.root), time.Now()
	for _, tt := range []struct {
		name          string
		package0      int
		package1      int
		watts, joules string
	}{
		{"the first reading has no power", 90_000_000, 1_000_000, "absent", "0.000"},
		{"two packages", 95_000_000, 3_000_000, "7.000", "7.000"},
		{"one starts anew", 2_000_000, 3_000_000, "7.000", "14.000"},
		{"idle", 2_000_000, 3_000_000, "0.000", "14.000"},
	} {
		b.rapl("intel-rapl:0", "package-0", tt.package0)
		b.rapl("intel-rapl:1", "package-1", tt.package1)
		b.rapl("intel-rapl:2", "psys", tt.package0*2)
		b.rapl("intel-rapl:0:0", "core", tt.package0/2)
		b.rapl("intel-rapl-mmio:0", "package-0", tt.package0)
		if r := p.Read(now); show(r.Watts) != tt.watts || show(r.Joules) != tt.joules {
			t.Errorf("%s: got %s W, %s J; want %s W, %s J", tt.name, show(r.Watts), show(r.Joules), tt.watts, tt.joules)
		}
		now = now.Add(time.Second)
	}
	b.remove("sys/class/powercap/intel-rapl:1/energy_uj") // as for anybody but root
	if r := p.Read(now); r.Watts != nil {
		t.Errorf("a package is gone: got %s W, want none", show(r.Watts))
	}
	b.remove("sys/class/powercap")
	if r := p.Read(now.Add(time.Second)); r.Watts != nil || r.Joules != nil {
		t.Errorf("all are gone: got %s W, %s J; want none", show(r.Watts), show(r.Joules))
	}
}

func TestEnergyThatMayNotBeReadIsAbsent(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may read everything")
	}
	b := mustBoard(t)
	b.rapl("intel-rapl:0", "package-0", 1)
	if err := os.Chmod(filepath.Join(b.root, "sys/class/powercap/intel-rapl:0/energy_uj"), 0); err != nil {
		t.Fatal(err)
	}
	if r := power.New(b.root).Read(time.Now()); r.Watts != nil || r.Joules != nil {
		t.Errorf("got %s W, %s J; want none", show(r.Watts), show(r.Joules))
	}
}

func TestGPULoadIsFoundWhereEachJetPackHasIt(t *testing.T) {
	for _, tt := range []struct{ path, value, want string }{
		{"sys/devices/gpu.0/load", "150", "15.000"},
		{"sys/devices/platform/gpu.0/load", "1000", "100.000"},
		{"sys/devices/platform/17000000.gpu/load", "0", "0.000"},
		{"sys/devices/platform/bus@0/17000000.gpu/load", "7", "0.700"},
		{"sys/class/devfreq/17000000.gpu/device/load", "500", "50.000"},
		{"sys/devices/platform/gpu.0/load", "1001", "absent"},
		{"sys/devices/platform/gpu.0/load", "-1", "absent"},
		{"sys/devices/platform/gpu.0/load", "high", "absent"},
		{"sys/devices/platform/other/load", "5", "absent"},
	} {
		b := mustBoard(t)
		b.write(tt.path, tt.value)
		if r := power.New(b.root).Read(time.Now()); show(r.GPUPercent) != tt.want {
			t.Errorf("%s is %s: got %s %%, want %s", tt.path, tt.value, show(r.GPUPercent), tt.want)
		}
	}
}

func TestClockIsTheMeanShareAndACapShows(t *testing.T) {
	capped := func(v *bool) string {
		if v == nil {
			return "absent"
		}
		return fmt.Sprint(*v)
	}
	for _, tt := range []struct {
		name            string
		make            func(board)
		percent, capped string
	}{
		{"full", func(b board) { b.cpu(0, 2000000, 2000000, 2000000) }, "100.000", "false"},
		{"one of two at half", func(b board) { b.cpu(0, 2000000, 2000000, 2000000); b.cpu(1, 1000000, 2000000, 2000000) },
			"75.000", "false"},
		{"one of two is held", func(b board) { b.cpu(0, 2000000, 2000000, 2000000); b.cpu(11, 1000000, 1000000, 2000000) },
			"75.000", "true"},
		{"turbo is full", func(b board) { b.cpu(0, 2500000, 2000000, 2000000) }, "100.000", "false"},
		{"one is off", func(b board) {
			b.cpu(0, 1000000, 2000000, 2000000)
			b.write("sys/devices/system/cpu/cpu1/online",
				0)
		}, "50.000", "false"},
		{"no full clock", func(b board) { b.cpu(0, 1000000, 1000000, 0) }, "absent", "absent"},
		{"unreadable clock", func(b board) {
			b.cpu(0, 1, 1500000, 2000000)
			b.write("sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "<unknown>")
		}, "absent", "true"},
		{"none", func(board) {}, "absent", "absent"},
	} {
		b := mustBoard(t)
		tt.make(b)
		if r := power.New(b.root).Read(time.Now()); show(r.ClockPercent) != tt.percent || capped(r.Capped) != tt.capped {
			t.Errorf("%s: got %s %%, capped %s; want %s %%, %s", tt.name, show(r.ClockPercent), capped(r.Capped), tt.percent,
				tt.capped)
		}
	}
}

func TestTheRealMachineIsReadWithoutHarm(t *testing.T) {
	p := power.New("/")
	p.Read(time.Now())
	r := p.Read(time.Now())
	if r.Watts != nil && !(*r.Watts >= 0 && *r.Watts < 10_000) {
		t.Errorf("got %s W", show(r.Watts))
	}
	if r.ClockPercent != nil && !(*r.ClockPercent >= 0 && *r.ClockPercent <= 100) {
		t.Errorf("got %s %% of the clock", show(r.ClockPercent))
	}
	p.Modes()
}

func TestReadersOfABoardShareItsReadings(t *testing.T) {
	b := mustBoard(t)
	b.hwmon(0, channel{"VDD_IN", 5000, 1000})
	p, now := power.New(b.root), time.Now()
	p.Read(now)
	b.hwmon(0, channel{"VDD_IN", 5000, 3000})
	var readers sync.WaitGroup
	for range 100 {
		readers.Go(func() {
			if r := p.Read(now.Add(49 * time.Millisecond)); show(r.Watts) != "5.000" || show(r.Joules) != "0.000" {
				t.Errorf("got %s W, %s J; want those of the first reading", show(r.Watts), show(r.Joules))
			}
		})
	}
	readers.Wait()
	if r := p.Read(now.Add(time.Second)); show(r.Watts) != "15.000" || show(r.Joules) != "10.000" {
		t.Errorf("a second later: got %s W, %s J; want 15.000 and 10.000", show(r.Watts), show(r.Joules))
	}
}

// BenchmarkRead is one reading of an Orin with twelve processors, from files in
// memory: a real INA3221 adds about half a millisecond for each of its values.
func BenchmarkRead(b *testing.B) {
	fake := mustBoard(b)
	fake.hwmon(3, orinAGX[0]...)
	fake.hwmon(4, orinAGX[1]...)
	fake.write("sys/devices/platform/gpu.0/load", 100)
	for n := range 12 {
		fake.cpu(n, 1000000, 2000000, 2000000)
	}
	p, now := power.New(fake.root), time.Now()
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(time.Second)
		p.Read(now)
	}
}

// A sysfs file may hold anything; a reading never has a number out of range.
func FuzzRead(f *testing.F) {
	f.Add("package-0", "19000", "500", "VDD_IN")
	f.Add("ina3221", "-9223372036854775808", "9223372036854775807", "VDDQ_VDD2_1V8AO")
	f.Add("", "1e9", "0x10", "\x00")
	f.Fuzz(func(t *testing.T, name, a, b, label string) {
		fake := mustBoard(t)
		fake.write("sys/class/hwmon/hwmon0/name", "ina3221")
		fake.write("sys/class/hwmon/hwmon0/in1_label", label)
		fake.write("sys/class/hwmon/hwmon0/in1_input", a)
		fake.write("sys/class/hwmon/hwmon0/curr1_input", b)
		fake.write("sys/class/powercap/intel-rapl:0/name", name)
		fake.write("sys/class/powercap/intel-rapl:0/energy_uj", a)
		fake.write("sys/class/powercap/intel-rapl:0/max_energy_range_uj", b)
		fake.write("sys/devices/gpu.0/load", a)
		fake.write("sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", a)
		fake.write("sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq", b)
		fake.write("sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq", strings.TrimSpace(a+b))
		p, now := power.New(fake.root), time.Now()
		p.Read(now)
		r := p.Read(now.Add(time.Second))
		for what, v := range map[string]*float64{"W": r.Watts, "J": r.Joules, "% GPU": r.GPUPercent,
			"% clock": r.ClockPercent} {
			if v != nil && !(*v >= 0) {
				t.Errorf("got %v %s", *v, what)
			}
		}
	})
}
