package devbroker_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	brokerconfig "github.com/limber-edge/limber/broker-config"
	"github.com/limber-edge/limber/broker-config/brokertest"
	"github.com/limber-edge/limber/broker-config/devbroker"
)

// patience bounds a foreign client that should end or speak by itself.
const patience = 20 * time.Second

// mustServe runs a broker for the length of the test and returns its address.
func mustServe(tb testing.TB, cfg devbroker.Config) string {
	tb.Helper()
	return mustRunBroker(tb, cfg).Addr()
}

// client makes the command of a foreign client; login is user or user:password.
func client(tb testing.TB, program, addr, login string, args ...string) *exec.Cmd {
	tb.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		tb.Fatal(err)
	}
	all := []string{"-h", host, "-p", port, "-q", "1"}
	if user, password, ok := strings.Cut(login, ":"); ok {
		all = append(all, "-u", user, "-P", password)
	} else if user != "" {
		all = append(all, "-u", user)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	tb.Cleanup(cancel)
	all = append([]string{"-oL", brokertest.Program(tb, program)}, all...) // its lines, not its blocks
	return exec.CommandContext(ctx, brokertest.Program(tb, "stdbuf"), append(all, args...)...)
}

func mustPublish(tb testing.TB, addr, login string, args ...string) {
	tb.Helper()
	if out, err := client(tb, "mosquitto_pub", addr, login, args...).CombinedOutput(); err != nil {
		tb.Fatalf("mosquitto_pub %v: %v: %s", args, err, out)
	}
}

// subscriber is a running mosquitto_sub.
type subscriber struct {
	tb    testing.TB
	lines *bufio.Scanner
}

// mustSubscribe returns when the broker has answered the subscription.
func mustSubscribe(tb testing.TB, addr, login string, args ...string) subscriber {
	tb.Helper()
	cmd := client(tb, "mosquitto_sub", addr, login, append(args, "-d", "-F", "message %t %p")...)
	pipe, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		io.Copy(io.Discard, pipe)
		cmd.Wait()
	})
	s := subscriber{tb, bufio.NewScanner(pipe)}
	s.until("Subscribed ")
	return s
}

// until returns the rest of the first line that starts with prefix.
func (s subscriber) until(prefix string) string {
	s.tb.Helper()
	for s.lines.Scan() {
		if rest, ok := strings.CutPrefix(s.lines.Text(), prefix); ok {
			return rest
		}
	}
	s.tb.Fatalf("mosquitto_sub ended before a line with %q", prefix)
	return ""
}

// brokers calls f with each broker that obeys the access list of the field.
func brokers(t *testing.T, f func(t *testing.T, addr string)) {
	acl, err := filepath.Abs("../mosquitto/acl")
	if err != nil {
		t.Fatal(err)
	}
	t.Run("mosquitto", func(t *testing.T) {
		f(t, brokertest.StartMosquitto(t, "allow_anonymous true", "acl_file "+acl).Addr)
	})
	t.Run("devbroker", func(t *testing.T) { f(t, mustServe(t, devbroker.Config{})) })
}

// A publish that is denied is followed by one that is not: what arrives first
// tells, and nobody has to wait for nothing.
func TestC15_DeviceCannotPublishForAnother(t *testing.T) {
	brokers(t, func(t *testing.T, addr string) {
		watch := mustSubscribe(t, addr, "operator", "-t", "limber/#")
		for _, tt := range []struct {
			name, topic string
			allowed     bool
		}{
			{"own state", "limber/v1/demo/cam-1/state", true},
			{"own result", "limber/v1/demo/cam-1/result/7", true},
			{"own event", "limber/v1/demo/cam-1/event/warn", true},
			{"own job", "limber/v1/demo/cam-1/job/7", false},
			{"another's state", "limber/v1/demo/cam-2/state", false},
			{"a longer name's state", "limber/v1/demo/cam-10/state", false},
			{"everybody's command", "limber/v1/demo/@all/cmd/mode/7", false},
		} {
			mustPublish(t, addr, "cam-1", "-t", tt.topic, "-m", "it")
			mustPublish(t, addr, "operator", "-t", "limber/after", "-m", "it")
			got := watch.until("message ")
			if (got == tt.topic+" it") != tt.allowed {
				t.Errorf("%s: first came %q, allowed should be %v", tt.name, got, tt.allowed)
			}
			if got != "limber/after it" {
				watch.until("message limber/after")
			}
		}
	})
}

func TestC15_DeviceCannotReadAnother(t *testing.T) {
	brokers(t, func(t *testing.T, addr string) {
		own, group := "limber/v1/demo/cam-1/job/own", "limber/v1/demo/@all/cmd/mode/7"
		watch := mustSubscribe(t, addr, "cam-1", "-t", "limber/v1/+/+/job/#", "-t", "limber/v1/demo/cam-1/job/#", "-t",
			"limber/v1/demo/@all/cmd/#")
		for _, topic := range []string{"limber/v1/demo/cam-2/job/secret", own, "limber/v1/demo/cam-2/result/secret", group} {
			mustPublish(t, addr, "operator", "-t", topic, "-m", "it")
		}
		for _, want := range []string{own, group} {
			if got := watch.until("message "); got != want+" it" {
				t.Errorf("got %q, want %s", got, want)
			}
		}
	})
}

// withCamera is the shipped list with the example of a camera's user in force, as a
// file.
func withCamera(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../mosquitto/acl")
	if err != nil {
		t.Fatal(err)
	}
	before, example, ok := strings.Cut(string(text), "#user camera-front\n")
	if !ok {
		t.Fatal("the list has no example of a camera")
	}
	example, rest, _ := strings.Cut(example, "\n\n")
	path := filepath.Join(t.TempDir(), "acl")
	text = []byte(before + "user camera-front\n" + strings.ReplaceAll(example, "#topic", "topic") + "\n\n" + rest)
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// camera runs f with each broker that obeys the list with the example in force.
func camera(t *testing.T, f func(t *testing.T, addr string)) {
	path := withCamera(t)
	t.Run("mosquitto", func(t *testing.T) {
		f(t, brokertest.StartMosquitto(t, "allow_anonymous true", "acl_file "+path).Addr)
	})
	t.Run("devbroker", func(t *testing.T) {
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		acl, err := brokerconfig.ParseACL(file)
		if err != nil {
			t.Fatal(err)
		}
		f(t, mustServe(t, devbroker.Config{ACL: acl}))
	})
}

func TestC15_ACameraMaySendFramesAsOneSourceAndNothingElse(t *testing.T) {
	camera(t, func(t *testing.T, addr string) {
		own := "limber/v1/demo/desk/frame/front"
		device := mustSubscribe(t, addr, "desk", "-t", "limber/v1/demo/desk/frame/#")
		watch := mustSubscribe(t, addr, "operator", "-t", "limber/#")
		for _, topic := range []string{
			"limber/v1/demo/desk/frame/back", "limber/v1/demo/desk/frame/front/x", "limber/v1/demo/desk/job/1",
			"limber/v1/demo/desk/cmd/mode/1",
			"limber/v1/demo/camera-front/state", "limber/v1/demo/camera-front/result/1", "limber/v1/demo/@all/cmd/mode/1",
			"limber/x", own,
		} {
			mustPublish(t, addr, "camera-front", "-t", topic, "-m", "it")
		}
		for _, s := range []subscriber{device, watch} {
			if got := s.until("message "); got != own+" it" {
				t.Errorf("first came %q, want the one frame that is allowed", got)
			}
		}
	})
}

func TestC15_ACameraReadsNothing(t *testing.T) {
	camera(t, func(t *testing.T, addr string) {
		for _, topic := range []string{"limber/v1/demo/camera-front/job/1", "limber/v1/demo/@all/desired",
			"limber/v1/demo/desk/frame/front", "limber/v1/demo/camera-front/frame/x"} {
			mustPublish(t, addr, "operator", "-r", "-t", topic, "-m", "secret")
		}
		// mosquitto grants every subscription and delivers nothing; the other says no.
		out, _ := client(t, "mosquitto_sub", addr, "camera-front", "-W", "1", "-v", "-t", "limber/#", "-t",
			"limber/v1/demo/@all/desired",
			"-t", "limber/v1/demo/camera-front/job/#", "-t", "limber/v1/demo/camera-front/frame/#", "-t",
			"limber/v1/demo/desk/frame/front").CombinedOutput()
		if strings.Contains(string(out), "secret") {
			t.Errorf("the camera was told %q", out)
		}
	})
}

func TestC15_WillForAnotherIsRefused(t *testing.T) {
	addr := mustServe(t, devbroker.Config{})
	out, err := client(t, "mosquitto_sub", addr, "cam-1", "-t", "limber/v1/demo/cam-1/job/#",
		"--will-topic", "limber/v1/demo/cam-2/state", "--will-payload", "lost").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "not authorised") {
		t.Errorf("got %v: %s; want not authorised", err, out)
	}
}

func TestNamelessOnLoopbackIsTheOperator(t *testing.T) {
	addr := mustServe(t, devbroker.Config{})
	watch := mustSubscribe(t, addr, "", "-t", "$SYS/broker/version", "-t", "limber/#")
	if got := watch.until("message "); !strings.HasPrefix(got, "$SYS/broker/version ") {
		t.Errorf("got %q, want the broker's version", got)
	}
	mustPublish(t, addr, "", "-t", "limber/v1/demo/cam-1/cmd/mode/1", "-m", "it")
	if got := watch.until("message "); got != "limber/v1/demo/cam-1/cmd/mode/1 it" {
		t.Errorf("got %q", got)
	}
}

func TestKeptMessagesComeInOrder(t *testing.T) {
	addr := mustServe(t, devbroker.Config{})
	session := []string{"-i", "away", "-c", "-t", "limber/#"}
	if out, err := client(t, "mosquitto_sub", addr, "", append(session, "-E")...).CombinedOutput(); err != nil {
		t.Fatalf("mosquitto_sub: %v: %s", err, out)
	}
	var want strings.Builder
	for i := range 50 {
		fmt.Fprintln(&want, i)
	}
	pub := client(t, "mosquitto_pub", addr, "", "-t", "limber/x", "-l")
	pub.Stdin = strings.NewReader(want.String())
	if out, err := pub.CombinedOutput(); err != nil {
		t.Fatalf("mosquitto_pub: %v: %s", err, out)
	}
	got, err := client(t, "mosquitto_sub", addr, "", append(session, "-C", "50")...).Output()
	if err != nil || string(got) != want.String() {
		t.Errorf("got %q, %v; want 0 to 49 in order", got, err)
	}
}

func TestTopicsOfCamerasAreOpenToTheNamelessOfADesk(t *testing.T) {
	addr := mustServe(t, devbroker.Config{})
	watch := mustSubscribe(t, addr, "", "-t", "cam/+/jpg")
	mustPublish(t, addr, "cam-1", "-t", "cam/front/jpg", "-m", "of a device")
	mustPublish(t, addr, "", "-t", "cam/front/jpg", "-m", "it")
	if got := watch.until("message "); got != "cam/front/jpg it" {
		t.Errorf("got %q, want what the nameless sent", got)
	}
}

func TestUsersNeedTheirPassword(t *testing.T) {
	addr := mustServe(t, devbroker.Config{Users: map[string]string{"operator": "right"}})
	mustPublish(t, addr, "operator:right", "-t", "limber/x", "-m", "it")
	for _, login := range []string{"operator:wrong", "operator", "", "cam-1:right", "cam-1:"} {
		if err := client(t, "mosquitto_pub", addr, login, "-t", "limber/x", "-m", "it").Run(); err == nil {
			t.Errorf("login %q was let in", login)
		}
	}
}

func TestASessionIsOnlyGivenBackToItsUser(t *testing.T) {
	addr := mustServe(t, devbroker.Config{Users: map[string]string{"operator": "o", "cam-1": "1", "cam-2": "2"}})
	job := "limber/v1/demo/cam-1/job/7"
	session := []string{"-i", "away", "-c", "-t", job}
	if out, err := client(t, "mosquitto_sub", addr, "cam-1:1", append(session, "-E")...).CombinedOutput(); err != nil {
		t.Fatalf("mosquitto_sub: %v: %s", err, out)
	}
	mustPublish(t, addr, "operator:o", "-t", job, "-m", "for cam-1")
	for _, tt := range []struct{ name, login, id string }{
		{"a device resumes another's", "cam-2:2", "away -c"},
		{"a device clears another's", "cam-2:2", "away"},
		{"the operator resumes a device's", "operator:o", "away -c"},
		{"a device comes before the one that has the name", "cam-2:2", "cam-1 -c"},
	} {
		args := strings.Fields("-E -t limber/v1/demo/cam-2/job/8 -i " + tt.id)
		out, err := client(t, "mosquitto_sub", addr, tt.login, args...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "Connection Refused") {
			t.Errorf("%s: got %v: %s; want it refused", tt.name, err, out)
		}
	}
	got, err := client(t, "mosquitto_sub", addr, "cam-1:1", append(session, "-C", "1")...).CombinedOutput()
	if err != nil || string(got) != "for cam-1\n" {
		t.Errorf("its user got %q, %v; want the message that waits", got, err)
	}
}

func TestListensBeyondLoopbackOnlyWithUsers(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	_, err := devbroker.New(devbroker.Config{Listen: "0.0.0.0:0"}, log)
	if err == nil || !strings.Contains(err.Error(), "certificates or users") {
		t.Errorf("got %v, want a refusal that names the remedy", err)
	}
	_, err = devbroker.New(devbroker.Config{Listen: "127.0.0.1:0", WebSocket: "0.0.0.0:0"}, log)
	if err == nil || !strings.Contains(err.Error(), "certificates or users") {
		t.Errorf("WebSockets: got %v, want a refusal that names the remedy", err)
	}
	b, err := devbroker.New(devbroker.Config{Listen: "0.0.0.0:0", Users: map[string]string{"a": "b"}}, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Run(ctx); err != nil {
		t.Error(err)
	}
}

func TestAddressInUseIsAnError(t *testing.T) {
	addr := mustServe(t, devbroker.Config{})
	_, err := devbroker.New(devbroker.Config{Listen: addr}, slog.New(slog.DiscardHandler))
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "stop it or choose another") {
		t.Errorf("got %v, want address in use, and a remedy", err)
	}
}

func TestCustomListDecides(t *testing.T) {
	acl, err := brokerconfig.ParseACL(strings.NewReader("topic read a\nuser cam-1\ntopic write a\n"))
	if err != nil {
		t.Fatal(err)
	}
	addr := mustServe(t, devbroker.Config{ACL: acl, Users: map[string]string{"cam-1": "p"}})
	out, _ := client(t, "mosquitto_sub", addr, "cam-1:p", "-t", "a").CombinedOutput()
	if !strings.Contains(string(out), "denied") {
		t.Errorf("got %s, want the subscription denied", out)
	}
}
