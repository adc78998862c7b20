package monitor

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// mustBoard is a machine with the files that testdata lists for a board, a path
// and a text a line. A file whose text is EAGAIN says so to whoever reads it.
func mustBoard(tb testing.TB, board string) machine {
	tb.Helper()
	list, err := os.ReadFile(filepath.Join("testdata", board+".txt"))
	if err != nil {
		tb.Fatal(err)
	}
	m := mustMachine(tb)
	for line := range strings.Lines(string(list)) {
		path, text, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch {
		case path == "#" || !strings.HasPrefix(path, "sys/"):
		case text == "EAGAIN":
			m.mustBusy(tb, path)
		default:
			m.write(tb, path, text+"\n")
		}
	}
	return m
}

// mustBusy makes a file that has nothing to say yet: a pipe whose writer is there.
func (m machine) mustBusy(tb testing.TB, path string) {
	tb.Helper()
	path = filepath.Join(m.root, path)
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		tb.Fatal(err)
	}
	writer, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { writer.Close() })
}

func TestNoSensorOfABoardHidesAnother(t *testing.T) {
	for _, tt := range []struct {
		board string
		want  map[string]float64
		near  string
	}{
		{"nano", map[string]float64{"AO-therm": 40.5, "CPU-therm": 34.5, "GPU-therm": 35, "PLL-therm": 33,
			"PMIC-Die": 100, "thermal-fan-est": 34.8}, "absent"},
		{"xavier-nx", map[string]float64{"CPU-therm": 43.5, "GPU-therm": 42.5, "AUX-therm": 42, "AO-therm": 42.5,
			"PMIC-Die": 100, "thermal-fan-est": 42.3, "nvme_composite": 44.9}, "absent"},
		{"agx-orin", map[string]float64{"CPU-therm": 47.4, "SOC0-therm": 44.6, "SOC1-therm": 43.9, "SOC2-therm": 43.7,
			"tj-therm": 47.4, "Tboard_tegra": 35.3, "Tdiode_tegra": 37.3,
			"nvme_composite": 38.9, "nvme_sensor_1": 51.9}, "false"},
		{"orin-nano", map[string]float64{"cpu-thermal": 49, "gpu-thermal": 50.3, "soc0-thermal": 48.3,
			"soc1-thermal": 50, "soc2-thermal": 48.5, "tj-thermal": 50.3, "nvme_composite": 40.9}, "absent"},
		{"pi", map[string]float64{"cpu_thermal": 55.5}, "absent"},
		{"pc", map[string]float64{"acpitz": 27.8, "coretemp_package_id_0": 52, "coretemp_core_0": 50, "f71882fg": 39,
			"x86_pkg_temp": 52}, "absent"},
	} {
		fake := mustBoard(t, tt.board)
		s := fake.sampled()
		if !maps.Equal(s.TempsC, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.board, s.TempsC, tt.want)
		}
		if got := showBool(s.NearTrip); got != tt.near {
			t.Errorf("%s: near a trip point: got %s, want %s", tt.board, got, tt.near)
		}
	}
}

func TestASensorThatIsOffIsAbsent(t *testing.T) {
	for _, text := range []string{"-256000", "-256", "", "x", "-274000", "2147483647"} {
		fake := mustMachine(t)
		fake.zone(t, 0, "GPU-therm", 0, "passive", "90000")
		fake.write(t, "sys/class/thermal/thermal_zone0/temp", text+"\n")
		fake.write(t, "sys/class/hwmon/hwmon0/name", "tmp451\n")
		fake.write(t, "sys/class/hwmon/hwmon0/temp1_input", text+"\n")
		if s := fake.sampled(); s.TempsC != nil || s.NearTrip != nil {
			t.Errorf("%q: got %v, near a trip point %s; want both absent", text, s.TempsC, showBool(s.NearTrip))
		}
	}
}

func TestTrendIsThatOfSensorsThatMove(t *testing.T) {
	const mostly = 60 // s
	for _, tt := range []struct {
		name     string
		cpu, gpu int // 1/1000 °C a second
		want     string
	}{
		{"a zone that never moves does not pin it", 100, 0, "6.00"},
		{"nor while others cool down", -50, -20, "-3.00"},
		{"the hottest of those that move is meant", 0, 50, "3.00"},
		{"none moves", 0, 0, "0.00"},
	} {
		synctest.Test(t, func(t *testing.T) {
			fake := mustBoard(t, "nano")
			m := New(fake.root)
			var s Sample
			for i := range mostly {
				fake.zone(t, 1, "CPU-therm", 50000+tt.cpu*i)
				fake.zone(t, 2, "GPU-therm", 40000+tt.gpu*i)
				s, _ = m.Sample(Mark{})
				time.Sleep(time.Second)
			}
			if show(s.Trend) != tt.want || s.TempsC["PMIC-Die"] != 100 {
				t.Errorf("%s: got %s °C/min at %v, want %s", tt.name, show(s.Trend), s.TempsC, tt.want)
			}
		})
	}
}

func TestTrendOutlivesASensorThatComesAndGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := mustMachine(t)
		m := New(fake.root)
		var s Sample
		for i := range 60 {
			fake.zone(t, 0, "PMIC-Die", 100000)
			fake.zone(t, 1, "GPU-therm", 40000+100*i)
			if i%3 == 1 {
				fake.zone(t, 1, "GPU-therm", -256000)
			}
			s, _ = m.Sample(Mark{})
			time.Sleep(time.Second)
		}
		if show(s.Trend) != "6.00" {
			t.Errorf("got %s °C/min, want 6.00", show(s.Trend))
		}
	})
}

func showBool(v *bool) string {
	switch {
	case v == nil:
		return "absent"
	case *v:
		return "true"
	}
	return "false"
}

func FuzzSensor(f *testing.F) {
	f.Add([]byte("CPU-therm\n"), []byte("41500\n"))
	f.Add([]byte("\xff\x00"), []byte("-256000"))
	f.Add([]byte(strings.Repeat("x", 1000)), []byte(strings.Repeat("9", 1000)))
	f.Add([]byte(""), []byte("1e9"))
	f.Fuzz(func(t *testing.T, kind, temp []byte) {
		fake := mustMachine(t)
		fake.write(t, "sys/class/thermal/thermal_zone0/type", string(kind))
		fake.write(t, "sys/class/thermal/thermal_zone0/temp", string(temp))
		for name, celsius := range temperatures(fake.root) {
			if name == "" || !(celsius >= -60 && celsius <= 200) {
				t.Errorf("%q, %q: got %q at %v °C", kind, temp, name, celsius)
			}
		}
	})
}
