package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/broker-config/brokertest"
)

// mustCerts makes certificates with the command, and returns their folder.
func mustCerts(t *testing.T, args ...string) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "certs")
	got := limber(t, append([]string{"broker", "certs", "--out", dir, "--server", "localhost,127.0.0.1"}, args...)...)
	if got.code != exitDone || got.stderr != "" {
		t.Fatalf("got %+v", got)
	}
	return dir
}

// login are the flags of an operator's command with a certificate.
func login(dir, name, url string) []string {
	return []string{"--broker", url, "--ca-file", filepath.Join(dir, "ca.crt"), "--cert-file",
		filepath.Join(dir, name+".crt"), "--key-file", filepath.Join(dir, name+".key")}
}

func TestBrokerCertsSaysWhatItMadeAndIsNotCalledTwice(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "certs")
	call := []string{"broker", "certs", "--out", dir, "--server", "localhost,127.0.0.1", "--server", "broker.example",
		"--device", "cam-1", "--device", "cam-2", "--device", "cam-3", "--viewer", "viewer"}
	got := limber(t, call...)
	if got.code != exitDone || got.stderr != "" || strings.Count(got.stdout, "\n") != 6 ||
		!strings.Contains(got.stdout, filepath.Join(dir, "cam-3.crt")+": device cam-3, until "+
			time.Now().AddDate(0, 0, 365).UTC().Format(time.DateOnly)) {
		t.Errorf("got %+v, want six lines, one of cam-3", got)
	}
	limber(t, call...).complained(t, exitFailed, "cam-1.crt is there: --renew", "viewer.crt is there")
	if got := limber(t, append(call, "--renew")...); got.code != exitDone || strings.Count(got.stdout, "\n") != 5 {
		t.Errorf("renewed: got %+v, want five lines: not the authority", got)
	}
	if got := limber(t, "broker", "certs", "--out", dir, "--device", "cam-4"); got.code != exitDone {
		t.Errorf("one more: got %+v", got)
	}
}

func TestBrokerCertsRefusesWhatCannotBe(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct {
		name string
		args []string
		says string
	}{
		{"no folder", []string{"--server", "b"}, "--out is missing"},
		{"no broker", []string{"--out", dir, "--device", "cam-1"}, "--server is missing"},
		{"a device with the operator's name", []string{"--out", dir, "--server", "b", "--device", "operator"}, `"operator" is the user`},
		{"a device with the viewer's name", []string{"--out", dir, "--server", "b", "--device", "viewer"}, `"viewer" is the user`},
		{"a name of two levels", []string{"--out", dir, "--server", "b", "--device", "a/b"}, `"a/b" is not [A-Za-z0-9_.-]{1,64}`},
		{"a name that is empty", []string{"--out", dir, "--server", "b", "--viewer", ""}, `viewer: "" is not`},
		{"an operator that is no name", []string{"--out", dir, "--server", "b", "--operator", "a b"}, `"a b" is not`},
		{"no time", []string{"--out", dir, "--server", "b", "--days", "0"}, "days: 0 is not from 1 to"},
		{"a URL for a name", []string{"--out", dir, "--server", "mqtts://b"}, "neither a host name nor an address"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			limber(t, append([]string{"broker", "certs"}, tt.args...)...).complained(t, exitUsage, tt.says)
		})
	}
	if all, err := os.ReadDir(dir); err != nil || len(all) > 0 {
		t.Errorf("got %v, %v; want nothing written", all, err)
	}
	limber(t, "broker", "--certs", dir).complained(t, exitFailed, "certificate of the broker", "`limber broker certs` makes them")
	limber(t, "broker", "--certs", dir, "--users", "u").complained(t, exitUsage, "both --users and --certs")
}

func TestACommandWithoutItsCertificatesNamesTheFlag(t *testing.T) {
	t.Parallel()
	dir := mustCerts(t, "--operator", "operator")
	url := "mqtts://" + mustBroker(t, "--certs", dir)
	for flag, tt := range map[string]struct{ file, says string }{
		"--broker":    {url, "unknown authority; --ca-file names the one to trust"},
		"--ca-file":   {filepath.Join(dir, "ca.crt"), "--cert-file and --key-file name this client's"},
		"--cert-file": {"operator.crt", "key_file"},
	} {
		t.Run(flag, func(t *testing.T) {
			t.Parallel() // a command tries for five seconds
			limber(t, "fleet", "ls", "--broker", url, flag, tt.file).complained(t, exitFailed, tt.says)
		})
	}
}

func TestADeviceIsNotCalledAsAUserWhoMayDoMore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "limber.toml")
	mustWrite(t, path, []byte("device = \"operator\"\n"))
	for _, args := range [][]string{{"--device", "operator"}, {"--device", "viewer"}, {"--config", path}} {
		limber(t, append([]string{"agent", "--check", "--state", t.TempDir()}, args...)...).complained(t, exitUsage,
			"is the user who may do more than a device")
	}
	if got := limber(t, "agent", "--check", "--state", t.TempDir(), "--config", path, "--device", "cam-1"); got.code != exitDone {
		t.Errorf("got %+v, want the flag to mend it", got)
	}
}

// mosquittoClient runs one of mosquitto's clients with a certificate.
func mosquittoClient(t *testing.T, program, addr, dir, name string, args ...string) (out string, err error) {
	t.Helper()
	host, port, _ := strings.Cut(addr, ":")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	all := append([]string{"-h", host, "-p", port, "-q", "1", "--cafile", filepath.Join(dir, "ca.crt"), "--cert",
		filepath.Join(dir, name+".crt"), "--key", filepath.Join(dir, name+".key")}, args...)
	b, err := exec.CommandContext(ctx, brokertest.Program(t, program), all...).CombinedOutput()
	return string(b), err
}

// fieldBrokers calls f with a shipped mosquitto and with `limber broker`, both with the
// certificates of a folder.
func fieldBrokers(t *testing.T, dir string, f func(t *testing.T, addr string)) {
	t.Run("mosquitto", func(t *testing.T) {
		t.Parallel()
		acl := filepath.Join(dir, "acl")
		if _, err := os.Stat(acl); err != nil {
			acl = ""
		}
		f(t, brokertest.StartShipped(t, dir, acl).Addr)
	})
	t.Run("limber broker", func(t *testing.T) {
		t.Parallel()
		f(t, mustBroker(t, "--certs", dir))
	})
}

// mosquitto's own clients, which verify as OpenSSL does, get on with these certificates.
func TestC15_BrokersAndMosquittosClientsTakeTheCertificatesThatAreMade(t *testing.T) {
	t.Parallel()
	dir := mustCerts(t, "--device", "cam-1", "--device", "cam-2", "--operator", "operator", "--operator", "alice",
		"--viewer", "viewer")
	fieldBrokers(t, dir, func(t *testing.T, addr string) {
		own := wire.Address{Fleet: "demo", Device: "cam-1"}
		for _, tt := range []struct {
			topic string
			from  string
			want  string // what is retained afterwards
		}{
			{own.Desired(), "operator", "operator"}, {own.Desired(), "alice", "alice"},
			{own.Desired(), "viewer", "alice"}, {own.Desired(), "cam-1", "alice"},
			{own.State(), "cam-1", "cam-1"}, {own.State(), "cam-2", "cam-1"},
		} {
			if out, err := mosquittoClient(t, "mosquitto_pub", addr, dir, tt.from, "-r", "-t", tt.topic, "-m", tt.from); err != nil {
				t.Fatalf("mosquitto_pub as %s: %v, %s", tt.from, err, out)
			}
			for _, reader := range []string{"viewer", "operator", "alice", "cam-1"} {
				out, err := mosquittoClient(t, "mosquitto_sub", addr, dir, reader, "-C", "1", "-t", tt.topic)
				if err != nil || out != tt.want+"\n" {
					t.Errorf("%s after %s: %s reads %q, %v; want %s", tt.topic, tt.from, reader, out, err, tt.want)
				}
			}
		}
	})
}

func TestBrokerServesWebSocketsWithCertificatesAndWithout(t *testing.T) {
	t.Parallel()
	dir := mustCerts(t, "--operator", "operator")
	for _, tt := range []struct {
		name, scheme string
		args, login  []string
	}{
		{"plain", "ws", nil, nil},
		{"with certificates", "wss", []string{"--certs", dir}, login(dir, "operator", "")[2:]},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, web := mustBrokers(t, append(tt.args, "--ws", "127.0.0.1:0")...)
			got := limber(t, append([]string{"fleet", "ls", "--broker", tt.scheme + "://" + web + "/mqtt"}, tt.login...)...)
			if got.code != exitDone || !strings.Contains(got.stdout, "no device of fleet demo") {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// MQTT 3.1.1 acknowledges what it drops.
func TestC15_AViewerIsToldThatItMayNotSteer(t *testing.T) {
	t.Parallel()
	dir := mustCerts(t, "--device", "desk", "--operator", "operator", "--viewer", "viewer")
	fieldBrokers(t, dir, func(t *testing.T, addr string) {
		desk := wire.Address{Fleet: "demo", Device: "desk"}
		for topic, payload := range map[string]string{
			desk.State(): `{"state":"online"}`, desk.Caps(): `{"groups":["@all"]}`, desk.Reported(): `{"status":"applied","mode":"balanced"}`,
		} {
			if out, err := mosquittoClient(t, "mosquitto_pub", addr, dir, "desk", "-r", "-t", topic, "-m", payload); err != nil {
				t.Fatalf("mosquitto_pub: %v, %s", err, out)
			}
		}
		controller := wire.Address{Fleet: "demo", Device: wire.Controller}
		if out, err := mosquittoClient(t, "mosquitto_pub", addr, dir, "operator", "-r", "-t", controller.State(),
			"-m", `{"state":"online"}`); err != nil {
			t.Fatalf("mosquitto_pub: %v, %s", err, out)
		}
		for _, args := range [][]string{
			{"fleet", "mode", "desk", "balanced"},
			{"fleet", "rollout", "abort", "night"},
			{"fleet", "goal", "@all", "--prefer", "energy", "--ttl", "100ms"},
			{"fleet", "set", "desk", "--mode", "balanced", "--wait", "1m"},
		} {
			t.Run(args[1], func(t *testing.T) {
				t.Parallel()
				limber(t, append(args, login(dir, "viewer", "mqtts://"+addr)...)...).complained(t, exitFailed,
					"the broker dropped the command: this name may not steer; --cert-file and --key-file, or --user, name an operator")
			})
		}
		t.Run("operator", func(t *testing.T) {
			t.Parallel()
			got := limber(t, append([]string{"fleet", "mode", "desk", "balanced", "--ttl", "3s"},
				login(dir, "operator", "mqtts://"+addr)...)...)
			if got.code != exitFailed || !strings.Contains(got.stdout, "desk: timed_out") {
				t.Errorf("the operator: got %+v, want that the device does not answer", got)
			}
		})
	})
}
