package monitor

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestHintCountsThoseWhoCompete(t *testing.T) {
	fake := mustMachine(t)
	fake.write(t, "proc/stat", "cpu  1 2 3\ncpu0 1 2 3\ncpu1 1 2 3\ncpufreq 1\n")
	fake.write(t, "proc/loadavg", "0.00 0.00 0.00 1/1 1\n")
	fake.write(t, "proc/pressure/cpu", "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n")
	p := NewPulse(fake.root)
	defer p.Close()
	now, waited := time.Now(), 0
	for _, tt := range []struct {
		name    string
		running int
		after   time.Duration
		waited  time.Duration // of that
		want    int
	}{
		{"alone, first time", 1, time.Hour, 0, 0},
		{"one more, nobody waits", 2, 10 * time.Millisecond, 0, 1},
		{"a crowd of an instant: nobody waited", 9, 10 * time.Millisecond, 0, 2},
		{"a crowd", 9, 10 * time.Millisecond, 9 * time.Millisecond, 8},
		{"a gap in a crowd", 1, 10 * time.Millisecond, 9 * time.Millisecond, 1},
		{"some waiting bounds nothing", 5, 10 * time.Millisecond, time.Millisecond, 4},
		{"a wait of long ago tells nothing of now", 1, time.Second, time.Second, 0},
		{"counters that went back", 4, 10 * time.Millisecond, -time.Millisecond, 3},
		{"a clock that stands", 4, 0, 0, 3},
	} {
		now = now.Add(tt.after)
		waited += int(tt.waited.Microseconds())
		fake.write(t, "proc/loadavg", fmt.Sprintf("1.20 0.18 0.12 %d/80 11206\n", tt.running))
		fake.write(t, "proc/pressure/cpu", fmt.Sprintf("some avg10=1.32 avg60=1.29 avg300=3.48 total=%d\nfull avg10=0.00 total=0\n", waited))
		if got, ok := p.Hint(now); got != tt.want || !ok {
			t.Errorf("%s: got %d, %t; want %d", tt.name, got, ok, tt.want)
		}
	}
}

func TestHintIsUnknownWithoutItsFiles(t *testing.T) {
	p := NewPulse(t.TempDir())
	if got, ok := p.Hint(time.Now()); ok {
		t.Errorf("got %d, want nothing known", got)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	fake := mustMachine(t) // a kernel without PSI
	fake.write(t, "proc/loadavg", "0.00 0.00 0.00 4/90 1\n")
	p = NewPulse(fake.root)
	defer p.Close()
	for range 2 {
		if got, ok := p.Hint(time.Now()); got != 3 || !ok {
			t.Errorf("got %d, %t; want 3", got, ok)
		}
	}
}

func TestHintAllocatesNothing(t *testing.T) {
	p := NewPulse("/")
	defer p.Close()
	if _, ok := p.Hint(time.Now()); !ok {
		t.Skip("this machine has no /proc/loadavg")
	}
	if n := testing.AllocsPerRun(100, func() { p.Hint(time.Now()) }); n > 0 {
		t.Errorf("got %v allocations, want none", n)
	}
}

func BenchmarkHint(b *testing.B) {
	p := NewPulse("/")
	defer p.Close()
	b.ReportAllocs()
	for b.Loop() {
		p.Hint(time.Now())
	}
}

func BenchmarkSample(b *testing.B) {
	m := New("/")
	b.ReportAllocs()
	for b.Loop() {
		m.Sample()
	}
}

func FuzzPulse(f *testing.F) {
	f.Add("0.20 0.18 0.12 1/80 11206\n", "some avg10=1.32 avg60=1.29 avg300=3.48 total=30405953\n")
	f.Add("0 0 0 /", "some total=")
	f.Add("a b c 99999999999999999999/1", "some total=-1")
	f.Fuzz(func(t *testing.T, load, psi string) {
		if n, ok := runnable([]byte(load)); ok && n < 0 {
			t.Errorf("%q: got %d", load, n)
		}
		if n, ok := waitedTotal([]byte(psi)); ok && (n < 0 || !strings.HasPrefix(psi, "some ")) {
			t.Errorf("%q: got %d", psi, n)
		}
	})
}
