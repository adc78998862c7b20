package control

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/limber-edge/limber/agent/wire"
)

// mustSchedule reads a schedule as a configuration has it.
func mustSchedule(tb testing.TB, text string) Schedule {
	tb.Helper()
	var c struct {
		Schedule Schedule `toml:"schedule"`
	}
	err := toml.NewDecoder(strings.NewReader(text)).DisallowUnknownFields().Decode(&c)
	if err == nil {
		err = c.Schedule.Validate()
	}
	if err != nil {
		tb.Fatal(err)
	}
	return c.Schedule
}

// office is balanced on working days and saves power at night and at weekends.
const office = `
[[schedule]]
at = "07:00"
days = ["mon", "tue", "wed", "thu", "fri"]
mode = "balanced"

[[schedule]]
at = "22:00"
mode = "power-save"

[[schedule]]
at = "12:30"
days = ["sat"]
goal = { min_top1 = 0.7, prefer = "latency" }
`

func TestAnEntryHoldsFromItsMomentToTheNext(t *testing.T) {
	s := mustSchedule(t, office)
	for _, tt := range []struct{ now, want string }{ // 2026-11-23 is a Monday
		{"2026-11-23 07:00", "mon 07:00 balanced, from mon 22:00"},
		{"2026-11-23 06:59", "sun 22:00 power-save, from mon 07:00 on balanced"},
		{"2026-11-23 21:59", "mon 07:00 balanced, from mon 22:00 on power-save"},
		{"2026-11-29 21:00", "sat 22:00 power-save, from sun 22:00"},
		{"2026-11-28 12:30", "sat 12:30 a top-1 of 0.7, rather latency, from sat 22:00"},
		{"2026-12-01 00:00", "mon 22:00 power-save, from tue 07:00"},
	} {
		now, err := time.ParseInLocation("2006-01-02 15:04", tt.now, time.Local)
		if err != nil {
			t.Fatal(err)
		}
		since, next, _ := strings.Cut(tt.want, ", from ")
		if got := s.Say(now); !strings.HasPrefix(got, "since "+since) || !strings.Contains(got, next) {
			t.Errorf("%s: got %q, want %q", tt.now, got, tt.want)
		}
	}
	if last, _ := (Schedule{}).around(time.Now()); !last.at.IsZero() || (Schedule{}).Say(time.Now()) != "" {
		t.Error("an empty schedule asks for something")
	}
	weekly := mustSchedule(t, "[[schedule]]\nat = \"08:00\"\ndays = [\"mon\"]\nmode = \"balanced\"")
	now := time.Date(2026, 11, 23, 7, 59, 0, 0, time.Local)
	if last, _ := weekly.around(now); !last.at.Equal(time.Date(2026, 11, 16, 8, 0, 0, 0, time.Local)) {
		t.Errorf("a minute before the only moment of the week: got %v, want the one a week ago", last.at)
	}
}

func TestAClockThatIsChangedForSummerSkipsNoEntry(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip("no time zones on this machine: ", err)
	}
	s := mustSchedule(t, "[[schedule]]\nat = \"02:30\"\nmode = \"power-save\"\n"+
		"[[schedule]]\nat = \"12:00\"\nmode = \"balanced\"")
	for _, tt := range []struct {
		day  time.Time
		want int // changes from 00:00 to 24:00
	}{
		{time.Date(2026, 3, 29, 0, 0, 0, 0, berlin), 2},  // there is no 02:30
		{time.Date(2026, 10, 25, 0, 0, 0, 0, berlin), 2}, // there are two
		{time.Date(2026, 11, 25, 0, 0, 0, 0, berlin), 2},
	} {
		changes := 0
		before, _ := s.around(tt.day)
		for now := tt.day; now.Day() == tt.day.Day(); now = now.Add(time.Minute) {
			last, _ := s.around(now)
			if last.at.Before(before.at) {
				t.Errorf("%v: back from %v to %v", now, before.at, last.at)
			}
			if !last.at.Equal(before.at) {
				changes++
			}
			before = last
		}
		if changes != tt.want {
			t.Errorf("%v: %d changes, want %d", tt.day, changes, tt.want)
		}
	}
}

func TestTheLaterOfScheduleAndOperatorIsInForce(t *testing.T) {
	at := func(day, hour, minute int) time.Time { return time.Date(2026, 11, day, hour, minute, 0, 0, time.Local) }
	for _, tt := range []struct {
		name  string
		now   time.Time
		order time.Time // of max-accuracy; zero for none
		want  string
	}{
		{"nobody ordered anything", at(23, 8, 0), time.Time{}, "balanced"},
		{"ordered before the moment", at(23, 8, 0), at(23, 6, 0), "balanced"},
		{"ordered after the moment", at(23, 8, 0), at(23, 7, 30), "max-accuracy"},
		{"ordered at the moment", at(23, 8, 0), at(23, 7, 0), "max-accuracy"},
		{"a moment has passed since", at(23, 22, 0), at(23, 7, 30), "power-save"},
		{"the clock was set back after the order", at(23, 6, 0), at(23, 7, 30), "max-accuracy"},
		{"the clock was set back before the order's day", at(22, 23, 0), at(23, 7, 30), "max-accuracy"},
		{"the clock has not been set since the power cut", time.Unix(0, 0), at(23, 7, 30), "max-accuracy"},
	} {
		a := &aims{cfg: Config{Mode: "low-latency", Schedule: mustSchedule(t, office)}}
		if !tt.order.IsZero() {
			a.order = &order{wire.Aim{Mode: "max-accuracy"}, wire.At(tt.order)}
		}
		if got := a.aimAt(tt.now); got.Mode != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
	a := &aims{cfg: Config{Mode: "low-latency"}}
	if got := a.aimAt(at(23, 8, 0)); got.Mode != "low-latency" {
		t.Errorf("without a schedule: got %s, want the configuration's", got)
	}
	a.cfg.Schedule, a.order = mustSchedule(t, office), &order{Aim: wire.Aim{Mode: "max-accuracy"}}
	if got := a.aimAt(at(23, 8, 0)); got.Mode != "balanced" {
		t.Errorf("an order of a version that kept no time: got %s, want the schedule's", got)
	}
}

// night has four moments within an hour, on two days.
const night = `
[[schedule]]
at = "23:30"
days = ["sat"]
goal = { min_top1 = 0.7, prefer = "latency" }

[[schedule]]
at = "23:50"
mode = "power-save"

[[schedule]]
at = "00:05"
mode = "power-save"

[[schedule]]
at = "00:10"
days = ["sun"]
mode = "balanced"
`

// At its moment, not a second later and after no restart, on a clock that the test
// turns. The device looks at the clock each second, so it runs for an hour only.
func TestTheScheduleSetsItsModeWhileTheDeviceRuns(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) { // it is Saturday, 2000-01-01 00:00 UTC
		until := func(day, hour, minute, second int) {
			<-time.After(time.Until(time.Date(2000, 1, day, hour, minute, second, 0, time.Local)) + time.Millisecond)
			synctest.Wait()
		}
		until(1, 23, 20, 0)
		r := mustRig(t, dir, withSchedule(night))
		if r.begun.String() != "power-save" {
			t.Errorf("began with %s", r.begun)
		}
		until(1, 23, 29, 59)
		r.pursues()
		until(1, 23, 30, 1)
		r.pursues("goal")
		until(1, 23, 40, 0)
		r.desire("desk", `{"version":1,"mode":"max-accuracy"}`)
		until(1, 23, 49, 59)
		r.pursues("goal", "max-accuracy")
		until(1, 23, 50, 1)
		r.pursues("goal", "max-accuracy", "power-save")
		until(2, 0, 10, 1)
		r.pursues("goal", "max-accuracy", "power-save", "power-save", "balanced")
	})
}

// Commands and desired states wait for members; the clock does not.
func TestTheScheduleWaitsForNobody(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		<-time.After(12*time.Hour + 29*time.Minute)
		r := mustRig(t, dir, withSchedule(office), withTarget(func(f *target) { f.preparing = make(chan struct{}) }))
		p := r.command("goal", `{"goal":{"min_top1":0.8},"ttl_ms":86400000}`)
		r.desire("desk", `{"version":1,"goal":{"min_top1":0.8}}`)
		<-time.After(2 * time.Minute)
		synctest.Wait()
		r.pursues("goal")
		if p.ended() != "" {
			t.Errorf("the command: %+v, want it waiting", p.last())
		}
	})
}

func TestAScheduledModeThatCannotBeSetIsToldOfAndNotTriedAgain(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		<-time.After(12 * time.Hour)
		r := mustRig(t, dir, withSchedule(office), withTarget(func(f *target) {
			f.onSet(func(context.Context) error { return errors.New("no such member") })
		}))
		<-time.After(time.Hour)
		want := []string{"the scheduled mode cannot be set, the one before stays: no such member"}
		if got := r.events.of(wire.EventFault); !slices.Equal(got, want) {
			t.Errorf("told %q, want %q", got, want)
		}
	})
}

func TestTheScheduleYieldsToALaterOrderEvenAfterARestart(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		began := func(when, want string) *rig {
			t.Helper()
			r := mustRig(t, dir, withSchedule(office))
			if r.begun.String() != want {
				t.Errorf("%s: began with %s, want %s", when, r.begun, want)
			}
			return r
		}
		<-time.After(13 * time.Hour) // Saturday, 13:00
		r := began("at first", "goal")
		r.command("mode", lowLatency).succeeds(t)
		r.stop()
		<-time.After(8*time.Hour + 50*time.Minute)
		r = began("after an order", "low-latency")
		<-time.After(15 * time.Minute)
		r.pursues("power-save")
		r.stop()
		began("after another moment", "power-save")
	})
}

func FuzzTimeOfDay(f *testing.F) {
	for _, s := range []string{"07:00", "7:00", "24:00", "23:59", "00:60", "", "０７:00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var at TimeOfDay
		if at.UnmarshalText([]byte(s)) != nil {
			return
		}
		now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
		if got := at.on(now, 0).Format("15:04"); got != s {
			t.Errorf("%q is the moment %s", s, got)
		}
	})
}

func TestWeekdaysReadBack(t *testing.T) {
	var names []string
	for day := time.Sunday; day <= time.Saturday; day++ {
		text, err := Weekday{day}.MarshalText()
		var back Weekday
		if err == nil {
			err = back.UnmarshalText(text)
		}
		if err != nil || back.Weekday != day {
			t.Errorf("%v: wrote %s, read %v, %v", day, text, back, err)
		}
		names = append(names, string(text))
	}
	if want := []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}; !slices.Equal(names, want) {
		t.Errorf("got %v, want %v", names, want)
	}
	if new(Weekday).UnmarshalText([]byte("Mon")) == nil {
		t.Error("Mon was read")
	}
}
