package control

import (
	"fmt"
	"strings"
	"time"
)

// Window is a part of every day, written "02:00-05:00", from a time of day to another,
// over midnight where the first is the later one; the zero Window is all of it. It is a
// function of the clock on the wall and of nothing else: on a day whose clock skips all
// of it, it does not open, and of one whose clock repeats it, it opens twice.
type Window struct{ from, to TimeOfDay }

// UnmarshalText reads two times of day, or nothing.
func (w *Window) UnmarshalText(b []byte) error {
	var read Window
	if len(b) > 0 {
		from, to, _ := strings.Cut(string(b), "-")
		if read.from.UnmarshalText([]byte(from)) != nil || read.to.UnmarshalText([]byte(to)) != nil || from == to {
			return fmt.Errorf(`%.20s is not a part of the day such as "02:00-05:00"`, b)
		}
	}
	*w = read
	return nil
}

// MarshalText writes what UnmarshalText reads.
func (w Window) MarshalText() ([]byte, error) {
	if w == (Window{}) {
		return []byte{}, nil
	}
	return []byte(w.from.text + "-" + w.to.text), nil
}

// Open tells whether a time is in the window.
func (w Window) Open(t time.Time) bool {
	now := t.Format("15:04")
	switch {
	case w == (Window{}):
		return true
	case w.from.text < w.to.text:
		return w.from.text <= now && now < w.to.text
	}
	return w.from.text <= now || now < w.to.text
}

// Opens is the time of day at which it does; empty for the zero Window.
func (w Window) Opens() string { return w.from.text }
