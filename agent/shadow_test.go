package agent_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image/jpeg"
	"image/png"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent"
	"github.com/limber-edge/limber/agent/config"
	"github.com/limber-edge/limber/agent/engine"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/broker-config/brokertest"
	"github.com/limber-edge/limber/family"
)

// one is a family of one member of the stock family, which differs by a hair.
func one(tb testing.TB, name string, member int) (*family.Family, family.MemoryBlobs) {
	tb.Helper()
	f, blobs := sibling(tb, name)
	f.Members = f.Members[member : member+1]
	return f, blobs
}

// photos are JPEGs of test images.
func photos(tb testing.TB, n int) (all [][]byte) {
	tb.Helper()
	for i := range n {
		m, err := png.Decode(bytes.NewReader(pngFrame(tb, i)))
		var b bytes.Buffer
		if err == nil {
			err = jpeg.Encode(&b, m, nil)
		}
		if err != nil {
			tb.Fatal(err)
		}
		all = append(all, b.Bytes())
	}
	return all
}

// see has one frame answered by a family, and returns its first class.
func (o *operator) see(cfg config.Config, id string, frame []byte, by string) string {
	o.tb.Helper()
	o.publish(self(cfg).Job(id), job(o.tb, patient, frame))
	r := o.result(cfg, id, 1)
	if r.Status != wire.OK || r.Family != by {
		o.tb.Fatalf("%s: got %+v, want an answer of %s", id, r, by)
	}
	return r.Classes[0].Label
}

// compared is what is known of a comparison, once it does not change any more.
func (o *operator) compared(cfg config.Config, id string) (last wire.Agreement) {
	o.tb.Helper()
	for settled := 0; settled < 2; settled++ {
		<-time.After(1100 * time.Millisecond) // as it is told once a second
		all := o.matching(self(cfg).Ack(wire.VerbFamily, id))
		if len(all) == 0 {
			continue
		}
		a := decoded[wire.Ack](o.tb, all[len(all)-1])
		if a.State.Final() {
			o.tb.Fatalf("got %+v", a)
		}
		if a.Shadow != nil && a.Shadow.Frames > last.Frames {
			settled, last = 0, *a.Shadow
		}
	}
	return last
}

// counted is inference that counts the runs of a family's members.
type counted struct {
	agent.Inference
	family string
	runs   *atomic.Int64
}

func (c counted) Members(f *family.Family, blobs family.Blobs) (agent.Members, error) {
	open, err := c.Inference.Members(f, blobs)
	if f.Name != c.family || err != nil {
		return open, err
	}
	return func(v family.Variant) (engine.Loader, error) {
		l, err := open(v)
		return countedLoader{l, c.runs}, err
	}, nil
}

type countedLoader struct {
	engine.Loader
	runs *atomic.Int64
}

func (l countedLoader) Session(i int) (family.Session, error) {
	s, err := l.Loader.Session(i)
	if err != nil {
		return nil, err
	}
	return countedSession{s, l.runs}, nil
}

type countedSession struct {
	family.Session
	runs *atomic.Int64
}

func (s countedSession) Run(out []float32, in ...[]float32) error {
	defer s.runs.Add(1)
	return s.Session.Run(out, in...)
}

// moves waits until a counter has, but for no longer than a second.
func moves(n *atomic.Int64, from int64) {
	for end := time.Now().Add(time.Second); n.Load() == from && time.Now().Before(end); {
		<-time.After(time.Millisecond)
	}
}

// A family is compared, then taken into use, and what both said of the same pictures is
// compared here.
func TestTheAgreementThatIsToldIsThatOfTheAnswersOfBothFamilies(t *testing.T) {
	t.Parallel() // it waits
	broker := brokertest.StartMosquitto(t).Addr
	next, blobs := one(t, "yard", 1)
	carry(t, broker, next, blobs)
	o, cfg := operate(t, broker), newRealConfig(t, broker)
	var runs atomic.Int64
	start(t, cfg, rig{stored: true, inference: func() (agent.Inference, error) {
		real, err := openRuntime(cfg)
		return counted{real, next.Name, &runs}, err
	}}).ready()
	o.presence(cfg, wire.Online, 0)
	fixed := o.command(cfg, cfg.Device, wire.VerbMode, "m1", `{"mode":"fixed:5.8M","ttl_ms":60000}`)
	if fixed.State != wire.CommandSucceeded {
		t.Fatalf("got %+v", fixed)
	}
	o.publish(self(cfg).Cmd(wire.VerbFamily, "u1"),
		[]byte(familyCommand(next, `,"shadow":{"percent":100,"frames":1000000}`)))
	frames, first := photos(t, comparedFrames), wire.Agreement{}
	for n := 0; first.Frames == 0; n++ { // until the members are ready
		o.see(cfg, fmt.Sprint("first-", n), frames[0], "cifar10")
		first = o.compared(cfg, "u1")
	}
	var before, after []string
	for i, frame := range frames {
		ran := runs.Load()
		before = append(before, o.see(cfg, fmt.Sprint("before-", i), frame, "cifar10"))
		moves(&runs, ran)
		<-time.After(5 * time.Millisecond) // until it waits for the next one
	}
	got := o.compared(cfg, "u1")
	o.command(cfg, cfg.Device, wire.VerbCancel, "c1", `{"cancel":"u1","ttl_ms":60000}`)
	if end := o.final(self(cfg).Ack(wire.VerbFamily, "u1"), 0); end.State != wire.CommandCancelled || end.Shadow == nil ||
		end.Shadow.Frames != got.Frames {
		t.Errorf("got %+v at last, want it cancelled with %+v", end, got)
	}
	taken := o.command(cfg, cfg.Device, wire.VerbFamily, "u2",
		familyCommand(next, `,"probation":{"frames":0,"max_missed":0}`))
	if taken.State != wire.CommandSucceeded {
		t.Fatalf("got %+v", taken)
	}
	agreed := 0
	for i, frame := range frames {
		after = append(after, o.see(cfg, fmt.Sprint("after-", i), frame, "yard"))
		if after[i] == before[i] {
			agreed++
		}
	}
	if after[0] == before[0] {
		agreed += first.Frames
	}
	skipped := first.Frames + len(frames) - got.Frames // for which it did not wait yet, on a busy machine
	if off := agreed - got.Agreed; off < 0 || off > skipped || skipped > len(frames)/10 || agreed == got.Frames+skipped {
		t.Errorf("told %+v, %d frames were not compared; both agree on %d", got, skipped, agreed)
	}
	t.Logf("%d of %d agree, %d skipped", got.Agreed, got.Frames, skipped)
}

// relabel gives every answer of a family another label.
func relabel(tb testing.TB, f *family.Family) {
	tb.Helper()
	f.Classes = append(slices.Clone(f.Classes[1:]), f.Classes[0])
	description := map[string]any{}
	err := json.Unmarshal(f.Describe, &description)
	if err == nil {
		description["classes"] = f.Classes
		f.Describe, err = json.Marshal(description)
	}
	if err != nil {
		tb.Fatal(err)
	}
}

func TestAFamilyThatAgreesTooLittleStopsInShadowAndNeverAnswers(t *testing.T) {
	t.Parallel()
	broker := serve(t)
	next, blobs := sibling(t, "yard")
	relabel(t, next)
	carry(t, broker, next, blobs)
	o, cfg := operate(t, broker), newRealConfig(t, broker)
	start(t, cfg, real(cfg)).ready()
	o.presence(cfg, wire.Online, 0)
	stop := stream(o, cfg)
	ack := o.command(cfg, cfg.Device, wire.VerbFamily, "u1", familyCommand(next,
		`,"shadow":{"percent":100,"frames":5,"agreement":0.5}`))
	n := stop()
	if ack.State != wire.CommandFailed || ack.Reason != wire.Disagreement || ack.RolledBack || ack.Shadow == nil ||
		ack.Shadow.Frames != 5 || ack.Shadow.Agreed != 0 {
		t.Errorf("got %+v %+v, want none of 5 frames to agree", ack, ack.Shadow)
	}
	for i := range n {
		if r := o.result(cfg, fmt.Sprint("job-", i), 1); r.Family != "cifar10" || r.Status != wire.OK {
			t.Errorf("got %+v, want an answer of the family in use", r)
		}
	}
	o.until(func() bool {
		caps, ok := latest[wire.Caps](o, self(cfg).Caps())
		last := caps.LastUpdate
		return ok && caps.Shadow && caps.Family.Name == "cifar10" && caps.Update == nil && last != nil &&
			last.Reason == wire.Disagreement && last.Shadow != nil && last.Shadow.Frames == 5
	}, "caps tell how it ended")
	again := o.command(cfg, cfg.Device, wire.VerbFamily, "u2", familyCommand(next, ""))
	if again.State != wire.CommandRejected || again.Reason != wire.Precondition {
		t.Errorf("again: got %+v, want rejected: precondition", again)
	}
	if s := o.telemetry(cfg, func(wire.Telemetry) bool { return true }, "telemetry"); s.Jobs > uint64(n) {
		t.Errorf("got %d jobs counted of %d", s.Jobs, n)
	}
}
