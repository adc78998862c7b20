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

	"github.com/limber-edge/limber/agent"
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
func (o *operator) frameResult(cfg agent.Config, source string, n int) wire.Result {
	o.tb.Helper()
	boot := o.presence(cfg, wire.Online, 0).BootID
	return o.result(cfg, fmt.Sprintf("%s-%s-%d", source, boot[:8], n), 1)
}

func TestTheSamePictureTwiceIsTwoFrames(t *testing.T) {
	brokers(t, func(t *testing.T, addr string) {
		o, cfg, _ := online(t, addr)
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
		if r := o.frameResult(cfg, "front", 4); r.Source != "front" || r.DeadlineMS != 100 || r.Status != wire.OK && r.Reason != wire.Busy {
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
	o, cfg, _ := online(t, serve(t))
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
	o, cfg, _ := online(t, brokertest.StartMosquitto(t).Addr)
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
	brokers(t, func(t *testing.T, addr string) {
		cfg := newConfig(t, addr)
		cfg.Sources = agent.Sources{
			{Name: "yard", Topic: "cam/+/jpg", Deadline: agent.Duration{Duration: agent.Default().Broker.KeepAlive.Duration}},
			{Name: "door", Topic: "frigate/+/snapshot", ResultTopic: "seen/door", MinTop1: new(0.999)},
		}
		o := operate(t, addr)
		start(t, cfg)
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
	brokers(t, func(t *testing.T, addr string) {
		cfg := newConfig(t, addr)
		cfg.Sources = agent.Sources{{Name: "yard", Topic: "cam/#"}, {Name: "door", Topic: "frigate/+/snapshot"}}
		o := operate(t, addr)
		first := start(t, cfg)
		o.presence(cfg, wire.Online, 0)
		first.stop()
		cfg.Sources = agent.Sources{{Name: "yard", Topic: "cam/+/jpg"}}
		told := len(o.matching(self(cfg).State()))
		d := start(t, cfg)
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
		if d.logged("frigate/door/snapshot") {
			t.Error("the broker still brings what no source takes")
		}
	})
}

func TestRetainedFramesAreCountedAndLeftAlone(t *testing.T) {
	brokers(t, func(t *testing.T, addr string) {
		cfg := newConfig(t, addr)
		cfg.Sources = agent.Sources{{Name: "yard", Topic: "cam/+/jpg"}}
		mustShoot(t, addr, self(cfg).Frame("front"), jpegFrame(t, 0), "-r", "-q", "1")
		mustShoot(t, addr, "cam/front/jpg", jpegFrame(t, 0), "-r")
		o := operate(t, addr)
		start(t, cfg)
		o.telemetry(cfg, func(s wire.Telemetry) bool { return s.Retained == 2 && s.Jobs == 0 }, "two old pictures were left alone")
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
func (o *operator) shootBurst(cfg agent.Config, source string, n int) {
	o.tb.Helper()
	var outcomes []<-chan error
	for i := range n {
		picture := rawJob(fmt.Sprintf(`{"deadline_ms":600000,"trace":"%d"}`, i), pngFrame(o.tb, 0))
		outcomes = append(outcomes, o.link.Send(o.tb.Context(), mqtt.Message{Topic: self(cfg).Frame(source), Payload: picture, QoS: 1}))
	}
	for _, outcome := range outcomes {
		if err := <-outcome; err != nil {
			o.tb.Fatalf("publish frames: %v", err)
		}
	}
}

func TestN10_ABrokenLinkAnswersEachFrameOnce(t *testing.T) {
	brokers(t, func(t *testing.T, addr string) {
		c, through := lay(t, addr)
		cfg := slow(t, through)
		o := operate(t, addr)
		d := start(t, cfg)
		boot := o.presence(cfg, wire.Online, 0).BootID
		const frames = 100
		o.shootBurst(cfg, "front", frames)
		o.await(self(cfg).Result("#"), 5)
		c.cut()
		d.awaitLog("broker lost", 1)
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
		o.telemetry(cfg, func(s wire.Telemetry) bool { return s.Outbox == 0 && s.Jobs == frames }, "no frame was run twice")
	})
}

func TestN10_ARestartAnswersEachFrameOnce(t *testing.T) {
	brokers(t, func(t *testing.T, addr string) {
		c, through := lay(t, addr)
		cfg := slow(t, through)
		o := operate(t, addr)
		d := start(t, cfg)
		o.presence(cfg, wire.Online, 0)
		const frames = 100
		o.shootBurst(cfg, "front", frames)
		o.await(self(cfg).Result("#"), 5)
		c.cut() // what was answered since is acknowledged to nobody
		d.awaitLog("broker lost", 1)
		d.stop()
		c.mend()
		start(t, cfg)
		o.shootBurst(cfg, "last", 1)
		o.until(func() bool { return len(o.answers(cfg)) >= frames+1 }, "every frame has an answer")
		o.telemetry(cfg, func(s wire.Telemetry) bool { return s.Outbox == 0 && s.Queue == 0 }, "nothing waits")
		o.fence()
		if n := len(o.answers(cfg)); n != frames+1 {
			t.Errorf("%d frames have %d ids, want one for each", frames+1, n)
		}
	})
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
	start(t, cfg)
	o.presence(cfg, wire.Online, 0)
	e := decoded[wire.Event](t, o.await(self(cfg).Event(wire.SeverityError), 1))
	if e.Kind != wire.EventFault || !strings.Contains(e.Detail, self(cfg).Filter(wire.KindFrame)) || strings.Contains(e.Detail, "/job/") {
		t.Errorf("got %+v, want a fault that names the frames and nothing else", e)
	}
	o.publish(self(cfg).Job("goes-on"), job(t, patient, pngFrame(t, 0)))
	if r := o.result(cfg, "goes-on", 1); r.Status != wire.OK {
		t.Errorf("got %+v, want an answer", r)
	}
}
