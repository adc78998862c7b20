package sim_test

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/sim"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/broker-config/brokertest"
	"github.com/limber-edge/limber/family"
)

// stranger is a client that nobody here wrote. It hears all, and gives blobs to who asks.
type stranger struct {
	tb  testing.TB
	say func(topic string, qos int, retained bool, payload []byte) error

	mu    sync.Mutex
	heard map[string][]string // payloads by topic
	came  chan struct{}       // holds a token when something came
	gives string              // root of the topics under which it gives blobs
	blobs family.MemoryBlobs
}

func newStranger(tb testing.TB) *stranger {
	return &stranger{tb: tb, heard: map[string][]string{}, came: make(chan struct{}, 1)}
}

// listen takes lines: a topic, and a payload in hexadecimal digits.
func (s *stranger) listen(r io.Reader) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		topic, digits, _ := strings.Cut(lines.Text(), " ")
		payload, err := hex.DecodeString(digits)
		if err != nil {
			s.tb.Errorf("%s: %v", topic, err)
		}
		s.mu.Lock()
		s.heard[topic] = append(s.heard[topic], string(payload))
		root, blobs := s.gives, s.blobs
		s.mu.Unlock()
		select {
		case s.came <- struct{}{}:
		default:
		}
		if digest, asked := strings.CutPrefix(topic, root+"/fetch/"); asked && root != "" {
			s.give(root, family.Digest(digest), payload, blobs)
		}
	}
}

// give answers who wants a part of a blob.
func (s *stranger) give(root string, d family.Digest, asked []byte, blobs family.MemoryBlobs) {
	var f wire.Fetch
	if err := wire.Decode(asked, &f); err != nil {
		s.tb.Errorf("fetch: %v", err)
	}
	b, err := blobs.Blob(d)
	if err != nil {
		return // of which it is not the one who has it
	}
	part := b[min(f.Offset, int64(len(b))):min(f.Offset+int64(f.Bytes), int64(len(b)))]
	if err := s.say(fmt.Sprintf("%s/blob/%s/%d", root, d, f.Offset), 0, false, part); err != nil {
		s.tb.Error(err)
	}
}

// serves has it give the blobs of a family under a root.
func (s *stranger) serves(root string, f *family.Folder) {
	s.tb.Helper()
	blobs := family.MemoryBlobs{f.Digest(): f.Compact()}
	for _, d := range f.Digests() {
		b, err := f.Blob(d)
		if err != nil {
			s.tb.Fatal(err)
		}
		blobs[d] = b
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gives, s.blobs = root, blobs
}

// tells publishes.
func (s *stranger) tells(topic string, qos int, retained bool, payload string, args ...any) {
	s.tb.Helper()
	if err := s.say(topic, qos, retained, fmt.Appendf(nil, payload, args...)); err != nil {
		s.tb.Fatal(err)
	}
}

// hears waits for a payload with a part under a topic, or under those below it.
func (s *stranger) hears(topic, part string) (payload string) {
	s.tb.Helper()
	for end := time.After(patience); ; {
		s.mu.Lock()
		for at, all := range s.heard {
			below := strings.HasSuffix(topic, "/") || strings.HasSuffix(topic, "-")
			if i := slices.IndexFunc(all, func(p string) bool { return strings.Contains(p, part) }); i >= 0 &&
				(at == topic || below && strings.HasPrefix(at, topic)) {
				payload = all[i]
			}
		}
		s.mu.Unlock()
		if payload != "" {
			return payload
		}
		select {
		case <-s.came:
		case <-end:
			s.tb.Fatalf("%s with %q did not come, but %q", topic, part, s.heard[topic])
		}
	}
}

// commands gives a command, and waits for a state of it.
func (s *stranger) commands(root, verb, id, state, payload string, args ...any) {
	s.tb.Helper()
	s.tells(root+"/cmd/"+verb+"/"+id, 1, false, payload, args...)
	s.hears(root+"/ack/"+verb+"/"+id, `"state":"`+state+`"`)
}

// mosquittoClients are mosquitto_pub and mosquitto_sub.
func mosquittoClients(tb testing.TB, addr string) *stranger {
	tb.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		tb.Fatal(err)
	}
	s := newStranger(tb)
	pub := brokertest.Program(tb, "mosquitto_pub")
	sub := exec.Command(brokertest.Program(tb, "mosquitto_sub"), "-h", host, "-p", port, "-q", "1", "-t", "limber/#",
		"-F", "%t %x")
	s.begin(sub)
	s.say = func(topic string, qos int, retained bool, payload []byte) error {
		args := []string{"-h", host, "-p", port, "-q", fmt.Sprint(qos), "-t", topic, "-s"}
		if len(payload) == 0 {
			args[len(args)-1] = "-n"
		}
		if retained {
			args = append(args, "-r")
		}
		c := exec.Command(pub, args...)
		c.Stdin = strings.NewReader(string(payload))
		said, err := c.CombinedOutput()
		if err != nil {
			err = fmt.Errorf("mosquitto_pub %s: %w: %s", topic, err, said)
		}
		return err
	}
	for { // until it is subscribed
		s.tells("limber/probe", 1, false, "there")
		select {
		case <-s.came:
			return s
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// mqttjsFolder has the client's script, and the versions of what it needs, which npm puts
// beside it.
const mqttjsFolder = "testdata/mqttjs"

// mqttjs is MQTT.js over WebSocket. Without npm, or where that reaches no registry, the
// test is skipped.
func mqttjs(tb testing.TB, addr string) *stranger {
	tb.Helper()
	npm := exec.Command(brokertest.Program(tb, "npm"), "ci", "--engine-strict", "--ignore-scripts", "--no-audit",
		"--no-fund")
	npm.Dir = mqttjsFolder
	if said, err := npm.CombinedOutput(); err != nil {
		tb.Skipf("npm does not install MQTT.js: %v\n%s", err, said)
	}
	s := newStranger(tb)
	c := exec.Command(brokertest.Program(tb, "node"), "client.js", "ws://"+addr)
	c.Dir = mqttjsFolder
	in, err := c.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	s.begin(c)
	var saying sync.Mutex
	s.say = func(topic string, qos int, retained bool, payload []byte) error {
		saying.Lock()
		defer saying.Unlock()
		_, err := fmt.Fprintf(in, "%s %d %t %x\n", topic, qos, retained, payload)
		return err
	}
	<-s.came // it is subscribed
	return s
}

// begin starts a program whose lines are listened to until the test ends.
func (s *stranger) begin(c *exec.Cmd) {
	s.tb.Helper()
	c.Stderr = s.tb.Output()
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		s.tb.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.listen(out)
	}()
	s.tb.Cleanup(func() {
		c.Process.Kill()
		<-ended
		c.Wait()
	})
}

// documented are the topics of a table of the README, which follows a text.
func documented(tb testing.TB, after string) (topics []string) {
	tb.Helper()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		tb.Fatal(err)
	}
	_, table, found := strings.Cut(string(readme), after)
	table, _, _ = strings.Cut(table[strings.Index(table, "\n|"):], "\n\n")
	name := regexp.MustCompile("`([^`]+)`")
	for line := range strings.Lines(table) {
		if cells := strings.Split(line, "|"); len(cells) > 2 {
			for _, m := range name.FindAllStringSubmatch(cells[1], -1) {
				topics = append(topics, m[1])
			}
		}
	}
	if !found || len(topics) == 0 {
		tb.Fatalf("README has no table of topics after %q", after)
	}
	return topics
}

// walked fails unless a walk has a step for each topic of a table, and no other.
func walked(tb testing.TB, steps map[string]func(), topics []string) {
	tb.Helper()
	slices.Sort(topics)
	if steps := slices.Sorted(maps.Keys(steps)); !slices.Equal(steps, topics) {
		tb.Fatalf("README has the topics %q; want %q", topics, steps)
	}
}

// walk uses every topic that README documents, in its order.
func walk(t *testing.T, s *stranger, at mqtt.Broker) {
	cfg := config(t, 1, at)
	cfg.Profile = promising(t, 5)
	begin(t, cfg)
	root, dusk := wire.Root+"/demo/"+sim.Name(0), mustFolder(t, cfg.Profile, dusk)
	named := fmt.Sprintf(`"family":{"name":"dusk","digest":"sha256:%s"}`, dusk.Digest())
	s.serves(root, dusk)
	frame, err := wire.JoinJob(wire.Header{Codec: wire.Gray, Width: 8, Height: 8}, make([]byte, 64))
	if err != nil {
		t.Fatal(err)
	}
	var sync wire.Sync
	steps := map[string]func(){
		"state": func() { s.hears(root+"/state", `"state":"online"`) },
		"caps":  func() { s.hears(root+"/caps", `"machine":"`) },
		"desired": func() {
			s.tells(root+"/desired", 1, true, `{"version":7,"mode":"low-latency"}`)
		},
		"reported": func() { s.hears(root+"/reported", `"version":7,`) },
		"job/{id}": func() { s.tells(root+"/job/42", 1, false, "%s", frame) },
		"frame/{source}": func() {
			s.tells(root+"/frame/front", 0, false, "%s", frame)
			s.hears(root+"/result/front-", `"ok"`)
		},
		"result/{id}":     func() { s.hears(root+"/result/42", `"status":"ok"`) },
		"cmd/mode/{id}":   func() { s.commands(root, "mode", "m", "succeeded", `{"mode":"balanced","ttl_ms":60000}`) },
		"cmd/goal/{id}":   func() { s.commands(root, "goal", "g", "succeeded", `{"goal":{"min_top1":0.5},"ttl_ms":60000}`) },
		"cmd/power/{id}":  func() { s.commands(root, "power", "p", "rejected", `{"power_mode":"MODE_15W","ttl_ms":60000}`) },
		"ack/{verb}/{id}": func() { s.hears(root+"/ack/power/p", `"reason":"`) },
		"cmd/family/{id}": func() {
			s.commands(root, "family", "f", "succeeded", `{%s,"probation":{"frames":0,"max_missed":9},"ttl_ms":60000}`, named)
		},
		"cmd/release/{id}": func() { // which nothing can start here
			s.commands(root, "release", "r", "rejected", `{"version":"1.5.0","digest":"sha256:%064d","ttl_ms":60000}`, 1)
		},
		"cmd/cancel/{id}": func() {
			s.tells(root+"/cmd/family/lost", 1, false, `{"family":{"name":"x","digest":"sha256:%064d"},"ttl_ms":60000}`, 1)
			s.hears(root+"/ack/family/lost", `"executing"`)
			s.commands(root, "cancel", "c", "succeeded", `{"cancel":"lost","ttl_ms":60000}`)
			s.hears(root+"/ack/family/lost", `"state":"cancelled"`)
		},
		"fetch/{digest}":         func() { s.hears(root+"/fetch/"+string(dusk.Digest()), `"offset":0`) },
		"blob/{digest}/{offset}": func() { s.hears(root+"/caps", `"name":"dusk"`) }, // which came in blobs
		"telemetry":              func() { s.hears(root+"/telemetry", `"jobs":`) },
		"event/{severity}":       func() { s.hears(root+"/event/", `"kind":"`) },
		"sync": func() {
			if err := json.Unmarshal([]byte(s.hears(root+"/sync", `"conn_seq"`)), &sync); err != nil {
				t.Fatal(err)
			}
		},
		"synced": func() {
			s.tells(root+"/synced", 1, false, `{"schema":1,"ts":%q,"boot_id":%q,"conn_seq":%d}`,
				time.Now().UTC().Format(time.RFC3339Nano), sync.BootID, sync.ConnSeq)
			s.hears(root+"/telemetry", `"clock_offset_ms":`)
		},
		"labels": func() { s.tells(root+"/labels", 1, true, `{"schema":1,"labels":{"site":"berlin"}}`) },
	}
	topics := documented(t, "\n## Topics")
	walked(t, steps, slices.Clone(topics))
	for _, early := range []string{"sync", "synced"} { // which is of use for seconds
		steps[early]()
	}
	for _, topic := range slices.DeleteFunc(topics, func(t string) bool { return strings.HasPrefix(t, "sync") }) {
		steps[topic]()
	}
	walkController(t, s, at, cfg.Profile)
}

// walkController uses the topics of the controller.
func walkController(t *testing.T, s *stranger, at mqtt.Broker, p *sim.Profile) {
	root, day := wire.Root+"/demo/"+wire.Controller, mustFolder(t, p, day)
	s.serves(root, day)
	mustServe(t, at)
	const start = `{"schema":1,"action":"start","rollout":%q,"spec":{%s,"where":"label.site=berlin","soak_ms":0,` +
		`"gates":[{"name":"success","limit":"1"}]},"ttl_ms":60000}`
	steps := map[string]func(){
		"state":            func() { s.hears(root+"/state", `"state":"online"`) },
		"cmd/rollout/{id}": func() { s.tells(root+"/cmd/rollout/r", 1, false, start, "night", `"mode":"power-save"`) },
		"ack/rollout/{id}": func() { s.hears(root+"/ack/rollout/r", `"state":"succeeded"`) },
		"rollout/{id}":     func() { s.hears(root+"/rollout/night", `"state":"done"`) },
		"fetch/{digest}": func() {
			s.commands(root, "rollout", "f", "succeeded", start, "back", fmt.Sprintf(`"family":{"name":"day",`+
				`"digest":"sha256:%s"},"probation":{"frames":0,"max_missed":9}`, day.Digest()))
			s.hears(root+"/fetch/"+string(day.Digest()), `"offset":0`)
		},
		"blob/{digest}/{offset}": func() { s.hears(root+"/rollout/back", `"state":"done"`) },
	}
	topics := documented(t, "The command line only speaks these topics")
	walked(t, steps, slices.Clone(topics))
	for _, topic := range topics {
		steps[topic]()
	}
}

func mustFolder(tb testing.TB, p *sim.Profile, i int) *family.Folder {
	tb.Helper()
	f, err := p.Folder(i)
	if err != nil {
		tb.Fatal(err)
	}
	return f
}

// mustMosquitto has a second listener, for WebSockets.
func mustMosquitto(tb testing.TB) (at mqtt.Broker, addr, web string) {
	tb.Helper()
	web = brokertest.Reserve(tb)
	_, port, _ := net.SplitHostPort(web)
	m := brokertest.StartMosquitto(tb, "allow_anonymous true", "listener "+port+" 127.0.0.1", "protocol websockets")
	return mqtt.Broker{URL: mqtt.URLs{"mqtt://" + m.Addr}}, m.Addr, web
}

func TestEveryDocumentedTopicWorksWithTheClientsOfMosquitto(t *testing.T) {
	t.Parallel()
	at, addr, _ := mustMosquitto(t)
	walk(t, mosquittoClients(t, addr), at)
}

func TestEveryDocumentedTopicWorksWithMQTTjsOverWebSocket(t *testing.T) {
	t.Parallel()
	at, _, web := mustMosquitto(t)
	walk(t, mqttjs(t, web), at)
}
