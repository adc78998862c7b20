package control

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/limber-edge/limber/agent/wire"
)

// Schedule sets modes and goals by the clock on the wall: at its moment an entry
// takes the place of what was set before, by whomever. It is a function of the
// time and of nothing else, so that a clock that jumps finds the entry that the
// new time asks for.
type Schedule []Entry

// Entry is what is to be pursued from its moments on.
type Entry struct {
	At   TimeOfDay `toml:"at"`             // local
	Days []Weekday `toml:"days,omitempty"` // every day if there is none
	Mode string    `toml:"mode,omitempty"` // one of the two
	Goal *Goal     `toml:"goal,omitempty"`
}

// Goal is a wire.Goal as the configuration writes it. What is zero is not asked
// for.
type Goal struct {
	Deadline Duration `toml:"deadline,omitzero"`
	MinTop1  float64  `toml:"min_top1,omitempty"`  // in [0, 1]
	MaxWatts float64  `toml:"max_watts,omitempty"` // on average
	Prefer   string   `toml:"prefer,omitempty"`
}

// Duration is a time.Duration that is written "200ms" or "5s".
type Duration struct{ time.Duration }

// UnmarshalText reads the form of time.ParseDuration.
func (d *Duration) UnmarshalText(b []byte) (err error) {
	if d.Duration, err = time.ParseDuration(string(b)); err != nil {
		return fmt.Errorf(`%s is not a duration such as "200ms" or "5s"`, b)
	}
	return nil
}

// MarshalText writes what UnmarshalText reads.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// TimeOfDay is written "07:00".
type TimeOfDay struct {
	text string // empty if none was given
}

// UnmarshalText reads hours from 00 to 23 and minutes.
func (t *TimeOfDay) UnmarshalText(b []byte) error {
	if _, err := time.Parse("15:04", string(b)); err != nil || len(b) != len("15:04") {
		return fmt.Errorf(`%.20s is not a time of day such as "07:00"`, b)
	}
	t.text = string(b)
	return nil
}

// MarshalText writes what UnmarshalText reads.
func (t TimeOfDay) MarshalText() ([]byte, error) { return []byte(t.text), nil }

// on is the moment in the day that lies some days after now's. One that the
// clock skips in spring comes an hour later by that clock; of two in autumn one
// counts.
func (t TimeOfDay) on(now time.Time, days int) time.Time {
	clock, err := time.Parse("15:04", t.text)
	if err != nil {
		panic("control: a schedule that is not valid: " + err.Error())
	}
	return time.Date(now.Year(), now.Month(), now.Day()+days, clock.Hour(), clock.Minute(), 0, 0, now.Location())
}

// Weekday is written "mon".
type Weekday struct{ time.Weekday }

// UnmarshalText reads the first three letters of an English weekday.
func (d *Weekday) UnmarshalText(b []byte) error {
	for day := time.Sunday; day <= time.Saturday; day++ {
		if text, _ := (Weekday{day}).MarshalText(); bytes.Equal(text, b) {
			d.Weekday = day
			return nil
		}
	}
	return fmt.Errorf("%.20s is none of mon, tue, wed, thu, fri, sat, sun", b)
}

// MarshalText writes what UnmarshalText reads.
func (d Weekday) MarshalText() ([]byte, error) { return []byte(strings.ToLower(d.String()[:3])), nil }

func (e Entry) aim() wire.Aim { return wire.Aim{Mode: e.Mode, Goal: e.Goal.wire()} }

// wire is the goal as it travels; nil for none.
func (g *Goal) wire() *wire.Goal {
	if g == nil {
		return nil
	}
	return &wire.Goal{DeadlineMS: asked(wire.Millis(g.Deadline.Duration)), MinTop1: asked(g.MinTop1),
		MaxWatts: asked(g.MaxWatts), Prefer: g.Prefer}
}

func (e Entry) falls(on time.Weekday) bool {
	return len(e.Days) == 0 || slices.Contains(e.Days, Weekday{on})
}

// Validate joins every complaint.
func (s Schedule) Validate() error {
	var errs []error
	for i, e := range s {
		if e.At == (TimeOfDay{}) {
			errs = append(errs, fmt.Errorf(`schedule: entry %d has no at, such as "07:00"`, i+1))
		}
		if err := e.check(); err != nil {
			errs = append(errs, fmt.Errorf("schedule: entry %d: %w", i+1, err))
		}
		if other := slices.IndexFunc(s[:i], e.clashes); other >= 0 {
			errs = append(errs, fmt.Errorf("schedule: entries %d and %d have a moment in common, %s",
				other+1, i+1, e.At.text))
		}
	}
	return errors.Join(errs...)
}

// clashes tells whether two entries share a moment.
func (e Entry) clashes(o Entry) bool {
	for day := time.Sunday; day <= time.Saturday; day++ {
		if e.At == o.At && e.falls(day) && o.falls(day) {
			return true
		}
	}
	return false
}

func (e Entry) check() error {
	if err := e.aim().Check(); err != nil {
		return err
	}
	_, err := ModeOf(e.aim())
	return err
}

// week is how many days an entry may be away, and one for moments of today that
// lie on the other side of now.
const week = 8

// moment is when an entry's turn comes, or came.
type moment struct {
	Entry
	at time.Time
}

// around is the moment that passed last and the one that comes next; both are zero if
// there is no entry at all.
func (s Schedule) around(now time.Time) (last, next moment) {
	for day := 1 - week; day < week; day++ {
		noon := TimeOfDay{"12:00"}.on(now, day) // a time that no clock skips
		for _, e := range s {
			if !e.falls(noon.Weekday()) {
				continue
			}
			switch at := e.At.on(now, day); {
			case at.After(now) && (next.at.IsZero() || at.Before(next.at)):
				next = moment{e, at}
			case !at.After(now) && at.After(last.at):
				last = moment{e, at}
			}
		}
	}
	return last, next
}

// Say tells what the schedule asks for at a time and what comes next; empty
// without entries.
func (s Schedule) Say(now time.Time) string {
	last, next := s.around(now)
	if last.at.IsZero() {
		return ""
	}
	day := func(t time.Time) string { return strings.ToLower(t.Format("Mon 15:04")) }
	return fmt.Sprintf("since %s %s, from %s on %s", day(last.at), last.aim(), day(next.at), next.aim())
}
