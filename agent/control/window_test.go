package control

import (
	"testing"
	"time"
	_ "time/tzdata"
)

func mustWindow(t *testing.T, text string) (w Window) {
	t.Helper()
	if err := w.UnmarshalText([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return w
}

func TestAWindowGoesByTheClockOnTheWall(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	at := func(text string) time.Time {
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		return at.In(berlin)
	}
	for _, tt := range []struct {
		window, at string
		open       bool
	}{
		{"", "2026-01-10T12:00:00+01:00", true},
		{"02:00-05:00", "2026-01-10T01:59:59+01:00", false},
		{"02:00-05:00", "2026-01-10T02:00:00+01:00", true},
		{"02:00-05:00", "2026-01-10T04:59:59+01:00", true},
		{"02:00-05:00", "2026-01-10T05:00:00+01:00", false},
		{"22:00-04:00", "2026-01-10T21:59:59+01:00", false}, // over midnight
		{"22:00-04:00", "2026-01-10T22:00:00+01:00", true},
		{"22:00-04:00", "2026-01-11T00:00:00+01:00", true},
		{"22:00-04:00", "2026-01-11T03:59:59+01:00", true},
		{"22:00-04:00", "2026-01-11T04:00:00+01:00", false},
		{"02:00-03:00", "2026-03-29T01:59:59+01:00", false}, // skipped in spring
		{"02:00-03:00", "2026-03-29T03:00:00+02:00", false},
		{"02:00-05:00", "2026-03-29T03:00:00+02:00", true},
		{"02:00-03:00", "2026-10-25T02:30:00+02:00", true}, // twice in autumn
		{"02:00-03:00", "2026-10-25T02:30:00+01:00", true},
		{"02:00-03:00", "2026-10-25T03:00:00+01:00", false},
	} {
		if got := mustWindow(t, tt.window).Open(at(tt.at)); got != tt.open {
			t.Errorf("%q at %s: got %t, want %t", tt.window, tt.at, got, tt.open)
		}
	}
}

func FuzzWindow(f *testing.F) {
	for _, text := range []string{
		"", "02:00-05:00", "22:00-04:00", "2:00-05:00", "05:00-05:00", "05:00", "24:00-01:00", "-",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var w, again Window
		if w.UnmarshalText([]byte(text)) != nil {
			return
		}
		b, err := w.MarshalText()
		if err != nil || string(b) != text || again.UnmarshalText(b) != nil || again != w {
			t.Errorf("%q is read as %q (%v) and that as %v, want %v", text, b, err, again, w)
		}
	})
}
