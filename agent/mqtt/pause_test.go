package mqtt

import (
	"errors"
	"fmt"
	"io"
	"syscall"
	"testing"
	"time"
)

func TestBackoffGrowsUnlessConnectionsLast(t *testing.T) {
	b := backoff{min: 200 * time.Millisecond, max: 5 * time.Second}
	for _, tt := range []struct {
		lived, ceiling time.Duration
	}{
		{0, 200 * time.Millisecond}, {0, 400 * time.Millisecond}, {0, 800 * time.Millisecond}, {0, 1600 * time.Millisecond},
		{0, 3200 * time.Millisecond}, {0, 5 * time.Second}, {time.Second, 5 * time.Second}, {6 * time.Second, 200 * time.Millisecond},
		{2 * time.Second, 200 * time.Millisecond},
	} {
		pause := b.next(tt.lived)
		if b.ceiling != tt.ceiling || pause <= 0 || pause > tt.ceiling {
			t.Errorf("after %v: pause %v below %v, want below %v", tt.lived, pause, b.ceiling, tt.ceiling)
		}
	}
}

func TestN8_OnlyBriefConnectionsThatTheBrokerEndsCountAsARivals(t *testing.T) {
	timeout := errors.New("i/o timeout")
	for _, tt := range []struct {
		name  string
		lived time.Duration
		err   error
		want  int
	}{
		{"hung up", time.Second, fmt.Errorf("read: %w", io.EOF), 4},
		{"N3 reset", time.Second, syscall.ECONNRESET, 3},
		{"dismissed", time.Second, errDismissed, 4},
		{"lasted", brief, io.EOF, 0},
		{"lasted until a reset", brief, syscall.ECONNRESET, 0},
		{"before the subscription", 0, io.EOF, 3},
		{"network", time.Second, timeout, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := countHangUps(3, tt.lived, tt.err); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}

// hungUp is the end of a connection that the broker ended after two seconds.
func hungUp(p *pauses) (time.Duration, error) {
	return p.next(2*time.Second, fmt.Errorf("read from the broker: %w", io.EOF))
}

func TestN8_ARowOfHangUpsIsToldOnceAndItsPausesGrowToHalfAMinute(t *testing.T) {
	p, told := newPauses(Default(), 1), 0
	for i := range 100 {
		away, err := hungUp(p)
		if errors.Is(err, ErrHangsUp) {
			told++
		}
		if ceiling := max(p.round.ceiling, p.slow.ceiling); away > ceiling || away > maxHangUpPause || errors.Is(err, ErrRival) {
			t.Errorf("hang-up %d: pause %v below %v, %v", i, away, ceiling, err)
		}
	}
	if told != 1 || p.slow.ceiling != maxHangUpPause {
		t.Errorf("told %d times, the ceiling is %v; want once, and %v", told, p.slow.ceiling, maxHangUpPause)
	}
	p.next(brief, io.EOF)
	if away, err := hungUp(p); away > 5*time.Second || errors.Is(err, ErrHangsUp) {
		t.Errorf("after a connection that lasted: pause %v, %v; want a new row", away, err)
	}
}

func TestN8_OnlyTheStateOfAnotherClientEarnsTheLongPause(t *testing.T) {
	p := newPauses(Default(), 1)
	for range rowOfHangUps - 1 {
		if away, err := p.next(time.Second, fmt.Errorf("%w: %w", errStranger, io.EOF)); away > p.round.max || errors.Is(err, ErrRival) {
			t.Errorf("pause %v, %v; want none that is long before the row is complete", away, err)
		}
	}
	if !p.suspicious() {
		t.Error("not looked for another client before the last of the row")
	}
	if away, err := p.next(time.Second, fmt.Errorf("%w: %w", errStranger, io.EOF)); away < p.rival || !errors.Is(err, ErrRival) {
		t.Errorf("pause %v, %v; want ErrRival and at least %v", away, err, p.rival)
	}
}

func TestPausesOfAListGrowByTheRound(t *testing.T) {
	p := newPauses(Default(), 3)
	for round, ceiling := range []time.Duration{200 * time.Millisecond, 400 * time.Millisecond, 800 * time.Millisecond} {
		for i := range 3 {
			away, _ := p.next(0, io.ErrUnexpectedEOF)
			if last := i == 2; (away > 0) != last || away > ceiling || last && p.round.ceiling != ceiling {
				t.Errorf("round %d, broker %d: pause %v below %v", round, i, away, p.round.ceiling)
			}
		}
	}
	if away, _ := p.next(time.Hour, io.EOF); away <= 0 || away > 200*time.Millisecond {
		t.Errorf("pause %v after a connection, want a little: a fleet has lost the same broker", away)
	}
}
