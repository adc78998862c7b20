package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/broker-config/brokertest"
)

// readable is an agent without a runtime that others may read on a port of this machine.
func readable(t *testing.T, broker string) (port, token string) {
	t.Helper()
	t.Setenv("ONNXRUNTIME_LIB", filepath.Join(t.TempDir(), "none"))
	_, port, err := net.SplitHostPort(brokertest.Reserve(t))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	token, config := filepath.Join(dir, "token"), filepath.Join(dir, "limber.toml")
	mustWrite(t, token, []byte("0123456789abcdef\n"))
	mustWrite(t, config, fmt.Appendf(nil, "[metrics]\nlisten = \"0.0.0.0:%s\"\ntoken_file = %q\n", port, token))
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"agent", "--config", config, "--broker", broker, "--state", filepath.Join(dir, "state")},
			io.Discard, io.Discard)
	}()
	t.Cleanup(func() {
		stop()
		<-ended
	})
	return port, token
}

// TestPrometheusReadsADeviceWhereTheFleetSaysThatItIs has a real one find a real device in
// the file that is exported, which takes the seconds between two of its scrapes.
func TestPrometheusReadsADeviceWhereTheFleetSaysThatItIs(t *testing.T) {
	broker := "mqtt://" + mustBroker(t)
	port, token := readable(t, broker)
	dir := t.TempDir()
	file := filepath.Join(dir, "targets.json")
	export := []string{"fleet", "export", "--broker", broker, "--prometheus-sd"}
	for said := ""; !strings.Contains(said, "1 device left out"); { // it is online
		said = limber(t, export...).stderr
	}
	says(t, exitDone, "", "fleet", "label", "desk", "site=berlin", "--broker", broker)
	export = append(export, "--host", "127.0.0.1", "--out", file)
	says(t, exitDone, "", append(export, "--where", "label.site=rome")...)
	if b, err := os.ReadFile(file); err != nil || string(b) != "[]\n" {
		t.Errorf("got %q, %v; want a list of none", b, err)
	}
	says(t, exitDone, "", append(export, "--where", "label.site=berlin")...)
	for _, program := range []string{"promtool", "prometheus"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed (Debian: prometheus)", program)
		}
	}
	config := filepath.Join(dir, "prometheus.yml")
	mustWrite(t, config, fmt.Appendf(nil, "global: {scrape_interval: 1s}\nscrape_configs:\n- job_name: demo\n"+
		"  authorization: {credentials_file: %q}\n  file_sd_configs: [{files: [%q]}]\n", token, file))
	if said, err := exec.Command("promtool", "check", "config", config).CombinedOutput(); err != nil {
		t.Fatalf("promtool: %v: %s", err, said)
	}
	mustBeScraped(t, config, "127.0.0.1:"+port)
}

// mustBeScraped runs Prometheus until it has read the device.
func mustBeScraped(t *testing.T, config, addr string) {
	t.Helper()
	listen := brokertest.Reserve(t)
	c := exec.Command("prometheus", "--config.file="+config, "--storage.tsdb.path="+t.TempDir(),
		"--web.listen-address="+listen)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Process.Kill()
		c.Wait() // reports the kill
	})
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for until := time.Now().Add(time.Minute); time.Now().Before(until); <-tick.C {
		if got := scraped(listen); strings.Contains(got, `"health":"up"`) {
			for _, want := range []string{"http://" + addr + "/metrics", `"device":"desk"`, `"fleet":"demo"`,
				`"instance":"desk"`, `"label_site":"berlin"`, `"version":"unknown"`} {
				if !strings.Contains(got, want) {
					t.Errorf("Prometheus knows %s; want %s", got, want)
				}
			}
			return
		}
	}
	t.Errorf("Prometheus has not read %s: %s", addr, scraped(listen))
}

// scraped is what Prometheus says of its targets.
func scraped(prometheus string) string {
	answer, err := http.Get("http://" + prometheus + "/api/v1/targets")
	if err != nil {
		return err.Error() // it does not answer yet
	}
	defer answer.Body.Close()
	var got struct {
		Data struct {
			ActiveTargets json.RawMessage
		}
	}
	if err := json.NewDecoder(answer.Body).Decode(&got); err != nil {
		return err.Error()
	}
	return string(got.Data.ActiveTargets)
}

func TestAnExportSaysForWhomItIs(t *testing.T) {
	says(t, exitUsage, "--prometheus-sd is missing; see `limber fleet export --help`", "fleet", "export")
	says(t, exitUsage, "--where", "fleet", "export", "--prometheus-sd", "--where", "site=berlin")
}
