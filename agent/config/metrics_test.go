package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/limber-edge/limber/agent/config"
)

func TestC12_MetricsAreOffAndForThisMachineAloneUnlessThereIsAToken(t *testing.T) {
	if c := config.Default(); c.Metrics != (config.Metrics{}) {
		t.Errorf("got %+v by default, want no endpoint", c.Metrics)
	}
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const others, shape = "metrics.token_file", "is not HOST:PORT"
	for _, tt := range []struct{ listen, without, with string }{
		{"127.0.0.1:9464", "", ""}, {"127.8.9.1:9464", "", ""}, {"[::1]:9464", "", ""}, {"localhost:0", "", ""},
		{"0.0.0.0:9464", others, ""}, {":9464", others, ""}, {"[::]:9464", others, ""}, {"10.0.0.17:9464", others, ""},
		{"cam-17.example:9464", others, ""}, {"localhost.example:1", others, ""}, {"[fe80::1%lo]:1", others, ""},
		{"127.0.0.1", shape, shape}, {"127.0.0.1:http", shape, shape}, {"127.0.0.1:65536", shape, shape}, {"x", shape, shape},
	} {
		for file, want := range map[string]string{"": tt.without, token: tt.with} {
			c := config.Default()
			c.Metrics = config.Metrics{Listen: tt.listen, TokenFile: file}
			switch err := c.Validate(); {
			case want == "" && err != nil:
				t.Errorf("%s, token %q: got %v, want it taken", tt.listen, file, err)
			case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
				t.Errorf("%s, token %q: got %v, want %q", tt.listen, file, err, want)
			}
		}
	}
	c := config.Default()
	c.Metrics = config.Metrics{Listen: "127.0.0.1:0", TokenFile: token + ".none"}
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "metrics.token_file: open "+token+".none") {
		t.Errorf("got %v, want the file named", err)
	}
}

func TestATokenFileOfNoUseIsNamed(t *testing.T) {
	const secret = "0123456789abcdef0123456789abcdef"
	dir := t.TempDir()
	file := func(text string) string {
		f, err := os.CreateTemp(dir, "token")
		if err == nil {
			_, err = f.WriteString(text)
		}
		if err = errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		return f.Name()
	}
	missing, pipe := filepath.Join(dir, "none"), filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		missing:                    "open " + missing,
		file("short\n"):            "its first line has 5 characters, less than 16",
		file("\n" + secret + "\n"): "its first line has 0 characters",
		"/dev/zero":                "/dev/zero is no regular file",
		pipe:                       pipe + " is no regular file",
		dir:                        dir + " is no regular file",
		file(secret + strings.Repeat("\n", 5_000)): "has more than 4096 bytes",
	} {
		if token, err := (config.Metrics{TokenFile: path}).Token(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %q, %v; want %q", token, err, want)
		}
	}
	token, err := config.Metrics{TokenFile: file(" " + secret + "\r\nrest")}.Token()
	if token != secret || err != nil {
		t.Errorf("got %q, %v; want the first line", token, err)
	}
}

func TestOthersReadADeviceWhereItListensForThem(t *testing.T) {
	for listen, want := range map[string]string{"": "", "127.0.0.1:9464": "", "localhost:9464": "", "[::1]:9464": "",
		"10.0.0.17:9464": "10.0.0.17:9464", "cam-17.example:9464": "cam-17.example:9464", "0.0.0.0:9464": ":9464",
		"[::]:9464": ":9464", ":9464": ":9464", "10.0.0.17:0": "", "[fd00::17]:9464": "[fd00::17]:9464"} {
		if got := (config.Metrics{Listen: listen}).Address(); got != want {
			t.Errorf("listen = %q: got %q, want %q", listen, got, want)
		}
	}
}
