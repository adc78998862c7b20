package monitor

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// machine is a tree with proc and sys as a kernel shows them.
type machine struct{ root string }

func mustMachine(tb testing.TB) machine {
	tb.Helper()
	return machine{tb.TempDir()}
}

func (m machine) write(tb testing.TB, path, text string) {
	tb.Helper()
	path = filepath.Join(m.root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
}

// spent sets the counters: hundredths of a second of users, idling, and of
// this process.
func (m machine) spent(tb testing.TB, user, idle, own int) {
	tb.Helper()
	times := fmt.Sprintf("%d 0 0 %d 0 0 0 0 0 0\n", user, idle)
	m.write(tb, "proc/stat", "cpu  "+times+"cpu0 "+times+"btime 1769860800\n")
	m.write(tb, fmt.Sprintf("proc/%d/stat", os.Getpid()),
		fmt.Sprintf("%d (limber (x) y) S 1 1 1 0 -1 4194560 1 0 0 0 %d 0 0 0 20 0 9 0 100 1 1 1\n", os.Getpid(), own))
}

// meminfo is /proc/meminfo, in kB.
func meminfo(total, free, available, cached int) string {
	return fmt.Sprintf("MemTotal: %d kB\nMemFree: %d kB\nMemAvailable: %d kB\nBuffers: 0 kB\nCached: %d kB\n",
		total, free, available, cached)
}

func show(v *float64) string {
	if v == nil {
		return "absent"
	}
	return fmt.Sprintf("%.2f", *v)
}

// sampled is a first Sample, of a Machine of its own.
func (m machine) sampled() Sample {
	s, _ := New(m.root).Sample(Mark{})
	return s
}

func TestSharesAreThoseSinceTheLastSample(t *testing.T) {
	synctest.Test(t, sharesAreThoseSinceTheLastSample)
}

func sharesAreThoseSinceTheLastSample(t *testing.T) {
	fake := mustMachine(t)
	m := New(fake.root)
	var s Sample
	var at Mark
	for _, tt := range []struct {
		name            string
		user, idle, own int
		cpu, others     string
	}{
		{"the first sample has none", 1000, 1000, 500, "absent", "absent"},
		{"all of it ours", 1050, 1050, 550, "50.00", "0.00"},
		{"all of it others'", 1125, 1075, 550, "75.00", "75.00"},
		{"a part each", 1205, 1095, 590, "80.00", "40.00"},
		{"nothing passed", 1205, 1095, 590, "absent", "absent"},
		{"idle", 1205, 1195, 590, "0.00", "0.00"},
		{"ours a tick ahead of the machine's", 1215, 1285, 601, "10.00", "0.00"},
		{"ours a tick behind", 1225, 1375, 601, "10.00", "10.00"},
		{"counters that went back", 100, 100, 10, "absent", "absent"},
		{"and on again", 150, 150, 10, "50.00", "50.00"},
		{"a third and a sixth, to a tenth", 250, 350, 60, "33.30", "16.70"},
	} {
		fake.spent(t, tt.user, tt.idle, tt.own)
		time.Sleep(pace)
		s, at = m.Sample(at)
		if show(s.CPUPercent) != tt.cpu || show(s.OthersPercent) != tt.others {
			t.Errorf("%s: got %s and %s of others, want %s and %s",
				tt.name, show(s.CPUPercent), show(s.OthersPercent), tt.cpu, tt.others)
		}
		if want := fmt.Sprintf("%.2f", float64(tt.own)/100); show(s.OwnSeconds) != want {
			t.Errorf("%s: got %s s of ours, want %s", tt.name, show(s.OwnSeconds), want)
		}
	}
}

func TestAllPartsOfABoardAreRead(t *testing.T) {
	fake := mustMachine(t)
	fake.write(t, "proc/meminfo", meminfo(4000, 500, 1000, 500))
	fake.write(t, "proc/loadavg", "1.25 0.50 0.25 2/300 4711\n")
	fake.write(t, "proc/pressure/cpu", "some avg10=12.50 avg60=3.00 avg300=1.00 total=42\nfull avg10=0.00 total=0\n")
	for i, sensor := range [][2]string{{"CPU-therm", "41500"}, {"GPU-therm", "40000"}, {"CPU-therm", "43049"},
		{"CPU-therm", "39000"}, {"off", "-256000"}, {"broken", "x"}} {
		fake.write(t, fmt.Sprintf("sys/class/thermal/thermal_zone%d/type", i), sensor[0]+"\n")
		fake.write(t, fmt.Sprintf("sys/class/thermal/thermal_zone%d/temp", i), sensor[1]+"\n")
	}
	s := fake.sampled()
	if show(s.MemPercent) != "75.00" || show(s.Load1) != "1.25" || show(s.Pressure) != "12.50" {
		t.Errorf("got memory %s, load %s, pressure %s; want 75.00, 1.25, 12.50",
			show(s.MemPercent), show(s.Load1), show(s.Pressure))
	}
	if want := map[string]float64{"CPU-therm": 43, "GPU-therm": 40}; !maps.Equal(s.TempsC, want) {
		t.Errorf("got %v, want %v", s.TempsC, want)
	}
}

func TestAMissingPartTakesNoOtherWithIt(t *testing.T) {
	fake := mustMachine(t)
	fake.write(t, "proc/loadavg", "1.25 0.50 0.25 2/300 4711\n")
	fake.write(t, "proc/meminfo", "MemTotal: 0 kB\n")
	fake.write(t, "proc/pressure/cpu", "full avg10=1\n")
	m := New(fake.root)
	for range 2 {
		s, _ := m.Sample(Mark{})
		if s.CPUPercent != nil || s.OthersPercent != nil || s.OwnSeconds != nil ||
			s.MemPercent != nil || s.Pressure != nil || s.TempsC != nil {
			t.Errorf("got %+v, want the load alone", s)
		}
		if show(s.Load1) != "1.25" {
			t.Errorf("got load %s, want 1.25", show(s.Load1))
		}
	}
	mustMachine(t).sampled() // an empty machine is one, too
}

func TestProcessorsAreAllOfTheMachine(t *testing.T) {
	m := mustMachine(t)
	if n := New(m.root).Processors(); n != 0 {
		t.Errorf("without a proc: got %d, want 0 for unknown", n)
	}
	m.write(t, "proc/stat", "cpu  1 2 3\ncpu0 1 1 1\ncpu1 0 1 2\ncpu11 0 0 0\nintr 7\nbtime 1769860800\n")
	if n := New(m.root).Processors(); n != 3 {
		t.Errorf("got %d, want 3", n)
	}
}

func TestAStartOfTheMachineHasAName(t *testing.T) {
	m := mustMachine(t)
	if got := New(m.root).Boot(); got != "" {
		t.Errorf("got %q, want none", got)
	}
	m.write(t, "proc/sys/kernel/random/boot_id", "0e4f-1\n")
	if got := New(m.root).Boot(); got != "0e4f-1" {
		t.Errorf("got %q", got)
	}
}

func TestABoardCallsItselfByItsModel(t *testing.T) {
	m := mustMachine(t)
	if got := New(m.root).Model(); got != "" {
		t.Errorf("got %q, want none", got)
	}
	m.write(t, "proc/device-tree/model", "NVIDIA Jetson Orin Nano\x00")
	if got := New(m.root).Model(); got != "NVIDIA Jetson Orin Nano" {
		t.Errorf("got %q", got)
	}
}

func TestTheRealMachineIsWithinRange(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("reads the proc of Linux")
	}
	m := New("/")
	_, at := m.Sample(Mark{})
	s := burnUntilKnown(t, m, at)
	for name, v := range map[string]*float64{"cpu": s.CPUPercent, "others": s.OthersPercent, "memory": s.MemPercent} {
		if v == nil || *v < 0 || *v > 100 {
			t.Errorf("%s: got %s %%, want 0 to 100", name, show(v))
		}
	}
	if s.Load1 == nil || *s.Load1 < 0 {
		t.Errorf("load: got %s, want one", show(s.Load1))
	}
	if *s.OthersPercent > *s.CPUPercent {
		t.Errorf("got %s %% of others, over %s %% of all", show(s.OthersPercent), show(s.CPUPercent))
	}
}

// burnUntilKnown keeps a processor busy until the machine's counters moved.
func burnUntilKnown(t *testing.T, m *Machine, at Mark) Sample {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		for start := time.Now(); time.Since(start) < 100*time.Millisecond; {
			continue
		}
		if s, _ := m.Sample(at); s.CPUPercent != nil && *s.CPUPercent > 0 {
			return s
		}
	}
	t.Fatal("the counters of the processor did not move for 10 s")
	return Sample{}
}

func TestReadersHaveIntervalsOfTheirOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := mustMachine(t)
		m := New(fake.root)
		fake.spent(t, 0, 0, 0)
		_, policy := m.Others(Mark{})
		_, telemetry := m.Sample(Mark{})
		var others *float64
		for second := 1; second <= 5; second++ { // in the last of them somebody works
			time.Sleep(time.Second)
			fake.spent(t, 80*(second/5), 100*second-80*(second/5), 0)
			if others, policy = m.Others(policy); second < 5 && show(others) != "0.00" {
				t.Errorf("second %d: got %s %% of others, want 0.00", second, show(others))
			}
		}
		s, _ := m.Sample(telemetry)
		if show(others) != "80.00" || show(s.OthersPercent) != "16.00" || show(s.CPUPercent) != "16.00" {
			t.Errorf("got %s %% of others in a second, %s %% and %s %% of all in five; want 80.00, 16.00, 16.00",
				show(others), show(s.OthersPercent), show(s.CPUPercent))
		}
	})
}

func TestAReaderInAHurryLosesNothingOfItsInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := mustMachine(t)
		m := New(fake.root)
		fake.spent(t, 0, 0, 0)
		_, at := m.Others(Mark{})
		fake.spent(t, 50, 50, 0)
		none, at := m.Others(at)
		time.Sleep(pace)
		if half, _ := m.Others(at); none != nil || show(half) != "50.00" {
			t.Errorf("got %s %% at once and %s %% later, want none and 50.00", show(none), show(half))
		}
	})
}

// TestAThousandReadersCostOneReading takes the files away after the first one.
func TestAThousandReadersCostOneReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := mustBoard(t, "pi")
		fake.spent(t, 0, 0, 0)
		fake.write(t, "proc/meminfo", meminfo(4096, 1, 2048, 0))
		m := New(fake.root)
		first, _ := m.Sample(Mark{})
		m.Processors()
		for _, dir := range []string{"proc", "sys"} {
			if err := os.RemoveAll(filepath.Join(fake.root, dir)); err != nil {
				t.Fatal(err)
			}
		}
		var readers sync.WaitGroup
		for range 1000 {
			readers.Go(func() {
				s, _ := m.Sample(Mark{})
				_, at := m.Others(Mark{})
				same := maps.Equal(s.TempsC, first.TempsC) && len(s.TempsC) > 0
				if !same || show(m.Memory().Headroom) != "50.00" || !at.known || m.Processors() != 1 {
					t.Errorf("got %+v, want what was read before: %+v", s, first)
				}
			})
		}
		readers.Wait()
		time.Sleep(sensorPace)
		if s, at := m.Sample(Mark{}); s.TempsC != nil || s.Headroom != nil || at.known || m.Processors() != 0 {
			t.Errorf("got %+v of files that are gone, want nothing", s)
		}
	})
}

func TestStatsCutShortAreUnknown(t *testing.T) {
	const machine = "cpu  1 0 0 1 0 0 0 0 0 0\n"
	own := fmt.Sprintf("%d (limber) S 1 1 1 0 -1 4194560 1 0 0 0 7 0 0 0 20 0 9 0 100 1 1 1\n", os.Getpid())
	for _, tt := range []struct{ name, machine, own, want string }{
		{"whole", machine, own, "0.07"},
		{"the process's is empty", machine, "", "absent"},
		{"it ends before its name", machine, "4711", "absent"},
		{"it ends in its name", machine, "4711 (limb", "absent"},
		{"it ends behind its name", machine, "4711 (limber)", "absent"},
		{"it ends before its times", machine, own[:40], "absent"},
		{"its times are no numbers", machine, "1 (x) S 1 1 1 0 -1 0 1 0 0 0 x y 0 0\n", "absent"},
		{"the machine's is empty", "", own, "absent"},
		{"it is cut short", machine[:9], own, "absent"},
		{"it has no numbers", "cpu  a b c d e f g h i j\n", own, "absent"},
	} {
		fake := mustMachine(t)
		fake.write(t, "proc/stat", tt.machine)
		fake.write(t, fmt.Sprintf("proc/%d/stat", os.Getpid()), tt.own)
		if s := fake.sampled(); show(s.OwnSeconds) != tt.want {
			t.Errorf("%s: got %s s of ours, want %s", tt.name, show(s.OwnSeconds), tt.want)
		}
	}
}

// BenchmarkSample reads everything anew each time, as one in half a second does.
func BenchmarkSample(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		New("/").Sample(Mark{})
	}
}

func FuzzOwnSeconds(f *testing.F) {
	f.Add("1 (limber (x) y) S 1 1 1 0 -1 4194560 1 0 0 0 12 34 0 0 20 0 9 0 100 1 1 1")
	f.Add("")
	f.Add("1 (x")
	f.Add(") S 1 1 1 0 -1 0 1 0 0 0 18446744073709551615 18446744073709551615")
	f.Fuzz(func(t *testing.T, stat string) {
		if s, err := ownSeconds(stat); err == nil && !(s >= 0) {
			t.Errorf("%q: got %v s", stat, s)
		}
	})
}

func FuzzPressure(f *testing.F) {
	f.Add("some avg10=1.32 avg60=1.29 avg300=3.48 total=30405953\nfull avg10=0.00\n")
	f.Add("some avg10=NaN")
	f.Add("some\n\nsome avg10=1e400 x")
	f.Fuzz(func(t *testing.T, psi string) {
		if v := pressure(psi); v != nil && !(*v >= 0 && *v <= 100) {
			t.Errorf("%q: got %v %%", psi, *v)
		}
	})
}
