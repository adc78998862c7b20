package repo

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestC5_TheTimeIsTheLatestThatCanBeReliedOn(t *testing.T) {
	built, never := today.Add(-100*dayLong), time.Time{}
	y1970, y2040 := time.Unix(0, 0), time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name              string
		known             times
		confirmed, system time.Time
		want              time.Time
	}{
		{"the system's", times{}, never, today, today},
		{"the system's is at 1970", times{}, never, y1970, built},
		{"the system's is at 1970, an operator said", times{}, today, y1970, today},
		{"at 1970, an operator said before", times{Confirmed: today}, never, y1970, today},
		{"at 2040, nobody said", times{}, never, y2040, y2040},
		{"at 2040, an operator said", times{}, today, y2040, today},
		{"at 2040, an operator said before", times{Confirmed: today}, never, y2040, today},
		{"a year ahead", times{Confirmed: today}, never, today.Add(aheadMost), today.Add(aheadMost)},
		{"a moment more", times{Confirmed: today}, never, today.Add(aheadMost + 1), today},
		{"set back", times{Seen: today}, never, today.Add(-dayLong), today},
		{"set back to 1970, after it was at 2040", times{Seen: y2040}, never, y1970, y2040},
		{"an operator corrects that", times{Seen: y2040}, today, y1970, today},
		{"an operator who said so before does not", times{Seen: y2040, Confirmed: today}, today, y1970, y2040},
		{"an operator is behind the build", times{}, y1970, y1970, built},
	} {
		if got, _ := tt.known.at(built, tt.confirmed, tt.system); !got.Equal(tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestC5_AClockAt1970UnlocksNothingAndAt2040LocksNothing(t *testing.T) {
	d := newDesk(t)
	d.release("1.0.0")
	v := d.device()
	v.clock = time.Unix(0, 0)
	v.takes("1.0.0") // the program was built later, and what expired before that is refused
	v.clock = time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC)
	v.refuses("1.0.0", "it is 2040-01-01") // which nobody contradicts
	v.told = today
	v.takes("1.0.0")
	v.told = time.Time{}
	v.restart()
	v.takes("1.0.0") // it is remembered
	v.clock = time.Unix(0, 0)
	v.takes("1.0.0")
	d.now = today.Add(8 * dayLong)
	v.told = d.now
	v.refuses("1.0.0", "it is 2026-12-06")
	v.told = time.Time{}
	v.restart()
	v.refuses("1.0.0", "it is 2026-12-06")
	d.edit(func(r *Repository) error { return r.Renew(Timestamp) })
	v.takes("1.0.0")
}

func TestC5_ATimeThatCannotBeReadIsNoTime(t *testing.T) {
	d := newDesk(t)
	v := d.device()
	v.told = today.Add(8 * dayLong)
	v.refuses("", "expired")
	v.told = time.Time{}
	for _, text := range []string{"", "{", "null", `{"confirmed":3}`} {
		if err := os.WriteFile(filepath.Join(v.dir, timeFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := v.Refresh(t.Context()); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestADiskThatIsFullIsNoReasonToWait(t *testing.T) {
	d := newDesk(t)
	d.release("1.0.0")
	v := d.device()
	if err := os.MkdirAll(filepath.Join(v.dir, timestampFile+partSuffix), 0o700); err != nil { // as root may write anywhere
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := v.Signed(ctx, "1.0.0", d.released("1.0.0")); err == nil || ctx.Err() != nil || errors.Is(err, ErrRefused) {
		t.Errorf("got %v, want the error of the disk, at once", err)
	}
}
