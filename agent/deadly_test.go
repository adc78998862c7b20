package agent_test

import (
	"bytes"
	"image"
	"image/png"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/limber-edge/limber/agent"
	"github.com/limber-edge/limber/agent/engine"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/sim"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/broker-config/brokertest"
	"github.com/limber-edge/limber/family"
)

// mortal makes simulated members whose process a white picture kills, as a picture may
// that runs into a fault of a decoder.
type mortal struct{ sim.Inference }

func (m mortal) Members(f *family.Family, blobs family.Blobs) (agent.Members, error) {
	open, err := m.Inference.Members(f, blobs)
	return func(v family.Variant) (engine.Loader, error) {
		l, err := open(v)
		return mortalLoader{l}, err
	}, err
}

type mortalLoader struct{ engine.Loader }

func (l mortalLoader) Session(i int) (family.Session, error) {
	s, err := l.Loader.Session(i)
	return mortalSession{s}, err
}

type mortalSession struct{ family.Session }

func (s mortalSession) Run(out []float32, in ...[]float32) error {
	for _, image := range in {
		if red := image[:len(image)/3]; slices.Min(red) == slices.Max(red) && red[0] > 0 {
			syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
		}
	}
	return s.Session.Run(out, in...)
}

// whiteFrame is the picture that kills.
func whiteFrame(tb testing.TB) []byte {
	tb.Helper()
	white := image.NewGray(image.Rect(0, 0, 32, 32))
	for i := range white.Pix {
		white.Pix[i] = 255
	}
	var b bytes.Buffer
	if err := png.Encode(&b, white); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func TestR5_AFrameThatKillsIsRefusedAfterTwoKills(t *testing.T) {
	t.Parallel()
	m := brokertest.StartMosquitto(t, wideWindow...)
	cfg := newConfig(t, m.Addr)
	o := operate(t, m.Addr)
	p := launch(t, cfg, envSimulated+"="+deadly)
	o.presence(cfg, wire.Online, 0)
	names := ids("job", 40)
	deadlyJob, plain := job(t, patient, whiteFrame(t)), job(t, patient, pngFrame(t, 0))
	var messages []mqtt.Message
	for i, id := range names {
		payload := plain
		if i == 20 {
			payload = deadlyJob
		}
		messages = append(messages, mqtt.Message{Topic: self(cfg).Job(id), Payload: payload, QoS: 1})
	}
	messages = append(messages, mqtt.Message{Topic: self(cfg).Frame("front"), Payload: deadlyJob, QoS: 1})
	o.publishAll(messages)
	for range 3 { // by either, and by each when it is served alone
		p.wait()
		p = launch(t, cfg, envSimulated+"="+deadly)
	}
	o.until(func() bool { return o.jobsAnswered(cfg) == len(messages) }, "every job is answered")
	refused := map[string]bool{}
	for _, r := range o.answers(cfg) {
		if r.Status != wire.OK {
			refused[r.Source+r.ID] = r.Reason == wire.Internal && strings.Contains(r.Detail, "it is not decoded again")
		}
	}
	if frame := o.matching(self(cfg).Result("front-#")); len(refused) != 2 || !refused["job-0020"] || len(frame) != 1 {
		t.Errorf("refused %v, want job-0020 and the frame", refused)
	}
	o.until(func() bool {
		told := 0
		for _, m := range o.matching(self(cfg).Event(wire.SeverityError)) {
			if strings.Contains(decoded[wire.Event](t, m).Detail, "cut off twice while it was served") {
				told++
			}
		}
		return told == 2
	}, "both are told of")
	o.publish(self(cfg).Job("after"), plain)
	o.result(cfg, "after", 1)
	p.stop()
}
