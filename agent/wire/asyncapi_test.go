package wire_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/broker-config/brokertest"
)

// carried is what one kind of topic carries, for the AsyncAPI document.
type carried struct {
	name   string // of the channel
	topic  string // with parameters in braces
	sender string // device, operator or controller
	qos    int    // the greater, where two are taken
	retain bool
	schema string // of the payload; empty: bytes, which text tells of
	text   string
}

// channels are all topics, as package wire builds them.
func channels() []carried {
	d := wire.Address{Fleet: "{fleet}", Device: "{device}"}
	c := wire.Address{Fleet: "{fleet}", Device: wire.Controller}
	blob := func(a wire.Address) string { return strings.TrimSuffix(a.Blob("{digest}", 0), "0") + "{offset}" }
	const picture = "one frame: JPEG, PNG or WebP, or the envelope LMB1, header length (uint16, big endian), a JSON " +
		"header of the schema header, frame"
	return []carried{
		{"state", d.State(), "device", 1, true, "state", "birth, clean stop and last will"},
		{"caps", d.Caps(), "device", 1, true, "caps", "what the device can do"},
		{"desired", d.Desired(), "operator", 1, true, "desired", "what it is to pursue; {device} may be a @group"},
		{"reported", d.Reported(), "device", 1, true, "reported", "what became of that, and what is in force"},
		{"job", d.Job("{id}"), "operator", 1, false, "", picture + "; QoS 0 is taken as well"},
		{"frame", d.Frame("{source}"), "operator", 1, false, "", picture + "; QoS 0 is taken as well"},
		{"result", d.Result("{id}"), "device", 1, false, "result", "the one answer to a job"},
		{"cmd", d.Cmd("{verb}", "{id}"), "operator", 1, false, "command", "an action asked for; {device} may be a @group"},
		{"ack", d.Ack("{verb}", "{id}"), "device", 1, false, "ack", "every state that a command passes"},
		{"telemetry", d.Telemetry(), "device", 0, false, "telemetry", "the condition of the device"},
		{"event", d.Event("{severity}"), "device", 1, false, "event", "something that happened"},
		{"sync", d.Sync(), "device", 1, false, "sync", "where the device stands when it connects"},
		{"synced", d.Synced(), "operator", 1, false, "synced", "the answer, with the time"},
		{"fetch", d.Fetch("{digest}"), "device", 0, false, "fetch", "a part of a blob is wanted"},
		{"blob", blob(d), "operator", 0, false, "", "the bytes; none where there is no such blob"},
		{"labels", d.Labels(), "operator", 1, true, "labels", "what operators say of the device, for one another"},
		{"controllerState", c.State(), "controller", 1, true, "state", "as of a device"},
		{"controllerCmd", c.Cmd("rollout", "{id}"), "operator", 1, false, "rollout_command", "what to do with a rollout"},
		{"controllerAck", c.Ack("rollout", "{id}"), "controller", 1, false, "ack", "every state that this passes"},
		{"controllerRollout", c.Rollout("{id}"), "controller", 1, true, "rollout", "where a rollout stands; the devices of " +
			"a large one are in {id}.1 and so on"},
		{"controllerFetch", c.Fetch("{digest}"), "controller", 0, false, "fetch", "a part of a blob is wanted"},
		{"controllerBlob", blob(c), "operator", 0, false, "", "the bytes; none where there is no such blob"},
	}
}

// receiver is who a message is for.
func (c carried) receiver() string {
	switch {
	case c.sender != "operator":
		return "operator"
	case strings.HasPrefix(c.name, "controller"):
		return "controller"
	case c.name == "labels":
		return "operator"
	}
	return "device"
}

// message is the name of the message that the channel carries.
func (c carried) message() string {
	switch {
	case c.schema != "":
		return c.schema
	case strings.HasSuffix(c.topic, "{offset}"):
		return "blob"
	}
	return "frame"
}

// object is a JSON object, whose names are written in order.
type object map[string]any

func ref(to ...string) object { return object{"$ref": "#/" + strings.Join(to, "/")} }

// asyncAPI is the document: what the topics and schemas of package wire give.
func asyncAPI(t *testing.T) []byte {
	t.Helper()
	all, operations, messages, schemas := object{}, object{}, object{}, object{}
	for _, c := range channels() {
		parameters := object{}
		for _, m := range regexp.MustCompile(`\{(\w+)\}`).FindAllStringSubmatch(c.topic, -1) {
			parameters[m[1]] = ref("components", "parameters", m[1])
		}
		all[c.name] = object{"address": c.topic, "description": c.text, "parameters": parameters,
			"messages": object{c.message(): ref("components", "messages", c.message())}}
		for action, who := range map[string]string{"send": c.sender, "receive": c.receiver()} {
			operations[who+strings.ToUpper(action[:1])+action[1:]+strings.ToUpper(c.name[:1])+c.name[1:]] = object{
				"action": action, "channel": ref("channels", c.name), "tags": []object{{"name": who}},
				"bindings": object{"mqtt": object{"qos": c.qos, "retain": c.retain, "bindingVersion": "0.2.0"}}}
		}
		messages[c.message()] = messageOf(t, c)
	}
	files, err := filepath.Glob("schema/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d schemas, %v", len(files), err)
	}
	for _, file := range files {
		schemas[strings.TrimSuffix(filepath.Base(file), ".json")] = inlined(t, file)
	}
	return written(t, object{"asyncapi": "3.0.0", "defaultContentType": "application/json",
		"info": object{"title": "Limber", "version": "1.0.0", "license": object{"name": "Apache-2.0"},
			"description": "What travels between the devices of a fleet, its controller and its operators, over MQTT 3.1.1. " +
				"An operation is named after who does it, and tagged so."},
		"servers": object{"desk": object{"host": "127.0.0.1:1883", "protocol": "mqtt", "protocolVersion": "3.1.1",
			"description": "as `limber broker` starts one"}},
		"channels": all, "operations": operations,
		"components": object{"messages": messages, "schemas": schemas, "parameters": parameters()}})
}

// inlined is a schema without what names it: it is a part of another document, whose
// dialect has all that it uses.
func inlined(t *testing.T, file string) json.RawMessage {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile(`"\$(schema|id)": "[^"]*",\s*`).ReplaceAll(b, nil)
}

// messageOf is what a channel carries, with the golden files as examples.
func messageOf(t *testing.T, c carried) object {
	t.Helper()
	if c.schema == "" {
		return object{"name": c.message(), "contentType": "application/octet-stream",
			"payload": object{"type": "string", "format": "binary"}}
	}
	m := object{"name": c.schema, "payload": ref("components", "schemas", c.schema)}
	files, err := filepath.Glob("testdata/" + c.schema + "*.json")
	if err != nil {
		t.Fatal(err)
	}
	var examples []object
	for _, file := range files {
		if schemaOf(file) != c.schema {
			continue
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		examples = append(examples, object{"name": strings.TrimSuffix(filepath.Base(file), ".json"),
			"payload": json.RawMessage(b)})
	}
	if examples == nil {
		t.Errorf("no golden file of %s", c.schema)
	}
	m["examples"] = examples
	return m
}

func parameters() object {
	const name = "[A-Za-z0-9_.-]{1,64}"
	severities := []wire.Severity{wire.SeverityInfo, wire.SeverityWarning, wire.SeverityError}
	return object{
		"fleet":    object{"description": name, "default": wire.DefaultFleet},
		"device":   object{"description": name, "examples": []string{wire.DefaultDevice}},
		"id":       object{"description": name + ", new for each job or command"},
		"source":   object{"description": fmt.Sprintf("[A-Za-z0-9_.-]{1,%d}", wire.MaxSource)},
		"verb":     object{"description": "one of those in caps", "examples": []string{wire.VerbMode, wire.VerbFamily}},
		"severity": object{"enum": severities},
		"digest":   object{"description": "64 hexadecimal digits: the SHA-256 of the blob"},
		"offset":   object{"description": "in bytes"},
	}
}

func written(t *testing.T, document object) []byte {
	t.Helper()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(document); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// envWrite has the document written where it is not what it should be.
const envWrite = "LIMBER_WRITE_ASYNCAPI"

func TestTheAsyncAPIDocumentIsWhatTopicsAndSchemasGive(t *testing.T) {
	want := asyncAPI(t)
	got, err := os.ReadFile("asyncapi.json")
	if err == nil && bytes.Equal(got, want) {
		return
	}
	if os.Getenv(envWrite) == "" {
		t.Fatalf("asyncapi.json is not what the topics and schemas give (%v); %s=1 go test ./agent/wire -run AsyncAPI "+
			"writes it", err, envWrite)
	}
	if err := os.WriteFile("asyncapi.json", want, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestEveryKindOfTopicHasAChannel(t *testing.T) {
	fill := strings.NewReplacer("{fleet}", "demo", "{device}", "desk", "{id}", "1", "{verb}", "mode", "{severity}", "info",
		"{digest}", strings.Repeat("0a", 32), "{offset}", "0", "{source}", "front")
	var got []wire.Kind
	for _, c := range channels() {
		topic, err := wire.ParseTopic(fill.Replace(c.topic))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		got = append(got, topic.Kind)
	}
	for _, kind := range wire.Kinds() {
		if !slices.Contains(got, kind) {
			t.Errorf("no channel of %s", kind)
		}
	}
}

// TestChannelsHaveTheWayAndTheQoSOfTheReadme reads its tables of topics.
func TestChannelsHaveTheWayAndTheQoSOfTheReadme(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ head, under, sender, receiver string }{
		{"| topic under the root | way |", "limber/v1/{fleet}/{device}/", "up", "down"},
		{"| topic | way | QoS, retained |", "limber/v1/{fleet}/@controller/", "from it", "to it"},
	} {
		_, table, _ := strings.Cut(string(readme), tt.head)
		table, _, _ = strings.Cut(table, "\n\n")
		rows := 0
		for _, c := range channels() {
			tail, ok := strings.CutPrefix(c.topic, tt.under)
			if !ok || tail == "cmd/{verb}/{id}" || strings.Contains(table, "`fetch/{digest}`, `blob/") && c.qos == 0 {
				continue // a row for each verb; a row of two
			}
			rows++
			way, qos := tt.receiver, fmt.Sprint(c.qos)
			switch {
			case c.sender != "operator":
				way = tt.sender
			case c.name == "labels":
				way = "operator"
			case c.message() == "frame":
				qos = "0 or 1"
			}
			if c.retain {
				qos += " R"
			}
			if want := fmt.Sprintf("| `%s` | %s | %s |", tail, way, qos); !strings.Contains(table, want) {
				t.Errorf("README has no row %s", want)
			}
		}
		if rows < 4 {
			t.Errorf("%d topics under %s, want more", rows, tt.under)
		}
	}
}

// parsed is what the parser of AsyncAPI says of a document.
func parsed(t *testing.T, document []byte) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), brokertest.Program(t, "node"), "check.js")
	c.Dir, c.Stdin = "testdata/asyncapi", bytes.NewReader(document)
	said, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	return string(said)
}

// TestTheParserOfAsyncAPITakesTheDocument has npm bring the parser, which takes its seconds
// the first time. Without npm, or where that reaches no registry, it is skipped.
func TestTheParserOfAsyncAPITakesTheDocument(t *testing.T) {
	t.Parallel()
	npm := exec.Command(brokertest.Program(t, "npm"), "ci", "--engine-strict", "--ignore-scripts", "--no-audit",
		"--no-fund", "--prefer-offline")
	npm.Dir = "testdata/asyncapi"
	if said, err := npm.CombinedOutput(); err != nil {
		t.Skipf("npm does not install the parser of AsyncAPI: %v\n%s", err, said)
	}
	document, err := os.ReadFile("asyncapi.json")
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("read: %d channels, ", len(channels()))
	if got := parsed(t, document); !strings.HasPrefix(got, want) {
		t.Errorf("the parser says %s; want nothing wrong and %s", got, want)
	}
	for _, tt := range []struct {
		broken *strings.Replacer
		want   []string
	}{
		{strings.NewReplacer(`"state": "online"`, `"state": "asleep"`, `"agent": "1.2.3"`, `"agent": 1.2`),
			[]string{"examples of state: state-online", "examples of caps: caps-full"}},
		{strings.NewReplacer(`"action": "send"`, `"action": "shout"`, "schemas/caps", "schemas/hats"),
			[]string{"action", "hats"}},
	} {
		got := parsed(t, []byte(tt.broken.Replace(string(document))))
		for _, want := range tt.want {
			if !strings.Contains(got, want) {
				t.Errorf("the parser says %s of a broken document; want it to name %s", got, want)
			}
		}
	}
}
