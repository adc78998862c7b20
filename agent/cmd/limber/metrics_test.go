package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestCheckPrintsWhereMetricsAreReadAndByWhom(t *testing.T) {
	dir := t.TempDir()
	path, token := filepath.Join(dir, "limber.toml"), filepath.Join(dir, "token")
	mustWrite(t, token, []byte("0123456789abcdef\n"))
	check := func(toml string) ran {
		mustWrite(t, path, []byte("[metrics]\n"+toml))
		return limber(t, "agent", "--check", "--config", path, "--state", t.TempDir())
	}
	for toml, want := range map[string]string{
		"listen = \"127.0.0.1:9464\"\n": "# metrics: http://127.0.0.1:9464/metrics and /healthz, " +
			"for every program of this machine\n",
		"listen = \"0.0.0.0:9464\"\ntoken_file = \"" + token + "\"\n": "# metrics: http://0.0.0.0:9464/metrics " +
			"and /healthz, for who has the token of " + token + "\n",
	} {
		if got := check(toml); got.code != exitDone || !strings.Contains(got.stdout, want) {
			t.Errorf("%s: got %+v, want %s", toml, got, want)
		}
	}
	if got := check(""); got.code != exitDone || strings.Contains(got.stdout, "# metrics") {
		t.Errorf("got %+v, want no endpoint", got)
	}
	check("listen = \"0.0.0.0:9464\"\n").complained(t, exitFailed, "metrics.listen: 0.0.0.0:9464 is for others as well; "+
		"set metrics.token_file")
}

// awaitPage waits until a page has this text: what an engine lacks it finds out after its
// metrics are served.
func awaitPage(t *testing.T, url, want string) {
	t.Helper()
	for until := time.Now().Add(time.Minute); ; {
		answer, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err == nil && strings.Contains(string(text), want) {
			return
		}
		if time.Now().After(until) {
			t.Fatalf("%s: got %s %q, %v; want %q", url, answer.Status, text, err, want)
		}
		<-time.After(10 * time.Millisecond)
	}
}

func TestAnAgentIsReadWhileItRuns(t *testing.T) {
	t.Setenv("ONNXRUNTIME_LIB", filepath.Join(t.TempDir(), "none"))
	path := filepath.Join(t.TempDir(), "limber.toml")
	mustWrite(t, path, []byte("[metrics]\nlisten = \"127.0.0.1:0\"\n[broker]\nurl = \"mqtt://127.0.0.1:1\"\n"))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	log, to := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"agent", "--config", path, "--state", t.TempDir()}, io.Discard, to)
		to.Close()
	}()
	lines, url := bufio.NewScanner(log), ""
	for url == "" && lines.Scan() {
		if _, addr, ok := strings.Cut(lines.Text(), "msg=\"metrics are served\""); ok {
			url = "http://" + addr[strings.LastIndex(addr, "=")+1:]
		}
	}
	go io.Copy(io.Discard, log)
	for page, want := range map[string]string{"/metrics": "limber_link_up 0\n", "/healthz": "ONNX Runtime"} {
		awaitPage(t, url+page, want)
	}
	stop()
	if code := <-ended; code != exitDone {
		t.Errorf("got exit %d, want 0", code)
	}
	if _, err := http.Get(url + "/metrics"); err == nil {
		t.Error("the metrics are still served")
	}
}
