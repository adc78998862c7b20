package hass_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/fleet/controller"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	brokerconfig "github.com/limber-edge/limber/broker-config"
	"github.com/limber-edge/limber/broker-config/brokertest"
	"github.com/limber-edge/limber/broker-config/certs"
	"github.com/limber-edge/limber/store"
)

const (
	yard     = "yard"
	patience = 60 * time.Second
)

func at(device string) wire.Address { return wire.Address{Fleet: yard, Device: device} }

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// judged is what the rules of Home Assistant's documentation find wrong with lines of
// mosquitto_sub. A program that knows nothing of this one reads them.
func judged(t *testing.T, lines string, options ...string) (findings []string) {
	t.Helper()
	c := exec.CommandContext(t.Context(), brokertest.Program(t, "python3"), append([]string{"testdata/discovery.py"},
		options...)...)
	c.Stdin = strings.NewReader(lines)
	var stderr strings.Builder
	c.Stderr = &stderr
	out, err := c.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && (!ok || exit.ExitCode() != 1) {
		t.Fatalf("discovery.py: %v\n%s", err, stderr.String())
	}
	findings = strings.FieldsFunc(string(out), func(r rune) bool { return r == '\n' })
	if (err == nil) != (len(findings) == 0) {
		t.Errorf("exit code: %v, with %d findings", err, len(findings))
	}
	return findings
}

// exampleLines are those of a file that are no comments, each with the comment above it.
func exampleLines(t *testing.T, name string) (lines, comments []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	comment := ""
	for line := range strings.Lines(string(text)) {
		if above, ok := strings.CutPrefix(line, "# "); ok {
			comment = strings.TrimSpace(above)
			continue
		}
		lines, comments = append(lines, line), append(comments, comment)
	}
	return lines, comments
}

func TestTheRulesPassWhatTheDocumentationAllowsAndFailWhatItDoesNot(t *testing.T) {
	t.Parallel()
	good, _ := exampleLines(t, "good.txt")
	if got := judged(t, strings.Join(good, "")); len(got) > 0 || len(good) < 8 {
		t.Errorf("%d good examples: got %q, want nothing wrong", len(good), got)
	}
	bad, wants := exampleLines(t, "bad.txt")
	got := judged(t, strings.Join(bad, ""), "--each")
	if len(got) != len(bad) {
		t.Fatalf("got %d findings, want one of each of %d lines:\n%s", len(got), len(bad), strings.Join(got, "\n"))
	}
	for i, finding := range got {
		if number := fmt.Sprintf("%d: ", i+1); !strings.HasPrefix(finding, number) || !strings.Contains(finding, wants[i]) {
			t.Errorf("%s got %q, want %q", bad[i], finding, wants[i])
		}
	}
}

// rig is a fleet at the shipped mosquitto, whose users have certificates.
type rig struct {
	*testing.T
	addr, certs string
}

func newRig(t *testing.T) rig {
	t.Helper()
	for _, program := range []string{"mosquitto_sub", "mosquitto_pub", "python3"} {
		brokertest.Program(t, program)
	}
	r := rig{T: t, certs: t.TempDir()}
	_, err := certs.Make(certs.Request{Dir: r.certs, Server: []string{"127.0.0.1"}, Days: 1,
		Names: map[brokerconfig.Role][]string{brokerconfig.Device: {"cam-1", "cam.2"},
			brokerconfig.Operator: {wire.Operator}, brokerconfig.HomeAssistant: {wire.HomeAssistant}}}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	r.addr = brokertest.StartShipped(t, r.certs, "").Addr
	return r
}

func (r rig) link(user string) mqtt.Config {
	cfg := mqtt.Default()
	cfg.Broker, cfg.ClientID = "mqtts://"+r.addr, "test-"+fleet.NewID()
	cfg.CAFile = filepath.Join(r.certs, "ca.crt")
	cfg.CertFile, cfg.KeyFile = filepath.Join(r.certs, user+".crt"), filepath.Join(r.certs, user+".key")
	return cfg
}

// run calls f until the test ends.
func (r rig) run(f func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f(ctx) }()
	stopped := false
	stop = func() {
		if cancel(); !stopped {
			stopped = true
			if err := <-ended; err != nil {
				r.Error(err)
			}
		}
	}
	r.Cleanup(stop)
	return stop
}

// serve runs a controller that tells Home Assistant.
func (r rig) serve(dir string) (stop func()) {
	r.Helper()
	documents, err := store.OpenDocuments(dir, store.Options{NoSync: true}, discard())
	if err != nil {
		r.Fatal(err)
	}
	cfg := controller.Config{Fleet: yard, Broker: r.link(wire.Operator), Dir: dir, Hass: true}
	c, err := controller.New(cfg, documents, discard())
	if err != nil {
		r.Fatal(err)
	}
	return r.run(func(ctx context.Context) error { return errors.Join(c.Run(ctx), documents.Close()) })
}

// device plays one: it is born, and hears commands.
func (r rig) device(name string) *fleet.Mailbox {
	r.Helper()
	box, err := fleet.OpenMailbox(r.link(name), discard(), at(name).Filter(wire.KindCmd))
	if err != nil {
		r.Fatal(err)
	}
	r.run(box.Run)
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	if err := box.Ready(ctx); err != nil {
		r.Fatal(err)
	}
	now := wire.At(time.Now())
	digest := "sha256:" + strings.Repeat("0", 64)
	for topic, v := range map[string]any{
		at(name).State(): wire.State{State: wire.Online, BootID: "8aa3a67914c853eb", ConnSeq: 1, TS: now},
		at(name).Caps(): wire.Caps{TS: now, Versions: wire.Versions{Agent: "1.4.0", Runtime: "1.30.0"},
			Verbs: []string{"mode"}, Modes: []string{"balanced", "max-accuracy", "low-latency", "power-save", "fixed:{member}"},
			Groups:  []string{wire.Everybody},
			Members: []wire.Member{{Name: "6.8M", Top1: 0.8411}, {Name: "23.1M", Top1: 0.8921}}, Machine: "8aa3a67914c853eb",
			Release: &wire.Release{Version: "1.4.0", Digest: digest}},
		at(name).Reported(): wire.Reported{Status: wire.Applied, Mode: "balanced", Member: "23.1M"},
	} {
		b, err := json.Marshal(v)
		if err == nil {
			err = box.Publish(ctx, mqtt.Message{Topic: topic, Payload: b, QoS: 1, Retained: true})
		}
		if err != nil {
			r.Fatal(err)
		}
	}
	return box
}

// mosquitto runs one of mosquitto's own clients as a user.
func (r rig) mosquitto(program, user string, args ...string) string {
	r.Helper()
	host, port, _ := strings.Cut(r.addr, ":")
	args = append([]string{"-h", host, "-p", port, "-q", "1", "--cafile", filepath.Join(r.certs, "ca.crt"),
		"--cert", filepath.Join(r.certs, user+".crt"), "--key", filepath.Join(r.certs, user+".key")}, args...)
	c := exec.CommandContext(r.Context(), brokertest.Program(r, program), args...)
	out, err := c.CombinedOutput()
	if err != nil {
		r.Fatalf("%s %v: %v\n%s", program, args, err, out)
	}
	return string(out)
}

// commanded is the next command that a device gets.
func (r rig) commanded(box *fleet.Mailbox) (is wire.Topic, c wire.Command) {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	m, err := box.Next(ctx)
	if err == nil {
		is, err = wire.ParseTopic(m.Topic)
	}
	if err == nil {
		err = wire.Decode(m.Payload, &c)
	}
	if err != nil {
		r.Fatal(err)
	}
	return is, c
}

// The messages are those that Home Assistant's own user is sent by a real broker.
func TestHomeAssistantFindsTheDevicesByItsDocumentedRules(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	box := r.device("cam-1")
	r.device("cam.2")
	r.serve(t.TempDir())
	found := r.mosquitto("mosquitto_sub", wire.HomeAssistant, "-v", "-t", "homeassistant/#", "-C", "2", "-W", "60")
	if got := judged(t, found); len(got) > 0 {
		t.Errorf("breaks the rules: %q\n%s", got, found)
	}
	for _, want := range []string{"limber-yard-cam-1/config ", "limber-yard-cam_2-"} {
		if !strings.Contains(found, "homeassistant/device/"+want) {
			t.Errorf("got\n%swant %s", found, want)
		}
	}
	for _, kind := range []string{`"p":"select"`, `"p":"update"`, `"latency":{`, `"top1":{`, `"temperature":{`,
		`"member":{`} {
		if strings.Count(found, kind) != 2 {
			t.Errorf("got\n%swant %s of both devices", found, kind)
		}
	}
	read := r.mosquitto("mosquitto_sub", wire.HomeAssistant, "-v", "-t", at("cam-1").State(), "-t", at("cam-1").Caps(),
		"-t", at("cam-1").Reported(), "-C", "3", "-W", "60")
	if n := strings.Count(read, at("cam-1").State()[:len("limber/v1/yard/cam-1")]); n != 3 {
		t.Errorf("it may not read what its entities show: %s", read)
	}
	r.mosquitto("mosquitto_pub", "cam.2", "-t", "limber-ha/yard/cam-1/mode/set", "-m", "power-save") // which may not
	var ids []string
	for _, mode := range []string{"low-latency", "low-latency", "fixed:6.8M"} {
		r.mosquitto("mosquitto_pub", wire.HomeAssistant, "-t", "limber-ha/yard/cam-1/mode/set", "-m", mode)
		is, c := r.commanded(box)
		if c.Mode != mode || c.Check(is.Verb) != nil || c.ExpiresAt == nil || slices.Contains(ids, is.ID) {
			t.Errorf("got %v %+v, want the mode %s by an id of its own", is, c, mode)
		}
		ids = append(ids, is.ID)
	}
}

// mosquitto_sub says (null) of an empty payload.
func TestADeviceThatWasForgottenIsClearedAlsoByTheNextControllerAndTheOthersAreNotToldAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.device("cam-1")
	r.device("cam.2")
	dir := t.TempDir()
	stop := r.serve(dir)
	r.mosquitto("mosquitto_sub", wire.HomeAssistant, "-t", "homeassistant/#", "-C", "2", "-W", "60")
	stop()

	watch, err := fleet.OpenMailbox(r.link(wire.HomeAssistant), discard(), "homeassistant/#")
	if err != nil {
		t.Fatal(err)
	}
	r.run(watch.Run)
	next := func() mqtt.Message {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		m, err := watch.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	next()
	next()
	operator, err := fleet.Open(r.link(wire.Operator), discard(), fleet.ForgetFilters(yard)...)
	if err != nil {
		t.Fatal(err)
	}
	r.run(operator.Run)
	if _, err := operator.Forget(t.Context(), yard, "cam-1", true, patience); err != nil {
		t.Fatal(err)
	}
	r.serve(dir)
	if m := next(); m.Topic != "homeassistant/device/limber-yard-cam-1/config" || len(m.Payload) > 0 {
		t.Errorf("got %s %s, want cam-1 cleared and nothing else told", m.Topic, m.Payload)
	}
	r.mosquitto("mosquitto_pub", wire.HomeAssistant, "-t", "homeassistant/status", "-m", "online")
	if m := next(); m.Topic != "homeassistant/status" {
		t.Errorf("got %s %s, want its own status", m.Topic, m.Payload)
	}
	if m := next(); !strings.HasPrefix(m.Topic, "homeassistant/device/limber-yard-cam_2-") || len(m.Payload) == 0 {
		t.Errorf("got %s %s, want the device that is left, anew", m.Topic, m.Payload)
	}
	if _, err := operator.Forget(t.Context(), yard, "cam.2", true, patience); err != nil {
		t.Fatal(err)
	}
	if m := next(); !strings.HasPrefix(m.Topic, "homeassistant/device/limber-yard-cam_2-") || len(m.Payload) > 0 {
		t.Errorf("got %s %s, want it cleared", m.Topic, m.Payload)
	}
}
