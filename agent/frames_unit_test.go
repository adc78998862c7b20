package agent

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/monitor"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/pipeline"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/firmware/power"
	"github.com/limber-edge/limber/store"
)

// bare is an agent without members: it refuses each job at once, as unsupported,
// and keeps the answer.
func bare(tb testing.TB, dir string, change func(*Config)) *Agent {
	tb.Helper()
	cfg := Default()
	cfg.State = dir
	if change != nil {
		change(&cfg)
	}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	outbox, err := store.OpenOutbox(dir, store.OutboxOptions{Alias: aliasOf}, log)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { outbox.Close() })
	a, err := New(cfg, &Parts{Outbox: outbox}, log)
	if err != nil {
		tb.Fatal(err)
	}
	none := fmt.Errorf("no member can be used")
	a.noCrew.Store(&none)
	return a
}

// reborn is the next run of an agent, on what its outbox has committed.
func reborn(tb testing.TB, a *Agent) *Agent {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := a.parts.Outbox.Run(ctx); err != nil { // commits what there is
		tb.Fatal(err)
	}
	if err := a.parts.Outbox.Close(); err != nil {
		tb.Fatal(err)
	}
	return bare(tb, a.cfg.State, func(c *Config) { *c = a.cfg })
}

// results are those that wait for the link.
func results(tb testing.TB, a *Agent) (all []wire.Result) {
	tb.Helper()
	n, _ := a.parts.Outbox.Depth()
	if n == 0 {
		return nil
	}
	records, err := a.parts.Outbox.Next(context.Background(), 0, n)
	if err != nil {
		tb.Fatal(err)
	}
	for _, r := range records {
		var v wire.Result
		if err := wire.Decode(r.Payload, &v); err != nil {
			tb.Fatal(err)
		}
		all = append(all, v)
	}
	return all
}

// idsOf are the ids of all results, in order, without the boot's.
func idsOf(tb testing.TB, a *Agent) string {
	tb.Helper()
	var ids []string
	for _, r := range results(tb, a) {
		ids = append(ids, strings.Replace(r.ID, "-"+a.boot[:8]+"-", "-BOOT-", 1))
	}
	return strings.Join(ids, " ")
}

func front(body string, qos byte) mqtt.Message {
	return mqtt.Message{Topic: "limber/v1/demo/desk/frame/front", Payload: []byte(body), QoS: qos}
}

func again(m mqtt.Message) mqtt.Message {
	m.Duplicate = true
	return m
}

func kept(m mqtt.Message) mqtt.Message {
	m.Retained = true
	return m
}

func TestFramesAreNumberedBySourceAndBoot(t *testing.T) {
	a := bare(t, t.TempDir(), nil)
	back := front("x", 0)
	back.Topic = "limber/v1/demo/desk/frame/back"
	for _, m := range []mqtt.Message{front("x", 0), front("x", 0), back, front("y", 1), kept(front("old", 1)), front("z", 1)} {
		a.Receive(m, func() {})
	}
	if got, want := idsOf(t, a), "front-BOOT-1 front-BOOT-2 back-BOOT-1 front-BOOT-3 front-BOOT-5"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for _, r := range results(t, a) {
		if source, _, _ := strings.Cut(r.ID, "-"); r.Source != source {
			t.Errorf("result of %s: source %q", r.ID, r.Source)
		}
	}
}

func TestAFrameIDThatIsTakenIsPassedOver(t *testing.T) {
	a := bare(t, t.TempDir(), nil)
	job := mqtt.Message{Topic: a.self.Job("front-" + a.boot[:8] + "-1"), Payload: []byte("x"), QoS: 1}
	a.Receive(job, func() {})
	a.inbox.admit(&ticket{id: "front-" + a.boot[:8] + "-2"})
	a.Receive(front("x", 1), func() {})
	if got, want := idsOf(t, a), "front-BOOT-1 front-BOOT-3"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestN10_AFrameThatIsDeliveredAgainKeepsItsID(t *testing.T) {
	a := bare(t, t.TempDir(), nil)
	acks := 0
	ack := func() { acks++ }
	a.Receive(front("x", 1), ack)
	a.Receive(again(front("x", 1)), ack) // answered and stored
	a.Receive(front("x", 1), ack)        // the same picture once more
	a.Receive(again(front("y", 1)), ack) // never seen
	if got, want := idsOf(t, a), "front-BOOT-1 front-BOOT-1 front-BOOT-2 front-BOOT-3"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	other := again(front("x", 1))
	other.Topic = a.self.Frame("back")
	a.Receive(other, ack)
	if got := idsOf(t, a); !strings.HasSuffix(got, "back-BOOT-1") {
		t.Errorf("got %s, want the bytes of another source to be a new frame", got)
	}
	boot := a.boot
	a = reborn(t, a)
	before := len(results(t, a))
	a.Receive(again(front("y", 1)), ack)
	a.Receive(again(front("z", 1)), ack)
	all := results(t, a)[before:]
	if len(all) != 2 || all[0].ID != "front-"+boot[:8]+"-3" || all[1].ID != "front-"+a.boot[:8]+"-1" {
		t.Errorf("after a restart: got %+v, want the id of before, and a new one for what is not known", all)
	}
}

func TestN10_AnOpenFrameThatIsDeliveredAgainIsRunOnce(t *testing.T) {
	a := bare(t, t.TempDir(), nil)
	acks := 0
	open := &ticket{id: "front-x-1", frame: true, source: "front", qos: 1, request: requestOf(front("x", 1)), acks: nil}
	a.inbox.admit(open)
	a.Receive(again(front("x", 1)), func() { acks++ })
	if n := len(results(t, a)); n != 0 || acks != 0 {
		t.Fatalf("%d results and %d acknowledgements before the answer, want none", n, acks)
	}
	a.answer(open, &pipeline.Answer{Reason: wire.Busy})
	for _, r := range results(t, a) {
		a.inbox.settle(r.Seq)
	}
	if acks != 1 {
		t.Errorf("%d acknowledged, want the delivery that counts", acks)
	}
}

func TestRetainedFramesAreOldPictures(t *testing.T) {
	for _, taken := range []bool{false, true} {
		a := bare(t, t.TempDir(), func(c *Config) { c.Frames.Retained = taken })
		acks := 0
		a.Receive(kept(front("x", 1)), func() { acks++ })
		n, ignored := len(results(t, a)), a.origins.retained.Load()
		if taken && (n != 1 || ignored != 0) || !taken && (n != 0 || ignored != 1 || acks != 1) {
			t.Errorf("frames.retained = %v: %d results, %d ignored, %d acknowledged", taken, n, ignored, acks)
		}
	}
}

func TestASupersededFrameGetsNoResultAndIsCounted(t *testing.T) {
	a := bare(t, t.TempDir(), nil)
	acks := 0
	old := &ticket{id: "front-x-1", frame: true, latest: true, acks: []func(){func() { acks++ }}}
	a.inbox.admit(old)
	a.answer(old, &pipeline.Answer{Superseded: true})
	if n := len(results(t, a)); n != 0 || a.inbox.has(old.id) || acks != 1 || a.telemetry(newVitals(monitor.New("/"), power.New("/"))).Superseded != 1 {
		t.Errorf("%d results, open %v, %d acknowledged; want nothing left and one counted", n, a.inbox.has(old.id), acks)
	}
}

func TestWhatASourceWishesIsForFramesThatSayNothing(t *testing.T) {
	low, half := 20.0, 0.5
	for _, tt := range []struct {
		name         string
		header, want wire.Header
	}{
		{"plain bytes", wire.Header{}, wire.Header{DeadlineMS: &low, MinTop1: &half, Priority: wire.High}},
		{"a header", wire.Header{MinTop1: new(0.9), Priority: wire.Low}, wire.Header{DeadlineMS: &low, MinTop1: new(0.9), Priority: wire.Low}},
	} {
		frame := &ticket{frame: true, source: "front", wishes: wire.Header{DeadlineMS: &low, MinTop1: &half, Priority: wire.High}}
		got := frame.complete(tt.header)
		if *got.DeadlineMS != *tt.want.DeadlineMS || *got.MinTop1 != *tt.want.MinTop1 || got.Priority != tt.want.Priority {
			t.Errorf("%s: got %+v, want %+v", tt.name, got, tt.want)
		}
	}
	frame, job := &ticket{frame: true, source: "front"}, &ticket{}
	frame.complete(wire.Header{Source: "back"})
	job.complete(wire.Header{Source: "back"})
	if frame.source != "front" || job.source != "back" {
		t.Errorf("sources %q and %q; want the topic's for a frame and the header's for a job", frame.source, job.source)
	}
}

func TestNamesThatNobodyCountsOnTakeNoMemory(t *testing.T) {
	o, seen := newOrigins(Sources{{Name: "door"}}), map[string]bool{}
	for i := range 10 * maxSources {
		name := fmt.Sprint("cam", i)
		for range 2 {
			id := fmt.Sprint(name, "-", o.count(name))
			if seen[id] {
				t.Fatalf("id %s twice", id)
			}
			seen[id] = true
		}
	}
	if len(o.counts) != maxSources || o.count("door") != 1 {
		t.Errorf("%d sources are counted, want %d and the one of the configuration among them", len(o.counts), maxSources)
	}
}

func TestOverTheLimitTheNewestFrameOfASourceWaits(t *testing.T) {
	a := bare(t, t.TempDir(), func(c *Config) { c.Sources = Sources{{Name: "door", Topic: "cam/+/jpg", MaxFPS: 1}} })
	for i := range 5 {
		a.Receive(mqtt.Message{Topic: "cam/door/jpg", Payload: []byte{byte(i)}}, func() {})
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- a.pace(ctx) }()
	if _, err := a.parts.Outbox.Next(ctx, 0, 1); err != nil {
		t.Fatal(err)
	}
	cancel()
	<-ended
	if got, s := idsOf(t, a), a.telemetry(newVitals(monitor.New("/"), power.New("/"))); got != "door-BOOT-5" || s.Superseded != 4 || s.Jobs != 5 || s.Refused != 1 {
		t.Errorf("answered %s, telemetry %+v; want the newest answered and four superseded", got, s)
	}
}

func FuzzSourceOf(f *testing.F) {
	f.Add("front-8aa3a679-12")
	f.Add("a-b-8aa3a679-12")
	f.Add("-8aa3a679-")
	f.Fuzz(func(t *testing.T, id string) {
		source, ok := sourceOf(id)
		if ok && (source == "" || !strings.HasPrefix(id, source+"-")) {
			t.Errorf("%q: source %q", id, source)
		}
		if wire.ValidSource(id) {
			if got, ok := sourceOf(id + "-0123abcd-7"); !ok || got != id {
				t.Errorf("source %q: got %q, %v back", id, got, ok)
			}
		}
	})
}
