package metrics

import (
	"bytes"
	"log/slog"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/limber-edge/limber/agent/config"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// scraped is what a device tells.
func scraped(t *testing.T, d Device) string {
	t.Helper()
	status, text := serve(t, config.Metrics{}, d).get("/metrics", "")
	if status != 200 {
		t.Fatalf("got %d %s", status, text)
	}
	return text
}

func TestMetricsTellWhatTheDeviceSays(t *testing.T) {
	text := scraped(t, busy())
	for _, line := range []string{
		`limber_build_info{runtime="1.27",version="v1"} 1`,
		`limber_jobs_total{outcome="ok",reason=""} 90`,
		`limber_jobs_total{outcome="refused",reason="busy"} 7`,
		`limber_jobs_total{outcome="refused",reason="invalid"} 0`,
		`limber_jobs_total{outcome="superseded",reason=""} 3`,
		`limber_commands_refused_total{answered="yes"} 12`,
		`limber_commands_refused_total{answered="no"} 8`,
		`limber_deadline_misses_total 4`,
		`limber_stage_seconds_bucket{stage="decode",le="+Inf"} 0`,
		`limber_stage_seconds_count{stage="total"} 0`,
		`limber_switches_total{reason="queue"} 2`,
		`limber_member_info{member="b"} 1`,
		`limber_slowdown_ratio 1.5`,
		`limber_outbox_records{class="result"} 11`,
		`limber_outbox_bytes{class="result"} 1200`,
		`limber_outbox_oldest_seconds{class="result"} 60`,
		`limber_outbox_records{class="control"} 0`,
		`limber_outbox_dropped_total{class="result",reason="age"} 13`,
		`limber_outbox_dropped_total{class="event",reason="quota"} 0`,
		`limber_link_up 1`,
		`limber_link_inflight 6`,
		`limber_link_connections_total 5`,
		`limber_link_round_trip_seconds 0.003`,
		`limber_power_watts 8.5`,
		`limber_temperature_celsius{sensor="CPU-therm"} 51.5`,
		`limber_temperature_celsius{sensor="bad?name"} 40`,
	} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("%s is missing in\n%s", line, text)
		}
	}
}

func TestTheREADMENamesEveryMetricAndTheDashboardNoOther(t *testing.T) {
	name := regexp.MustCompile(`limber_[a-z_]+`)
	mustRead := func(path string) []byte {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	readme, told := string(mustRead("../../README.md")), map[string]bool{}
	for _, line := range regexp.MustCompile(`(?m)^# TYPE (\w+)`).FindAllStringSubmatch(scraped(t, busy()), -1) {
		told[line[1]] = true
		if !strings.Contains(readme, "`"+line[1]+"`") {
			t.Errorf("README.md does not say what %s is", line[1])
		}
	}
	for _, n := range name.FindAllString(string(mustRead("../../broker-config/grafana.json")), -1) {
		if !told[strings.TrimSuffix(n, "_bucket")] {
			t.Errorf("the dashboard shows %s, which no device tells", n)
		}
	}
}

func TestWhatIsUnknownIsAbsent(t *testing.T) {
	text := scraped(t, new(fakeDevice))
	for _, name := range []string{"slowdown", "member", "round_trip", "power", "temperature"} {
		if strings.Contains(text, "limber_"+name) {
			t.Errorf("%s is told of a device that does not know it:\n%s", name, text)
		}
	}
	if !strings.Contains(text, "\nlimber_link_up 0\n") {
		t.Errorf("got\n%s, want a link that is down", text)
	}
}

func TestSeriesAreBounded(t *testing.T) {
	d := busy()
	for i := range 10_000 {
		d.vitals.TempsC[strings.Repeat("x", 1+i%200)+string(rune('a'+i%26))] = 1
	}
	series := regexp.MustCompile(`(?m)^limber_`).FindAllString(scraped(t, d), -1)
	if len(series) > 300 {
		t.Errorf("got %d series, want at most 300", len(series))
	}
}

func TestPromtoolIsContentWithTheMetrics(t *testing.T) {
	text := scraped(t, busy())
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("got %v, %v; want no complaint", problems, err)
	}
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("the rules that promtool has hold, promtool itself is not installed (Debian: prometheus)")
	}
	c := exec.Command(promtool, "check", "metrics")
	c.Stdin = strings.NewReader(text)
	if out, err := c.CombinedOutput(); err != nil || len(bytes.TrimSpace(out)) > 0 {
		t.Errorf("promtool: %v: %s", err, out)
	}
}
