package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/limber-edge/limber/agent/bench/demo"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/broker-config/brokertest"
)

// mustView is a view of two members that draws into b.
func mustView(columns, rows int) (*view, *strings.Builder) {
	b := new(strings.Builder)
	p50 := 1.0
	cast := demo.Cast{Members: []wire.Member{{Name: "small", P50MS: &p50}, {Name: "large", P50MS: &p50}}, Cameras: 1,
		Length: 20 * time.Second}
	return &view{w: b, cast: cast, size: func() (int, int) { return columns, rows }}, b
}

func TestTheViewShowsWhoOperatedWhen(t *testing.T) {
	v, _ := mustView(80, 24)
	quiet := demo.Scene{Phase: 1, Name: "quiet", Operates: "large"}
	v.text(quiet, 80)
	quiet.At = 6 * time.Second
	v.text(quiet, 80)
	busy := demo.Scene{At: 10 * time.Second, Phase: 2, Name: "busy", Hogs: 2, Took: 4 * time.Second, Operates: "small"}
	got := strings.Join(v.text(busy, 80), "\n")
	for _, want := range []string{
		"phase    2 of 3, busy: 2 other programs on the CPU, 4 s",
		"member     top-1     alone  share  operating member\n",
		"large      0.0 %   1.00 ms    0 %  ██████████████·········                      \n",
		"small      0.0 %   1.00 ms    0 %  ··············█████████                      \n",
		"other programs                     ··············▒▒▒▒▒▒▒▒▒                      \n",
		"                                   0 s        5 s        10 s       15 s\n",
		"million multiply-accumulates",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("got\n%s\nwant %q in it", got, want)
		}
	}
	busy.At, busy.Over = 11*time.Second, true
	if after := strings.Join(v.text(busy, 80), "\n"); after != got {
		t.Errorf("the demo is over: got\n%s\nwant it as it was", after)
	}
}

func TestTheViewShowsNothingBeforeTheFirstPhase(t *testing.T) {
	v, b := mustView(80, 24)
	if v.draw(demo.Scene{}, false); b.String() != clearBelow {
		t.Errorf("got %q, want nothing drawn", b)
	}
}

func TestTheViewNeverOutgrowsItsTerminal(t *testing.T) {
	for _, tt := range []struct{ columns, rows int }{{80, 24}, {40, 24}, {120, 40}, {300, 10}, {20, 3}, {80, 1}} {
		v, b := mustView(tt.columns, tt.rows)
		v.draw(quietScene(), true)
		lines := strings.Split(strings.ReplaceAll(strings.TrimSuffix(b.String(), clearBelow), clearLine, ""), "\n")
		if len(lines) > tt.rows {
			t.Errorf("%v: got %d lines", tt, len(lines))
		}
		for _, l := range lines {
			if n := utf8.RuneCountInString(l); n > tt.columns {
				t.Errorf("%v: got a line of %d: %q", tt, n, l)
			}
		}
	}
}

func TestTheViewDrawsOverItself(t *testing.T) {
	v, b := mustView(80, 24)
	v.draw(quietScene(), true)
	first := b.String()
	b.Reset()
	v.draw(quietScene(), true)
	if want := fmt.Sprintf("\r\033[%dA", strings.Count(first, "\n")); !strings.HasPrefix(b.String(), want) {
		t.Errorf("got %.20q, want %q first", b, want)
	}
	b.Reset()
	v.size = func() (int, int) { return 60, 24 }
	v.draw(quietScene(), true)
	if !strings.HasPrefix(b.String(), clearScreen) {
		t.Errorf("got %.20q, want a screen made narrower to be cleared", b)
	}
}

func quietScene() demo.Scene { return demo.Scene{Phase: 1, Name: "quiet", Operates: "large"} }

func TestTheSummaryFitsEightyColumns(t *testing.T) {
	back := 123456.0
	s := demo.Summary{Frames: 100000, Answered: 99999, Refused: 1, Met: 1, Top1: 1, ExpectedTop1: 1, P95ms: 99999,
		P50ms: 12345, DeadlineMS: 600000,
		ReturnMS: &back, Cameras: 120, Cast: demo.Cast{Members: []wire.Member{{Name: "3.3M"}, {Name: "29.7M"}}}}
	for range demo.Phases {
		s.Phases = append(s.Phases, demo.PhaseSummary{Phase: "quiet", Hogs: 16})
	}
	var b strings.Builder
	if err := printSummary(&b, &s); err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(b.String()) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(l, "\n")); n > 80 {
			t.Errorf("got a line of %d: %q", n, l)
		}
	}
	if !strings.Contains(b.String(), "by 29.7M, %") {
		t.Errorf("got\n%s\nwant a row for each member", b.String())
	}
}

func TestADemoOfNoLengthIsWrongUsage(t *testing.T) {
	limber(t, "demo", "--quiet", "1s").complained(t, exitUsage, "a phase under 5s is too short")
}

// TestThePageOfTheDemoShowsItsBrokerAndSteersNothing serves it without a demo.
func TestThePageOfTheDemoShowsItsBrokerAndSteersNothing(t *testing.T) {
	var said strings.Builder
	serve, err := demoPage("mqtt://"+brokertest.Reserve(t), &progress{warnings: &said})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- serve(ctx) }()
	page := strings.TrimSuffix(strings.TrimPrefix(said.String(), "limber: look at it at "), "#/device/desk\n")
	for method, want := range map[string]int{http.MethodGet: http.StatusOK, http.MethodPost: http.StatusForbidden} {
		ask, err := http.NewRequestWithContext(ctx, method, page, nil)
		if err != nil {
			t.Fatalf("%q: %v", said.String(), err)
		}
		got, err := http.DefaultClient.Do(ask)
		if err != nil {
			t.Fatal(err)
		}
		got.Body.Close()
		if got.StatusCode != want {
			t.Errorf("%s: got %s, want %d", method, got.Status, want)
		}
	}
	stop()
	if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func canceled(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}
