package agent_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/broker-config/brokertest"
)

func TestAnswers(t *testing.T) {
	t.Parallel()
	brokers(t, func(t *testing.T, addr string) {
		o, cfg, _ := online(t, addr, rig{})
		for name, payload := range map[string][]byte{
			"png-in-envelope":  job(t, patient, pngFrame(t, 0)),
			"jpeg-in-envelope": job(t, patient, jpegFrame(t, 0)),
			"unknown-field":    rawJob(`{"deadline_ms":600000,"codec":"png","later":[{}]}`, pngFrame(t, 0)),
			"raw-rgb":          rawJob(`{"deadline_ms":600000,"codec":"rgb","width":32,"height":32}`, make([]byte, 3*32*32)),
			"raw-nv12":         rawJob(`{"deadline_ms":600000,"codec":"nv12","width":64,"height":32}`, make([]byte, 3*32*32)),
		} {
			o.publish(self(cfg).Job(name), payload)
			checkAnswer(t, o.await(self(cfg).Result(name), 1), patient)
		}
		for name, payload := range map[string][]byte{"plain-png": pngFrame(t, 1), "plain-jpeg": jpegFrame(t, 1)} {
			checkAnswer(t, answered(t, o, cfg.Device, name, payload), 100)
		}
	})
}

// answered sends a job under new ids until the device is not too busy for it.
func answered(t *testing.T, o *operator, device, name string, payload []byte) (m mqtt.Message) {
	t.Helper()
	a := wire.Address{Fleet: "demo", Device: device}
	for n, began := 0, time.Now(); time.Since(began) < patience; n++ {
		id := fmt.Sprintf("%s-%d", name, n)
		o.publish(a.Job(id), payload)
		m = o.await(a.Result(id), 1)
		if r := decoded[wire.Result](t, m); r.Status == wire.OK || r.Reason != wire.Busy {
			return m
		}
	}
	t.Fatalf("job %s was always refused, last %s", name, m.Payload)
	return m
}

// checkAnswer holds a result with classes against the contract.
func checkAnswer(t *testing.T, m mqtt.Message, deadline float64) {
	t.Helper()
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(m.Payload, &fields); err != nil {
		t.Fatal(err)
	}
	want := strings.Fields("schema id status device boot_id seq ts family member expected_top1 classes ms deadline_ms" +
		" met choice late")
	slices.Sort(want)
	if got := slices.Sorted(maps.Keys(fields)); !slices.Equal(got, want) {
		t.Errorf("fields: got %v, want %v", got, want)
	}
	r := decoded[wire.Result](t, m)
	if r.Status != wire.OK || !strings.HasSuffix(m.Topic, "/"+r.ID) || r.Device != "desk" || r.Late ||
		r.DeadlineMS != deadline || r.Family != "cifar10" {
		t.Errorf("got %s", m.Payload)
	}
	if r.ExpectedTop1 == nil || *r.ExpectedTop1 < 0.5 || *r.ExpectedTop1 > 1 || r.Choice == "" || r.Seq == 0 {
		t.Errorf("quality: got %s", m.Payload)
	}
	if r.MS.Infer <= 0 || r.MS.Decode <= 0 || r.MS.Predicted <= 0 || r.MS.Total < r.MS.Infer ||
		r.Met != (r.MS.Total <= r.DeadlineMS) {
		t.Errorf("times: got %s", m.Payload)
	}
	if len(r.Classes) != 5 {
		t.Fatalf("got %d classes, want 5", len(r.Classes))
	}
	for i, c := range r.Classes {
		if c.Label == "" || c.P < 0 || c.P > 1 || i > 0 && c.P > r.Classes[i-1].P ||
			math.Abs(math.Round(c.P*1e6)-c.P*1e6) > 1e-6 {
			t.Errorf("class %d: got %+v, want fractions of six decimals, the best first", i, c)
		}
	}
}

func TestAnswersAreRight(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	cfg := newRealConfig(t, addr)
	cfg.Mode = "max-accuracy"
	o := operate(t, addr)
	start(t, cfg, real(cfg))
	o.presence(cfg, wire.Online, 0)
	const frames = 40
	for i, id := range ids("frame", frames) {
		o.publish(self(cfg).Job(id), job(t, patient, pngFrame(t, i)))
	}
	labels, err := sheet()
	if err != nil {
		t.Fatal(err)
	}
	right, expected := 0, 0.0
	for i, id := range ids("frame", frames) {
		r := o.result(cfg, id, 1)
		if r.Status != wire.OK {
			t.Fatalf("got %+v", r)
		}
		expected += *r.ExpectedTop1
		if r.Classes[0].Index == labels.Label(i) {
			right++
		}
	}
	if float64(right) < 0.75*expected {
		t.Errorf("%d of %d are right, expected are %.1f", right, frames, expected)
	}
}

func TestAnswersOtherClients(t *testing.T) {
	t.Parallel()
	pub, sub := brokertest.Program(t, "mosquitto_pub"), brokertest.Program(t, "mosquitto_sub")
	m := brokertest.StartMosquitto(t)
	cfg := newConfig(t, m.Addr)
	start(t, cfg, rig{})
	o := operate(t, m.Addr)
	o.presence(cfg, wire.Online, 0)
	host, port, _ := strings.Cut(m.Addr, ":")

	file := filepath.Join(t.TempDir(), "frame.jpg")
	if err := os.WriteFile(file, job(t, patient, jpegFrame(t, 2)), 0o600); err != nil {
		t.Fatal(err)
	}
	shoot := exec.Command(pub, "-h", host, "-p", port, "-q", "1", "-t", self(cfg).Job("shell"), "-f", file)
	if out, err := shoot.CombinedOutput(); err != nil {
		t.Fatalf("mosquitto_pub: %v\n%s", err, out)
	}
	if r := o.result(cfg, "shell", 1); r.Status != wire.OK {
		t.Errorf("got %+v", r)
	}
	out, err := exec.Command(sub, "-h", host, "-p", port, "-t", self(cfg).State(), "-C", "1", "-W", "10").CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte(`"state":"online"`)) {
		t.Errorf("mosquitto_sub: got %s, %v; want the retained birth", out, err)
	}
}

func TestN10_SameJobTwiceIsAnsweredTheSame(t *testing.T) {
	t.Parallel()
	brokers(t, func(t *testing.T, addr string) {
		o, cfg, d := online(t, addr, rig{})
		payload := job(t, patient, pngFrame(t, 0))
		other := job(t, patient, pngFrame(t, 1))

		o.publish(self(cfg).Job("once"), payload)
		o.await(self(cfg).Result("once"), 1)
		o.publish(self(cfg).Job("once"), payload)
		o.await(self(cfg).Result("once"), 2)
		o.identical(cfg, "once")
		o.telemetry(cfg, func(s wire.Telemetry) bool { return s.Outbox == 0 && s.Jobs == 1 }, "one job was run")

		o.publish(self(cfg).Job("once"), other)
		r := o.result(cfg, "once", 3)
		if r.Status != wire.Refused || r.Reason != wire.Conflict || r.MS == nil || len(r.Classes) > 0 {
			t.Errorf("other bytes: got %+v, want refused: conflict", r)
		}
		o.publish(self(cfg).Job("once"), payload)
		first := o.await(self(cfg).Result("once"), 1)
		if got := o.await(self(cfg).Result("once"), 4); !bytes.Equal(got.Payload, first.Payload) {
			t.Errorf("after the conflict got %s, want %s", got.Payload, first.Payload)
		}

		d.stop()
		told := len(o.matching(self(cfg).State()))
		start(t, cfg, rig{})
		o.presence(cfg, wire.Online, told)
		o.publish(self(cfg).Job("once"), payload)
		if got := o.await(self(cfg).Result("once"), 5); !bytes.Equal(got.Payload, first.Payload) {
			t.Errorf("after the restart got %s, want %s", got.Payload, first.Payload)
		}
		o.publish(self(cfg).Job("once"), other)
		if r := o.result(cfg, "once", 6); r.Reason != wire.Conflict {
			t.Errorf("after the restart, other bytes: got %+v, want conflict", r)
		}
		o.publish(self(cfg).Job("next"), payload)
		before, next := o.result(cfg, "once", 1), o.result(cfg, "next", 1)
		if next.Seq <= before.Seq || next.BootID == before.BootID {
			t.Errorf("seq %d of boot %s follows %d of %s", next.Seq, next.BootID, before.Seq, before.BootID)
		}
	})
}

func TestN10_SameJobInABurstIsRunOnce(t *testing.T) {
	t.Parallel()
	o, cfg, _ := online(t, serve(t), rig{})
	payload := job(t, patient, pngFrame(t, 0))
	for range 50 {
		o.publish(self(cfg).Job("again"), payload)
	}
	o.publish(self(cfg).Job("last"), payload)
	o.result(cfg, "last", 1)
	o.identical(cfg, "again")
	o.telemetry(cfg, func(s wire.Telemetry) bool { return s.Jobs == 2 && s.Refused == 0 }, "two jobs were run")
}

func TestN15_SizeLimit(t *testing.T) {
	t.Parallel()
	brokers(t, func(t *testing.T, addr string) {
		cfg := newConfig(t, addr)
		cfg.Jobs.PayloadMiB = 1
		o := operate(t, addr)
		start(t, cfg, rig{})
		o.presence(cfg, wire.Online, 0)
		const limit = 1 << 20
		for _, tt := range []struct {
			name string
			size int
			want wire.Reason
		}{
			{"limit-1", limit - 1, ""},
			{"limit", limit, ""},
			{"limit+1", limit + 1, wire.Invalid},
			{"twice", 2 * limit, wire.Invalid},
		} {
			envelope := len(job(t, patient, nil))
			payload := job(t, patient, padded(jpegFrame(t, 0), tt.size-envelope))
			if len(payload) != tt.size {
				t.Fatalf("the test made %d bytes, not %d", len(payload), tt.size)
			}
			id := strings.ReplaceAll(tt.name, "+", "-plus-")
			o.publish(self(cfg).Job(id), payload)
			if r := o.result(cfg, id, 1); r.Reason != tt.want {
				t.Errorf("%s: got %s %q, want reason %q", tt.name, r.Reason, r.Detail, tt.want)
			}
		}
	})
}

func TestBadJobsAreRefused(t *testing.T) {
	t.Parallel()
	o, cfg, _ := online(t, serve(t), rig{})
	good := pngFrame(t, 0)
	for i, tt := range []struct {
		name    string
		payload []byte
		want    wire.Reason
		detail  string // part of it
	}{
		{"P1 empty", nil, wire.Invalid, ""},
		{"P1 one byte", []byte{0xff}, wire.Invalid, ""},
		{"P1 text", []byte("hello, camera"), wire.Invalid, ""},
		{"P2 cut JPEG", jpegFrame(t, 0)[:400], wire.Invalid, ""},
		{"P2 cut PNG", good[:len(good)/2], wire.Invalid, ""},
		{"P3 PNG of 65535 x 65535", hugePNG(), wire.Invalid, "65535"},
		{"P8 SVG", []byte("<svg xmlns='http://www.w3.org/2000/svg'/>"), wire.Invalid, ""},
		{"P11 header not JSON", rawJob(`{"codec":`, good), wire.Invalid, "header"},
		{"P11 duplicate key", rawJob(`{"codec":"png","codec":"png"}`, good), wire.Invalid, "duplicate"},
		{"P11 header longer than the payload", []byte("LMB1\xff\xff{}"), wire.Invalid, "header"},
		{"P14 deadline 0", rawJob(`{"deadline_ms":0}`, good), wire.Invalid, "deadline_ms"},
		{"P14 deadline negative", rawJob(`{"deadline_ms":-5}`, good), wire.Invalid, "deadline_ms"},
		{"P14 deadline too large", rawJob(`{"deadline_ms":600001}`, good), wire.Invalid, "600000"},
		{"P14 deadline a string", rawJob(`{"deadline_ms":"5"}`, good), wire.Invalid, "deadline_ms"},
		{"P15 unknown codec", rawJob(`{"codec":"gif"}`, good), wire.Invalid, "jpeg"},
		{"P9 raw frame too short", rawJob(`{"codec":"rgb","width":32,"height":32,"deadline_ms":600000}`, good[:99]),
			wire.Invalid, "width"},
		{"P9 raw frame without a width", rawJob(`{"codec":"bgr","height":32,"deadline_ms":600000}`, good),
			wire.Invalid, "width"},
		{"P9 width of what is not raw", rawJob(`{"width":32,"deadline_ms":600000}`, good), wire.Invalid, "width"},
		{"base64", []byte("/9j/4AAQSkZJRgABAQAAAQABAAD/"), wire.Invalid, "base64"},
		{"P15 min_top1 over 1", rawJob(`{"min_top1":1.5}`, good), wire.Invalid, "min_top1"},
		{"min_top1 that nobody has", rawJob(`{"min_top1":0.99}`, good), wire.Infeasible, "0.99"},
		{"P7 wrong codec", rawJob(`{"codec":"jpeg","deadline_ms":600000}`, good), wire.Invalid, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			id := fmt.Sprintf("bad-%d", i)
			o.publish(self(cfg).Job(id), tt.payload)
			r := o.result(cfg, id, 1)
			if r.Status != wire.Refused || r.Reason != tt.want || !strings.Contains(r.Detail, tt.detail) || r.Detail == "" {
				t.Errorf("got %s %s %q, want refused: %s with %q", r.Status, r.Reason, r.Detail, tt.want, tt.detail)
			}
			if r.MS == nil || r.MS.Total <= 0 || r.MS.Infer != 0 || r.Met {
				t.Errorf("times of a refusal: got %+v, met %v", r.MS, r.Met)
			}
		})
	}
	t.Run("P14 missing deadline is 100 ms", func(t *testing.T) {
		o.publish(self(cfg).Job("no-deadline"), rawJob(`{}`, good))
		if r := o.result(cfg, "no-deadline", 1); r.DeadlineMS != 100 {
			t.Errorf("got %v", r.DeadlineMS)
		}
	})
	counted := func(s wire.Telemetry) bool { return s.Jobs == 23 && s.Refused >= 22 }
	o.telemetry(cfg, counted, "23 jobs came and 22 were refused")
	t.Run("alive", func(t *testing.T) {
		m := answered(t, o, cfg.Device, "alive", rawJob(`{"deadline_ms":600000,"min_top1":0.8}`, good))
		if r := decoded[wire.Result](t, m); r.Status != wire.OK || *r.ExpectedTop1 < 0.8 {
			t.Errorf("got %s, want a member with a top-1 of 0.8", m.Payload)
		}
	})
}

// hugePNG is a header that promises 65535 x 65535 pixels, and nothing more.
func hugePNG() []byte {
	header := []byte("IHDR\x00\x00\xff\xff\x00\x00\xff\xff\x08\x06\x00\x00\x00")
	b := binary.BigEndian.AppendUint32([]byte("\x89PNG\r\n\x1a\n"), uint32(len(header)-4))
	return binary.BigEndian.AppendUint32(append(b, header...), crc32.ChecksumIEEE(header))
}

func TestP13_BadIDsAreCountedAndGetNoResult(t *testing.T) {
	t.Parallel()
	brokers(t, func(t *testing.T, addr string) {
		o, cfg, _ := online(t, addr, rig{})
		frame := pngFrame(t, 0)
		const rounds = 30
		bad := []string{"a/b", "", "/", "a/", "../../etc/passwd", "a b", "ü", strings.Repeat("x", 65), "a%b"}
		for range rounds {
			for _, id := range bad {
				o.publish(self(cfg).Job(id), frame)
			}
		}
		o.publish(self(cfg).Job(strings.Repeat("x", 64)), job(t, patient, frame))
		if r := o.result(cfg, strings.Repeat("x", 64), 1); r.Status != wire.OK {
			t.Errorf("the longest id: got %+v", r)
		}
		events := o.told(t, self(cfg).Event(wire.SeverityWarning), wire.EventBadID, rounds*uint64(len(bad)))
		for i := range events[1:] {
			if pause := events[i+1].TS.Sub(events[i].TS.Time); pause < 990*time.Millisecond {
				t.Errorf("two events within %v", pause)
			}
		}
		if results := o.matching(self(cfg).Result("#")); len(results) != 1 {
			t.Errorf("got %d results, want the one with a good id", len(results))
		}
	})
}

// One is enough: nobody sends a second to see what became of the first.
func TestP13_AJobWhoseIDHasASlashIsToldOf(t *testing.T) {
	t.Parallel()
	brokers(t, func(t *testing.T, addr string) {
		o, cfg, _ := online(t, addr, rig{})
		for i, m := range []mqtt.Message{
			{Topic: self(cfg).Job("front/42"), Payload: pngFrame(t, 0)},
			{Topic: self(cfg).Job("front/43"), Payload: pngFrame(t, 0), QoS: 1, Retained: true},
		} {
			o.publishAs(m)
			events := o.told(t, self(cfg).Event(wire.SeverityWarning), wire.EventBadID, uint64(i+1))
			if e := events[i]; !strings.Contains(e.Detail, m.Topic) {
				t.Errorf("got %+v, want the topic %s named", e, m.Topic)
			}
		}
	})
}

// told waits for events of a kind that count up to n, and returns them.
func (o *operator) told(t *testing.T, topic string, kind wire.EventKind, n uint64) (events []wire.Event) {
	t.Helper()
	var sum uint64
	o.until(func() bool {
		events, sum = nil, 0
		for _, m := range o.matching(topic) {
			if e := decoded[wire.Event](t, m); e.Kind == kind {
				events = append(events, e)
				sum += max(1, e.Count)
			}
		}
		return sum >= n
	}, "events of kind %s that count to %d", kind, n)
	if sum != n {
		t.Errorf("events of kind %s count to %d, want %d: %+v", kind, sum, n, events)
	}
	return events
}
