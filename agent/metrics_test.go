package agent_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent"
	"github.com/limber-edge/limber/agent/config"
	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/metrics"
	"github.com/limber-edge/limber/agent/wire"
)

func TestASnapshotTellsWhatBecameOfJobs(t *testing.T) {
	t.Parallel()
	o, cfg, d := online(t, serve(t), rig{})
	for i, id := range ids("frame", 5) {
		o.publish(self(cfg).Job(id), job(t, patient, pngFrame(t, i)))
	}
	o.publish(self(cfg).Job("broken"), []byte("{"))
	o.result(cfg, "broken", 1)
	for _, id := range ids("frame", 5) {
		o.result(cfg, id, 1)
	}
	o.publish(self(cfg).Job("broken"), []byte("{{"))
	o.publish(self(cfg).Job("frame-0000"), job(t, patient, pngFrame(t, 0))) // its answer again, which is no other job
	o.result(cfg, "broken", 2)
	o.result(cfg, "frame-0000", 2)
	s := d.agent.Snapshot()
	want := map[wire.Reason]uint64{wire.Invalid: 1, wire.Conflict: 1, wire.Busy: 0, wire.Infeasible: 0,
		wire.Unsupported: 0, wire.Internal: 0}
	if s.Answered != 5 || !maps.Equal(s.Refused, want) || s.Fault != nil {
		t.Errorf("got %d answered, %v, fault %v; want 5, %v and none", s.Answered, s.Refused, s.Fault, want)
	}
	o.obeyed(cfg, "mode", "m1", `{"mode":"fixed:5.8M","ttl_ms":60000}`)
	for _, id := range ids("after", 2) {
		o.publish(self(cfg).Job(id), job(t, patient, pngFrame(t, 0)))
		o.result(cfg, id, 1)
	}
	if n := d.agent.Snapshot().Engine.Switches[governor.Fixed]; n != 1 {
		t.Errorf("got %d switches to a member that the mode fixes, want 1", n)
	}
}

func TestASnapshotTellsOfTheFaultThatStands(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	cfg := newConfig(t, addr)
	o := operate(t, addr)
	d := start(t, cfg, rig{inference: func() (agent.Inference, error) { return nil, errors.New("there is no library") }})
	o.presence(cfg, wire.Online, 0)
	o.until(func() bool { return d.agent.Snapshot().Fault != nil }, "a fault of a device that has no library")
	if err := d.agent.Snapshot().Fault; !strings.Contains(err.Error(), "there is no library") {
		t.Errorf("got %v, want that there is no library", err)
	}
}

func TestEveryExpressionOfTheDashboardHasDataInPrometheus(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("prometheus")
	if err != nil {
		t.Skip("Prometheus is not installed (Debian: prometheus)")
	}
	m := mustMachine(t)
	m.rail(8)
	m.write("sys/class/thermal/thermal_zone0/type", "CPU-therm")
	m.write("sys/class/thermal/thermal_zone0/temp", 51500)
	o, cfg, d := online(t, serve(t), m.under())
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	endpoint := read(t, d, config.Metrics{Listen: "127.0.0.1:0", TokenFile: token})
	prometheus := startPrometheus(t, program, strings.NewReplacer("10.0.0.17:9464", endpoint,
		"/etc/prometheus/limber.token", token).Replace(scrapeConfig(t)))
	missing := expressions(t)
	for _, expression := range []string{`limber_jobs_total{outcome="ok"} > 1`, `limber_jobs_total{reason="invalid"} > 1`,
		`limber_stage_seconds_count{stage="total"} > 1`, `limber_link_up == 1`, `limber_link_connections_total == 1`,
		`limber_power_watts == 8`, `limber_temperature_celsius{sensor="CPU-therm"} == 51.5`} {
		missing[expression] = expression
	}
	tick := time.NewTicker(300 * time.Millisecond)
	defer tick.Stop()
	for n, began := 0, time.Now(); len(missing) > 0; n++ {
		o.publish(self(cfg).Job(fmt.Sprintf("frame-%d", n)), job(t, patient, pngFrame(t, 0)))
		o.publish(self(cfg).Job(fmt.Sprintf("broken-%d", n)), []byte("{"))
		<-tick.C
		for title, expression := range missing {
			if prometheus.knows(expression) {
				delete(missing, title)
			}
		}
		if time.Since(began) > patience {
			t.Fatalf("no data after %v of %v", patience, missing)
		}
	}
}

// read serves a device's metrics until the test ends, and returns where.
func read(t *testing.T, d *device, cfg config.Metrics) (addr string) {
	t.Helper()
	log := newLogged()
	run(t, metrics.New(cfg, d.agent, slog.New(slog.NewTextHandler(log, nil))).Run)
	log.await(t, " addr=", 1)
	_, addr, _ = strings.Cut(strings.TrimSpace(log.String()), " addr=")
	return addr
}

// scrapeConfig is what the README tells Prometheus.
func scrapeConfig(t *testing.T) string {
	t.Helper()
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(readme), "\n    scrape_configs:\n")
	block, _, _ := strings.Cut(rest, "\n\n")
	if !found {
		t.Fatal("README.md has no scrape_configs")
	}
	return "global: {scrape_interval: 1s}\nscrape_configs:\n" + strings.ReplaceAll("\n"+block, "\n    ", "\n") + "\n"
}

// expressions are those of the dashboard by the title of the panel or the name of
// the variable, for all devices, over as little time as Grafana would take for scrapes
// a second apart.
func expressions(t *testing.T) map[string]string {
	t.Helper()
	var dashboard struct {
		Templating struct {
			List []struct{ Name, Definition string }
		}
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	b, err := os.ReadFile("../broker-config/grafana.json")
	if err == nil {
		err = json.Unmarshal(b, &dashboard)
	}
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	add := func(name, expression string) {
		all[name] = strings.NewReplacer("$fleet", "demo", "$device", "cam-17", "$__rate_interval", "4s").Replace(expression)
	}
	for _, v := range dashboard.Templating.List {
		if values := regexp.MustCompile(`^label_values\((.*), \w+\)$`).FindStringSubmatch(v.Definition); values != nil {
			add(v.Name, values[1])
		}
	}
	for _, p := range dashboard.Panels {
		for i, target := range p.Targets {
			add(p.Title+" "+strconv.Itoa(i), target.Expr)
		}
	}
	if len(all) < 15 {
		t.Fatalf("got %v, want what a fleet is watched by", all)
	}
	return all
}

// prometheusAt is a Prometheus at an address.
type prometheusAt struct {
	t    *testing.T
	addr string
}

// startPrometheus runs one until the test ends.
func startPrometheus(t *testing.T, program, config string) prometheusAt {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(program, "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address=127.0.0.1:0")
	log, err := c.StderrPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Process.Kill()
		c.Wait() // reports the kill
	})
	var said strings.Builder
	for lines := bufio.NewScanner(log); lines.Scan(); said.WriteString(lines.Text() + "\n") {
		if _, addr, ok := strings.Cut(lines.Text(), `msg="Listening on" address=`); ok {
			go func() {
				for lines.Scan() { // or it would wait for a reader
				}
			}()
			return prometheusAt{t, addr}
		}
	}
	t.Fatalf("Prometheus does not listen:\n%s", said.String())
	return prometheusAt{}
}

// knows tells whether an expression has data, and none that is not a number.
func (p prometheusAt) knows(expression string) bool {
	p.t.Helper()
	answer, err := http.Get("http://" + p.addr + "/api/v1/query?query=" + url.QueryEscape(expression))
	if err != nil {
		return false // it does not answer yet
	}
	defer answer.Body.Close()
	var got struct {
		Status, Error string
		Data          struct{ Result []struct{ Value [2]any } }
	}
	if err := json.NewDecoder(answer.Body).Decode(&got); err != nil || answer.StatusCode == http.StatusServiceUnavailable {
		return false
	}
	if got.Status != "success" {
		p.t.Fatalf("%s: %s", expression, got.Error)
	}
	for _, series := range got.Data.Result {
		text, _ := series.Value[1].(string)
		if v, err := strconv.ParseFloat(text, 64); err != nil || math.IsNaN(v) {
			return false
		}
	}
	return len(got.Data.Result) > 0
}
