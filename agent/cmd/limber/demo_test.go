package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/frame"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family/stock"
)

// mustRecord is the record of a demo with two members.
func mustRecord(t *testing.T) *record {
	t.Helper()
	sheet, err := stock.Sheet(frame.OpenSheet)
	if err != nil {
		t.Fatal(err)
	}
	p50 := 1.0
	caps := &wire.Caps{Members: []wire.Member{{Name: "small", P50MS: &p50}, {Name: "large", P50MS: &p50}}}
	return newRecord(&plan{caps: caps, sheet: sheet}, 50*time.Millisecond)
}

// answerOf is a result for a shot; right says whether its class is the label.
func answerOf(r *record, id string, image int, member string, ms float64, right bool) *wire.Result {
	label := r.sheet.Label(image)
	if !right {
		label++
	}
	return &wire.Result{ID: id, Status: wire.OK, Member: member, Classes: []wire.Class{{Index: label}},
		MS: &wire.Timing{Total: ms}, Met: ms <= 50}
}

func TestTheDemoCountsEveryFrameOnce(t *testing.T) {
	r := mustRecord(t)
	r.begin("quiet", 0)
	for i := range 3 {
		id, image := r.shot()
		res := answerOf(r, id, image, "large", 10, i > 0)
		r.answer(res)
		r.answer(res) // a repeated delivery
	}
	r.begin("busy", 4)
	r.switched(&wire.Event{From: "large", Member: "small", TS: wire.At(time.Now())})
	slow, image := r.shot()
	r.answer(answerOf(r, slow, image, "small", 60, true))
	refused, _ := r.shot()
	r.begin("quiet", 0)
	r.answer(&wire.Result{ID: refused, Status: wire.Refused}) // late, but of the busy phase
	r.answer(&wire.Result{ID: "somebody else's", Status: wire.Refused})
	r.switched(&wire.Event{From: "small", Member: "large", TS: wire.At(time.Now()), Count: 3})
	if r.summary().ReturnMS != nil {
		t.Error("the largest member is said to be back before it answered")
	}
	back, image := r.shot()
	probe := answerOf(r, back, image, "large", 10, true)
	probe.Choice = "probe"
	r.answer(probe)
	if r.summary().ReturnMS != nil {
		t.Error("a probe is taken for the return of the largest member")
	}
	back, image = r.shot()
	r.answer(answerOf(r, back, image, "large", 10, true))
	r.end()

	if err := r.await(t.Context(), time.Second); err != nil {
		t.Error(err)
	}
	s := r.summary()
	if s.Frames != 7 || s.Answered != 6 || s.Refused != 1 || s.Switches != 4 || s.Met != 0.7143 || s.Top1 != 0.8333 {
		t.Errorf("got %+v; want 7 frames, 6 answered, 1 refused, 4 switches, 5/7 met, 5/6 right", s)
	}
	if s.ReturnMS == nil || *s.ReturnMS < 0 {
		t.Errorf("got a return after %v, want one", s.ReturnMS)
	}
	busy := s.Phases[1]
	if len(s.Phases) != 3 || busy.Hogs != 4 || busy.Frames != 2 || busy.Met != 0 || busy.P95ms != 60 || busy.Members["small"] != 1 {
		t.Errorf("got %+v, want the busy phase with 4 hogs, 2 frames, none in time", busy)
	}
}

func TestTheDemoDoesNotWaitForEver(t *testing.T) {
	r := mustRecord(t)
	r.begin("quiet", 0)
	r.shot()
	err := r.await(t.Context(), time.Millisecond)
	if err == nil || !strings.Contains(err.Error(), "1 frames were never answered") {
		t.Errorf("got %v, want how many are missing", err)
	}
}

func TestHogsLiveAsLongAsTheyAreWanted(t *testing.T) {
	t.Setenv(asProgram, "1") // the test binary is the program that runs as a hog
	var h hogs
	for _, n := range []int{2, 3, 1, 0} {
		if err := h.set(n); err != nil || len(h.running) != n {
			t.Fatalf("set(%d): %v, %d run", n, err, len(h.running))
		}
		for _, c := range h.running {
			if c.ProcessState != nil {
				t.Errorf("a hog ended by itself: %v", c.ProcessState)
			}
		}
	}
}

func TestTheViewShowsWhoOperatedWhen(t *testing.T) {
	r := mustRecord(t)
	v := &view{plan: &plan{caps: &wire.Caps{Members: []wire.Member{{Name: "small", P50MS: new(float64)}, {Name: "large", P50MS: new(float64)}}}, cameras: 1},
		rec: r, width: 4}
	if got := v.text(); got != "" {
		t.Errorf("before the first phase: got %q, want nothing", got)
	}
	r.begin("quiet", 0)
	v.text()
	r.begin("busy", 2)
	r.switched(&wire.Event{Member: "small", TS: wire.At(time.Now())})
	got := v.text()
	for _, want := range []string{"phase busy, 2 other programs", "large      0.0 %   0.00 ms    0 %  █·", "small      0.0 %   0.00 ms    0 %  ·█", "·▒"} {
		if !strings.Contains(got, want) {
			t.Errorf("got\n%s\nwant %q in it", got, want)
		}
	}
}

func TestABenchmarkTakesTheMedianOfRatios(t *testing.T) {
	f := newFigure("core", "x", "ms", []float64{2, 30, 4}, []float64{1, 10, 1}, 2.5, 1.1)
	if f.Ratio != 3 || f.Ours != 4 || f.Base != 1 || f.Rounds != 3 {
		t.Errorf("got %+v, want ratio 3, ours 4, base 1, 3 rounds", f)
	}
	if _, err := repeat(canceled(t), 3, func() (float64, error) { return 1, nil }); err == nil {
		t.Error("a cancelled benchmark went on")
	}
}

func canceled(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}
