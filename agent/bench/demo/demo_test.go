package demo

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limber-edge/limber/agent/bench/camera"
	"github.com/limber-edge/limber/agent/frame"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family/stock"
)

// mustRecord is the record of a demo with two members.
func mustRecord(t *testing.T) *record {
	t.Helper()
	p50 := 1.0
	members := []wire.Member{{Name: "small", P50MS: &p50}, {Name: "large", P50MS: &p50}}
	return newRecord(&plan{members: members, pictures: &gallery{labels: []int{3, 8, 8, 0, 6}}}, 50*time.Millisecond)
}

// mustSend has a camera send a frame.
func mustSend(r *record) (id string, image int) {
	id = fmt.Sprintf("camera-1-8aa3a679-%d", r.next+1)
	return id, r.sent(id)
}

// answerOf is a result for a frame; right says whether its class is the label.
func answerOf(r *record, id string, image int, member string, ms float64, right bool) *wire.Result {
	label := r.plan.pictures.labels[image]
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
		id, image := mustSend(r)
		res := answerOf(r, id, image, "large", 10, i > 0)
		r.answer(res)
		r.answer(res) // a repeated delivery
	}
	r.begin("busy", 4)
	r.switched(&wire.Event{From: "large", Member: "small", TS: wire.At(time.Now())})
	slow, image := mustSend(r)
	r.answer(answerOf(r, slow, image, "small", 60, true))
	refused, _ := mustSend(r)
	r.begin("quiet", 0)
	r.answer(&wire.Result{ID: refused, Status: wire.Refused}) // late, but of the busy phase
	r.answer(&wire.Result{ID: "somebody else's", Status: wire.Refused})
	r.answer(&wire.Result{ID: "camera-1-8aa3a679-0", Status: wire.Refused})
	r.switched(&wire.Event{From: "small", Member: "large", TS: wire.At(time.Now()), Count: 3})
	if r.summary().ReturnMS != nil {
		t.Error("the largest member is said to be back before it answered")
	}
	back, image := mustSend(r)
	probe := answerOf(r, back, image, "large", 10, true)
	probe.Choice = "probe"
	r.answer(probe)
	if r.summary().ReturnMS != nil {
		t.Error("a probe is taken for the return of the largest member")
	}
	back, image = mustSend(r)
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
	if len(s.Phases) != 3 || busy.Hogs != 4 || busy.Frames != 2 || busy.Met != 0 || busy.P95ms != 60 ||
		busy.Members["small"] != 1 {
		t.Errorf("got %+v, want the busy phase with 4 hogs, 2 frames, none in time", busy)
	}
}

func TestTheDemoTellsApartWhatWasSentOnceADeviceHadSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := mustRecord(t)
		r.begin("quiet", 0)
		early, image := mustSend(r)
		<-time.After(settleTime)
		r.answer(answerOf(r, early, image, "small", 60, true)) // late, but sent before
		for range 2 {
			id, image := mustSend(r)
			r.answer(answerOf(r, id, image, "large", 10, true))
		}
		r.begin("busy", 2)
		mustSend(r)
		phases := r.summary().Phases
		if got := phases[0].Settled; got.Frames != 2 || got.Met != 1 || got.Members["large"] != 2 ||
			len(got.Members) != 1 {
			t.Errorf("got %+v of the first phase, want two frames in time by large", got)
		}
		if got := phases[1].Settled; got.Frames != 0 {
			t.Errorf("got %+v of a phase that has just begun, want nothing", got)
		}
	})
}

func TestACameraKnowsTheIdsThatTheDeviceGives(t *testing.T) {
	p := &plan{boot: "8aa3a6790f2e4c51"}
	p.place(2)
	first, second := p.cameras[0], p.cameras[1]
	for i, got := range []string{first.next(), first.next(), second.next()} {
		if want := []string{"camera-1-8aa3a679-1", "camera-1-8aa3a679-2", "camera-2-8aa3a679-1"}[i]; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestTheDemoPlacesNoMoreCamerasThanADeviceTellsApart(t *testing.T) {
	for _, tt := range []struct{ wanted, placed int }{{0, 1}, {7, 7}, {10 * mostCameras, mostCameras}} {
		p := new(plan)
		if p.place(tt.wanted); len(p.cameras) != tt.placed {
			t.Errorf("%d cameras wanted: got %d, want %d", tt.wanted, len(p.cameras), tt.placed)
		}
	}
}

func TestTheDemoTakesAwayCamerasThatAreNotCarried(t *testing.T) {
	for _, tt := range []struct {
		cameras int
		carried float64
		left    int
	}{{20, 0.98, 19}, {20, 0.5, 10}, {20, 0, 1}, {2, 0.9, 1}} {
		if got := fewer(tt.cameras, tt.carried); got != tt.left {
			t.Errorf("%d cameras of which %v was carried: got %d, want %d", tt.cameras, tt.carried, got, tt.left)
		}
	}
}

func TestTheCamerasOfTheDemoSendTestImagesAsJPEGs(t *testing.T) {
	told, size := 0, camera.Size{Name: "small", Width: 64, Side: 48}
	g, err := newGallery(t.Context(), 2, size, func(done int) { told = done })
	if err != nil || told != 2 {
		t.Fatalf("got %v, %d pictures told of, want 2", err, told)
	}
	sheet, err := stock.Sheet(frame.OpenSheet)
	if err != nil {
		t.Fatal(err)
	}
	jobs, err := camera.Jobs(g.jpegs, jpegDue(50*time.Millisecond))
	if err != nil || len(jobs) != 2 {
		t.Fatalf("got %d jobs, %v, want 2", len(jobs), err)
	}
	for i, job := range jobs {
		h, body, err := wire.SplitJob(job)
		if err != nil || h.Deadline() != 50*time.Millisecond || !bytes.Equal(body, g.jpegs[i]) {
			t.Errorf("job %d: got header %+v, %v, want picture %d and 50 ms", i, h, err, i)
		}
		in, err := frame.Decoder{MaxPixels: frame.DefaultPixels}.Inspect(body, frame.Claim{})
		if err != nil || in.Codec != frame.JPEG || in.Width != size.Width || in.Height != size.Side {
			t.Errorf("picture %d: got %+v, %v, want a JPEG of %+v", i, in, err, size)
		}
		if g.labels[i] != sheet.Label(i) {
			t.Errorf("picture %d: got label %d, want %d", i, g.labels[i], sheet.Label(i))
		}
	}
	if _, err := newGallery(canceled(t), 2, size, func(int) {}); err == nil {
		t.Error("pictures are made for a demo that was stopped")
	}
}

// TestTheDemoWaitsForSwitchesThatAreHeldBack has the device tell of a switch some
// time before the last answer, and of another one late.
func TestTheDemoWaitsForSwitchesThatAreHeldBack(t *testing.T) {
	for _, tt := range []struct {
		name          string
		before, after time.Duration // the last answer; 0: no such switch
		switches      int
		most          time.Duration // that the demo waits
	}{
		{"none at all", 0, 0, 0, 100 * time.Millisecond},
		{"long ago", 5 * time.Second, 0, 1, 100 * time.Millisecond},
		{"on its way", 5 * time.Second, 50 * time.Millisecond, 2, 2100 * time.Millisecond},
		{"held back", time.Second / 2, 1400 * time.Millisecond, 2, 2100 * time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := mustRecord(t)
				r.begin("quiet", 0)
				id, image := mustSend(r)
				if tt.before > 0 {
					r.switched(&wire.Event{Member: "small"})
					<-time.After(tt.before)
				}
				r.answer(answerOf(r, id, image, "small", 10, true))
				if tt.after > 0 {
					time.AfterFunc(tt.after, func() { r.switched(&wire.Event{Member: "large"}) })
				}
				answered := time.Now()
				if err := r.settle(t.Context()); err != nil {
					t.Error(err)
				}
				if got := r.summary().Switches; got != tt.switches || time.Since(answered) > tt.most {
					t.Errorf("got %d switches after %v, want %d after at most %v", got, time.Since(answered),
						tt.switches, tt.most)
				}
			})
		})
	}
}

func TestTheDemoDoesNotWaitForEver(t *testing.T) {
	r := mustRecord(t)
	r.begin("quiet", 0)
	mustSend(r)
	if err := r.await(t.Context(), time.Millisecond); err != nil {
		t.Errorf("got %v, want the missing frame left to the summary", err)
	}
	if err := r.await(canceled(t), time.Minute); err == nil {
		t.Error("a demo that is stopped goes on as if all frames had been answered")
	}
}

func TestADemoWhoseAccountDoesNotAddUpFails(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(*Summary)
		says  string // "": nothing
	}{
		{"all is well", func(*Summary) {}, ""},
		{"few in time", func(s *Summary) { s.Met = 0.01 }, ""},
		{"refused frames are answers", func(s *Summary) { s.Answered, s.Refused = 1, 5 }, ""},
		{"a frame without an answer", func(s *Summary) { s.Answered-- }, "1 of 6 frames were never answered"},
		{"an answer too many", func(s *Summary) { s.Refused++ }, "-1 of 6 frames"},
		{"all refused", func(s *Summary) { s.Answered, s.Refused = 0, 6 }, "not a single frame was answered"},
		{"a phase is missing", func(s *Summary) { s.Phases = s.Phases[:2] }, "2 of 3 phases took place"},
		{"a phase without frames", func(s *Summary) { s.Phases[1].Frames = 0 }, "no frame was sent in phase 2, busy"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := Summary{Frames: 6, Answered: 6, Met: 1, Phases: []PhaseSummary{
				{Phase: "quiet", Frames: 2}, {Phase: "busy", Frames: 2}, {Phase: "quiet", Frames: 2}}}
			tt.spoil(&s)
			err := s.Check()
			if (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, want %q", err, tt.says)
			}
		})
	}
}

func canceled(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

func TestASceneIsTheRecordAtThatMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := mustRecord(t)
		r.plan.cameras = make([]*source, 1)
		if _, begun := r.scene(); begun {
			t.Error("there is a scene before the first phase")
		}
		r.begin("quiet", 0)
		<-time.After(2 * time.Second)
		r.begin("busy", 3)
		for i := range CameraRate + 5 {
			id, image := mustSend(r)
			r.answer(answerOf(r, id, image, "small", float64(i), i > 0))
		}
		refused, _ := mustSend(r)
		r.answer(&wire.Result{ID: refused, Status: wire.Refused})
		r.switched(&wire.Event{Member: "small"})
		<-time.After(time.Second)
		s, begun := r.scene()
		if !begun || s.At != 3*time.Second || s.Operates != "small" || s.Phase != 2 || s.Name != "busy" ||
			s.Hogs != 3 || s.Took != time.Second || s.Over {
			t.Errorf("got %+v, want one second of the second phase", s)
		}
		if len(s.Last) != CameraRate || s.Last[0] != 5 || s.Answers["small"] != 35 || s.Answered != 35 ||
			s.Met != 0.9722 || s.Top1 != 0.9714 ||
			s.Refused != 1 || s.Switches != 1 {
			t.Errorf("got %+v, want 35 answers, the last 30 of them in Last, and a refusal", s)
		}
		r.end()
		<-time.After(time.Second)
		if over, _ := r.scene(); !over.Over || over.Took != time.Second {
			t.Errorf("got %+v, want a phase that is over", over)
		}
	})
}
