package monitor

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func (m machine) zone(tb testing.TB, n int, kind string, milli int, trips ...string) {
	tb.Helper()
	dir := fmt.Sprintf("sys/class/thermal/thermal_zone%d/", n)
	m.write(tb, dir+"type", kind+"\n")
	m.write(tb, dir+"temp", fmt.Sprintf("%d\n", milli))
	for i := 0; i+1 < len(trips); i += 2 {
		m.write(tb, fmt.Sprintf("%strip_point_%d_type", dir, i/2), trips[i]+"\n")
		m.write(tb, fmt.Sprintf("%strip_point_%d_temp", dir, i/2), trips[i+1]+"\n")
	}
}

func TestTrendIsThatOfTheLastMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := mustMachine(t)
		m := New(fake.root)
		var got []string
		sample := func(seconds, milli, step int) {
			for range seconds {
				fake.zone(t, 0, "CPU-therm", milli)
				fake.zone(t, 1, "case", 20000)
				m.Sample(Mark{}) // twice a second counts once
				time.Sleep(time.Second / 2)
				s, _ := m.Sample(Mark{})
				got = append(got, show(s.Trend))
				milli += step
				time.Sleep(time.Second / 2)
			}
		}
		sample(20, 40000, 100)
		sample(100, 42000, 100) // 0.1 °C a second
		sample(90, 52000, 0)
		for _, tt := range []struct {
			at   int
			want string
		}{{0, "absent"}, {19, "absent"}, {20, "6.00"}, {100, "6.00"}, {209, "0.00"}} {
			if got[tt.at] != tt.want {
				t.Errorf("after %d s: got %s °C/min, want %s", tt.at, got[tt.at], tt.want)
			}
		}
		if n := len(m.heat.temps); n > 62 {
			t.Errorf("%d values are kept, want a minute of them", n)
		}
	})
}

func TestNearTripIsWithinFiveDegreesOfThrottling(t *testing.T) {
	for _, tt := range []struct {
		name string
		make func(machine)
		want string
	}{
		{"far", func(m machine) { m.zone(t, 0, "cpu", 70000, "passive", "95000", "critical", "71000") }, "false"},
		{"near passive", func(m machine) { m.zone(t, 0, "cpu", 90000, "active", "20000", "passive", "95000") }, "true"},
		{"near hot", func(m machine) { m.zone(t, 0, "cpu", 97000, "hot", "100000") }, "true"},
		{"another zone", func(m machine) {
			m.zone(t, 0, "cpu", 80000, "passive", "99000")
			m.zone(t, 1, "gpu", 70000, "passive", "70000")
		}, "true"},
		{"the fan's points do not count", func(m machine) {
			m.zone(t, 0, "cpu", 90000, "active", "50000", "critical", "91000")
		}, "absent"},
		{"points without a value", func(m machine) {
			m.zone(t, 0, "cpu", 90000, "passive", "0", "hot", "-274000")
		}, "absent"},
		{"a sensor that cannot be read", func(m machine) {
			m.zone(t, 0, "cpu", 0, "passive", "95000")
			m.write(t, "sys/class/thermal/thermal_zone0/temp", "x")
		}, "absent"},
		{"no zones", func(machine) {}, "absent"},
	} {
		fake := mustMachine(t)
		tt.make(fake)
		got := "absent"
		if near := fake.sampled().NearTrip; near != nil {
			got = fmt.Sprint(*near)
		}
		if got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
}
