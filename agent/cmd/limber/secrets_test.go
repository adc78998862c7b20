package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

// said is what a device tells of itself, by whom it tells it.
type said map[string]string

// mustFindNone checks that none of the secrets is told, as it is or in base64.
func (s said) mustFindNone(t *testing.T, secrets ...string) {
	t.Helper()
	for where, text := range s {
		for _, secret := range secrets {
			for _, form := range []string{secret, base64.StdEncoding.EncodeToString([]byte(secret))} {
				if strings.Contains(text, form) {
					t.Errorf("%s tells the secret %q:\n%s", where, secret, text)
				}
			}
		}
	}
}

// talkative is a configuration that has a device say all it can.
const talkative = "log_level = \"debug\"\n[telemetry]\nevery = \"100ms\"\n[broker]\n"

// listenTo runs an agent without a runtime, and returns its log, what --check prints, and
// all that it publishes until its telemetry has come; steer is an operator's connection.
func listenTo(t *testing.T, broker string, steer mqtt.Config) said {
	t.Helper()
	t.Setenv("ONNXRUNTIME_LIB", filepath.Join(t.TempDir(), "none.so"))
	config, state := filepath.Join(t.TempDir(), "limber.toml"), t.TempDir()
	mustWrite(t, config, []byte(talkative+broker))
	args := []string{"agent", "--config", config, "--state", state}
	check := limber(t, append(args, "--check")...)
	heard := said{"--check": check.stdout + check.stderr}
	desk := wire.Address{Fleet: "demo", Device: "desk"}
	box, err := fleet.OpenMailbox(steer, slog.New(slog.DiscardHandler), "limber/#")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	var log bytes.Buffer
	ended := make(chan int, 1)
	err = box.While(ctx, func(ctx context.Context) error {
		go func() { ended <- run(ctx, args, &log, &log) }()
		return heard.collect(ctx, box, desk)
	})
	stop()
	code := <-ended
	heard["the log"] = log.String()
	if err != nil || code != exitDone || !strings.Contains(log.String(), "broker connected") {
		t.Fatalf("%v, exit %d, %s", err, code, &log)
	}
	return heard
}

// collect keeps what a device publishes until each kind has come that one without a
// runtime has; a job and a command make it answer.
func (s said) collect(ctx context.Context, box *fleet.Mailbox, desk wire.Address) error {
	open := map[wire.Kind]bool{wire.KindState: true, wire.KindCaps: true, wire.KindReported: true, wire.KindTelemetry: true,
		wire.KindSync: true, wire.KindResult: true, wire.KindAck: true}
	for len(open) > 0 {
		m, err := box.Next(ctx)
		if err != nil {
			return err
		}
		topic, err := wire.ParseTopic(m.Topic)
		if err != nil {
			return err
		}
		s[m.Topic] += string(m.Payload) + "\n"
		if topic.Kind == wire.KindState && open[wire.KindState] {
			err = ask(ctx, box, desk)
		}
		delete(open, topic.Kind)
		if err != nil {
			return err
		}
	}
	return nil
}

// ask sends a job and a command.
func ask(ctx context.Context, box *fleet.Mailbox, desk wire.Address) error {
	command, err := json.Marshal(wire.Command{Mode: "blanced", TTLMS: new(1000.0)})
	if err == nil {
		err = box.Publish(ctx, mqtt.Message{Topic: desk.Cmd("mode", "1"), Payload: command, QoS: 1})
	}
	if err == nil {
		err = box.Publish(ctx, mqtt.Message{Topic: desk.Job("1"), Payload: []byte("no picture"), QoS: 1})
	}
	return err
}

// The device and the operator's program know a password or a key; nobody hears of it,
// however much they say.
func TestC11_NoSecretIsTold(t *testing.T) {
	const password = "pass-word-of-desk"
	users := filepath.Join(t.TempDir(), "users")
	mustWrite(t, users, []byte("desk:"+password+"\noperator:steer-word\n"))
	addr := mustBroker(t, "--users", users)
	steer := mqtt.Default()
	steer.Broker, steer.ClientID, steer.User, steer.Password = "mqtt://"+addr, "watch", "operator", "steer-word"
	file := filepath.Join(t.TempDir(), "password")
	mustWrite(t, file, []byte(password+"\n"))
	for name, broker := range map[string]string{
		"in the address": `url = "mqtt://desk:` + password + `@` + addr + `"`,
		"in a file":      `url = "mqtt://` + addr + `"` + "\nuser = \"desk\"\npassword_file = \"" + file + `"`,
		"in the second address": `url = "mqtt://desk:` + password + `@` + addr + `,ws://desk:` + password +
			`@127.0.0.1:1/mqtt"`,
	} {
		t.Run("password "+name, func(t *testing.T) { listenTo(t, broker, steer).mustFindNone(t, password, "steer-word") })
	}
	t.Run("key", func(t *testing.T) {
		dir := mustCerts(t, "--device", "desk", "--operator", "operator")
		watch := mqtt.Default()
		watch.Broker, watch.ClientID = "mqtts://"+mustBroker(t, "--certs", dir), "watch"
		watch.CAFile = filepath.Join(dir, "ca.crt")
		watch.CertFile, watch.KeyFile = filepath.Join(dir, "operator.crt"), filepath.Join(dir, "operator.key")
		key, err := os.ReadFile(filepath.Join(dir, "desk.key"))
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(string(key)), "\n")
		listenTo(t, "url = \""+watch.Broker+"\"\nca_file = \""+watch.CAFile+"\"\ncert_file = \""+filepath.Join(dir, "desk.crt")+
			"\"\nkey_file = \""+filepath.Join(dir, "desk.key")+"\"", watch).mustFindNone(t, lines...)
	})
}

func TestC11_NoSecretIsInAComplaint(t *testing.T) {
	t.Parallel()
	const password = "pass-word-of-desk"
	users := filepath.Join(t.TempDir(), "users")
	mustWrite(t, users, []byte("desk:"+password+"\noperator:steer-word\n"))
	addr, got := mustBroker(t, "--users", users), said{}
	for _, url := range []string{"mqtt://operator:" + password + "@" + addr,
		"mqtt://operator:" + password + "@127.0.0.1:x", "mqtt://operator:" + password + "/%zz@127.0.0.1", "amqp://u:" + password + "@h"} {
		for _, call := range [][]string{{"fleet", "ls"}, {"agent", "--check", "--state", t.TempDir()}} {
			r := limber(t, append(call, "--broker", url)...)
			got[strings.Join(call, " ")+" "+url[len(url)-9:]] = r.stdout + r.stderr
		}
	}
	got.mustFindNone(t, password)
}
