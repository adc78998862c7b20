package agent_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/limber-edge/limber/agent/config"
	"github.com/limber-edge/limber/agent/control"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/broker-config/brokertest"
)

// mustShoot publishes a file as a camera with a shell would.
func mustShoot(tb testing.TB, addr, topic string, picture []byte, args ...string) {
	tb.Helper()
	file := filepath.Join(tb.TempDir(), "cat.jpg")
	if err := os.WriteFile(file, picture, 0o600); err != nil {
		tb.Fatal(err)
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		tb.Fatal(err)
	}
	args = append([]string{"-h", host, "-p", port, "-t", topic, "-f", file}, args...)
	if out, err := exec.Command(brokertest.Program(tb, "mosquitto_pub"), args...).CombinedOutput(); err != nil {
		tb.Fatalf("mosquitto_pub %v: %v: %s", args, err, out)
	}
}

// frameResult waits for the answer to message n of a source.
func (o *operator) frameResult(cfg config.Config, source string, n int) wire.Result {
	o.tb.Helper()
	boot := o.presence(cfg, wire.Online, 0).BootID
	return o.result(cfg, fmt.Sprintf("%s-%s-%d", source, boot[:8], n), 1)
}

func TestTheSamePictureTwiceIsTwoFrames(t *testing.T) {
	t.Parallel()
	brokers(t, func(t *testing.T, addr string) {
		o, cfg, _ := online(t, addr, rig{})
		topic := self(cfg).Frame("front")
		for _, qos := range []string{"0", "0", "1"} {
			mustShoot(t, addr, topic, job(t, patient, jpegFrame(t, 0)), "-q", qos)
		}
		for n := range 3 {
			if r := o.frameResult(cfg, "front", n+1); r.Status != wire.OK || r.Source != "front" || r.DeadlineMS != patient {
				t.Errorf("frame %d: got %+v", n+1, r)
			}
		}
		mustShoot(t, addr, topic, jpegFrame(t, 0))
		r := o.frameResult(cfg, "front", 4)
		if r.Source != "front" || r.DeadlineMS != 100 || r.Status != wire.OK && r.Reason != wire.Busy {
			t.Errorf("plain bytes: got %+v, want an answer within 100 ms, or none because the machine is busy", r)
		}
		mustShoot(t, addr, topic, []byte("no picture"))
		if r := o.frameResult(cfg, "front", 5); r.Reason != wire.Invalid || r.Source != "front" {
			t.Errorf("no picture: got %+v, want refused: invalid", r)
		}
	})
}

func TestAJobMaySayWhoSendsIt(t *testing.T) {
	t.Parallel()
	o, cfg, _ := online(t, serve(t), rig{})
	o.publish(self(cfg).Job("told"), rawJob(`{"deadline_ms":600000,"source":"gate"}`, pngFrame(t, 0)))
	o.publish(self(cfg).Job("wrong"), rawJob(`{"source":"a/b"}`, pngFrame(t, 0)))
	if r := o.result(cfg, "told", 1); r.Status != wire.OK || r.Source != "gate" {
		t.Errorf("got %+v, want the source", r)
	}
	if r := o.result(cfg, "wrong", 1); r.Reason != wire.Invalid || !strings.Contains(r.Detail, "source") {
		t.Errorf("got %+v, want refused: invalid, for its source", r)
	}
}

func TestP13_AFrameWithoutAGoodSourceIsCountedAndGetsNoResult(t *testing.T) {
	t.Parallel()
	o, cfg, _ := online(t, brokertest.StartMosquitto(t).Addr, rig{})
	for _, source := range []string{"a/b", "", strings.Repeat("x", 41), "a b"} {
		o.publish(self(cfg).Frame(source), pngFrame(t, 0))
	}
	o.publish(self(cfg).Frame(strings.Repeat("x", 40)), job(t, patient, pngFrame(t, 0)))
	if r := o.frameResult(cfg, strings.Repeat("x", 40), 1); r.Status != wire.OK {
		t.Errorf("the longest source: got %+v", r)
	}
	o.told(t, self(cfg).Event(wire.SeverityWarning), wire.EventBadID, 4)
	if results := o.matching(self(cfg).Result("#")); len(results) != 1 {
		t.Errorf("got %d results, want the one with a good source", len(results))
	}
}

func TestASourceOnTopicsOfItsOwnIsAnswered(t *testing.T) {
	t.Parallel()
	brokers(t, func(t *testing.T, addr string) {
		cfg := newConfig(t, addr)
		cfg.Sources = config.Sources{
			{Name: "yard", Topic: "cam/+/jpg", Deadline: control.Duration{Duration: config.Default().Broker.KeepAlive.Duration}},
			{Name: "door", Topic: "frigate/+/snapshot", ResultTopic: "seen/door", MinTop1: new(0.999)},
		}
		o := operate(t, addr)
		start(t, cfg, rig{}).ready()
		o.presence(cfg, wire.Online, 0)
		mustShoot(t, addr, "cam/front/jpg", jpegFrame(t, 0))
		mustShoot(t, addr, "cam/back/jpg", jpegFrame(t, 0))
		mustShoot(t, addr, "frigate/door/snapshot", jpegFrame(t, 0))
		for n := range 2 {
			if r := o.frameResult(cfg, "yard", n+1); r.Status != wire.OK || r.Source != "yard" || r.DeadlineMS != 20_000 {
				t.Errorf("frame %d: got %+v", n+1, r)
			}
		}
		r := decoded[wire.Result](t, o.await("seen/door", 1))
		if r.Source != "door" || r.Reason != wire.Infeasible || len(o.matching(self(cfg).Result(r.ID))) > 0 {
			t.Errorf("got %+v, want refused as infeasible on its result_topic alone", r)
		}
	})
}

func TestASourceWhoseTopicChangesIsAnsweredOnceAndOneTakenOutBringsNothing(t *testing.T) {
	t.Parallel()
	brokers(t, func(t *testing.T, addr string) {
		cfg := newConfig(t, addr)
		cfg.Sources = config.Sources{{Name: "yard", Topic: "cam/#"}, {Name: "door", Topic: "frigate/+/snapshot"}}
		o := operate(t, addr)
		first := start(t, cfg, rig{})
		o.presence(cfg, wire.Online, 0)
		first.stop()
		cfg.Sources = config.Sources{{Name: "yard", Topic: "cam/+/jpg"}}
		told := len(o.matching(self(cfg).State()))
		d := start(t, cfg, rig{})
		d.ready()
		boot := o.presence(cfg, wire.Online, told).BootID
		for range 3 {
			mustShoot(t, addr, "frigate/door/snapshot", jpegFrame(t, 0))
			mustShoot(t, addr, "cam/front/jpg", job(t, patient, jpegFrame(t, 0)))
		}
		for n := range 3 {
			o.result(cfg, fmt.Sprintf("yard-%s-%d", boot[:8], n+1), 1)
		}
		o.telemetry(cfg, func(s wire.Telemetry) bool { return s.Jobs == 3 && s.Outbox == 0 }, "three frames came")
		if results := o.matching(self(cfg).Result("#")); len(results) != 3 {
			t.Errorf("got %d results, want one for each picture", len(results))
		}
		if strings.Contains(d.log.String(), "frigate/door/snapshot") {
			t.Error("the broker still brings what no source takes")
		}
	})
}

func TestRetainedFramesAreCountedAndLeftAlone(t *testing.T) {
	t.Parallel()
	brokers(t, func(t *testing.T, addr string) {
		cfg := newConfig(t, addr)
		cfg.Sources = config.Sources{{Name: "yard", Topic: "cam/+/jpg"}}
		mustShoot(t, addr, self(cfg).Frame("front"), jpegFrame(t, 0), "-r", "-q", "1")
		mustShoot(t, addr, "cam/front/jpg", jpegFrame(t, 0), "-r")
		o := operate(t, addr)
		start(t, cfg, rig{}).ready()
		alone := func(s wire.Telemetry) bool { return s.Retained == 2 && s.Jobs == 0 }
		o.telemetry(cfg, alone, "two old pictures were left alone")
		mustShoot(t, addr, self(cfg).Frame("front"), job(t, patient, jpegFrame(t, 0)))
		if r := o.frameResult(cfg, "front", 2); r.Status != wire.OK {
			t.Errorf("a new one: got %+v", r)
		}
		if results := o.matching(self(cfg).Result("#")); len(results) != 1 {
			t.Errorf("got %d results, want that of the new one", len(results))
		}
	})
}

// shootBurst sends n pictures of one source at QoS 1, each with bytes of its own,
// and returns when the broker has them all.
func (o *operator) shootBurst(cfg config.Config, source string, n int) {
	o.tb.Helper()
	picture := pngFrame(o.tb, 0)
	var frames []mqtt.Message
	for i := range n {
		payload := rawJob(fmt.Sprintf(`{"deadline_ms":600000,"trace":"%d"}`, i), picture)
		frames = append(frames, mqtt.Message{Topic: self(cfg).Frame(source), Payload: payload, QoS: 1})
	}
	o.publishAll(frames)
}

func TestN10_ABrokenLinkAnswersEachFrameOnce(t *testing.T) {
	t.Parallel()
	brokers(t, func(t *testing.T, addr string) {
		c, through := lay(t, addr)
		cfg, g := newConfig(t, through), newGate(t)
		o := operate(t, addr)
		d := start(t, cfg, g.rig())
		boot := o.presence(cfg, wire.Online, 0).BootID
		const frames = 60 * times
		o.shootBurst(cfg, "front", frames)
		d.takes(o, "burst") // of the embedded broker the device has all frames: see TestT2_StopInABurst
		g.pass(5)
		o.await(self(cfg).Result("#"), 1)
		c.cut()
		d.log.await(t, "broker lost", 1)
		g.open()
		c.mend()
		var names []string
		for n := range frames {
			names = append(names, fmt.Sprintf("front-%s-%d", boot[:8], n+1))
		}
		got := namesOf(o.answeredOnce(cfg, names))
		for _, id := range names {
			if !slices.Contains(got, id) {
				t.Errorf("frame %s has no answer", id)
			}
		}
		o.ranOnce(cfg, frames)
	})
}

func TestN10_ARestartAnswersEachFrameOnce(t *testing.T) {
	t.Parallel()
	brokers(t, func(t *testing.T, addr string) {
		c, through := lay(t, addr)
		cfg, g := newConfig(t, through), newGate(t)
		o := operate(t, addr)
		d := start(t, cfg, g.rig())
		o.presence(cfg, wire.Online, 0)
		const frames = 60 * times
		o.shootBurst(cfg, "front", frames)
		d.takes(o, "burst") // of the embedded broker the device has all frames: see TestT2_StopInABurst
		g.pass(5)
		o.await(self(cfg).Result("#"), 1)
		c.cut() // what was answered since is acknowledged to nobody
		d.log.await(t, "broker lost", 1)
		d.end()
		g.pass(5) // while it stops
		g.open()
		d.stop()
		c.mend()
		start(t, cfg, rig{})
		o.until(func() bool { return o.jobsAnswered(cfg) >= frames }, "every frame has an answer")
		o.telemetry(cfg, func(s wire.Telemetry) bool { return s.Outbox == 0 && s.Queue == 0 }, "nothing waits")
		o.shootBurst(cfg, "last", 1)
		o.until(func() bool { return o.jobsAnswered(cfg) > frames }, "another frame has an answer")
		o.fence()
		if n := len(o.answers(cfg)); n != frames+1 {
			t.Errorf("%d frames have %d ids, want one for each", frames+1, n)
		}
	})
}

func TestASupersededFrameGetsNoResultAndIsCounted(t *testing.T) {
	t.Parallel()
	addr, g := serve(t), newGate(t)
	cfg := newConfig(t, addr)
	cfg.Jobs.Queue = 2
	o := operate(t, addr)
	start(t, cfg, g.rig()).ready()
	o.presence(cfg, wire.Online, 0)
	const frames = 20
	for range frames {
		o.publishAs(mqtt.Message{Topic: self(cfg).Frame("front"), Payload: job(t, patient, pngFrame(t, 0))})
	}
	o.telemetry(cfg, func(s wire.Telemetry) bool { return s.Superseded > 0 }, "newer frames took the place of older ones")
	g.open()
	s := o.ranOnce(cfg, frames)
	o.frameResult(cfg, "front", frames)
	o.fence()
	if n := len(o.answers(cfg)); n+int(s.Superseded) != frames || s.Superseded == 0 || s.Refused > 0 {
		t.Errorf("%d answers to %d frames and %+v; want one or the other of each", n, frames, s)
	}
}

func TestOverTheLimitTheNewestFrameOfASourceWaits(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	cfg := newConfig(t, addr)
	cfg.Sources = config.Sources{{Name: "door", Topic: "cam/+/jpg", MaxFPS: 5}}
	o := operate(t, addr)
	d := start(t, cfg, rig{})
	d.ready()
	boot := o.presence(cfg, wire.Online, 0).BootID
	const frames = 10
	picture := job(t, patient, pngFrame(t, 0))
	for range frames {
		o.publishAs(mqtt.Message{Topic: "cam/door/jpg", Payload: picture})
	}
	o.result(cfg, fmt.Sprintf("door-%s-%d", boot[:8], frames), 1)
	s := o.ranOnce(cfg, frames)
	if n := len(o.answers(cfg)); n+int(s.Superseded) != frames || s.Superseded == 0 {
		t.Errorf("%d answers to %d frames and %+v; want the newest answered and others superseded", n, frames, s)
	}
}

func TestN9_AListWithoutFramesIsToldAndJobsGoOn(t *testing.T) {
	t.Parallel()
	list, err := os.ReadFile("../broker-config/mosquitto/acl")
	if err != nil {
		t.Fatal(err)
	}
	older := strings.Replace(string(list), "pattern read limber/v1/+/%u/frame/#\n", "", 1)
	path := filepath.Join(t.TempDir(), "acl")
	if err := os.WriteFile(path, []byte(older), 0o600); err != nil {
		t.Fatal(err)
	}
	addr := serveWith(t, path)
	cfg := newConfig(t, addr)
	cfg.Broker.User = cfg.Device
	o := operate(t, addr)
	start(t, cfg, rig{})
	o.presence(cfg, wire.Online, 0)
	e := decoded[wire.Event](t, o.await(self(cfg).Event(wire.SeverityError), 1))
	named := strings.Contains(e.Detail, self(cfg).Filter(wire.KindFrame)) && !strings.Contains(e.Detail, "/job/")
	if e.Kind != wire.EventFault || !named {
		t.Errorf("got %+v, want a fault that names the frames and nothing else", e)
	}
	o.publish(self(cfg).Job("goes-on"), job(t, patient, pngFrame(t, 0)))
	if r := o.result(cfg, "goes-on", 1); r.Status != wire.OK {
		t.Errorf("got %+v, want an answer", r)
	}
}
