package main

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/governor/replay"
)

// mustTrace writes a made-up trace: a larger member that fits 30 ms only while
// nothing competes.
func mustTrace(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for i := range 120 {
		slow := 1.0
		if i/40 == 1 {
			slow = 4
		}
		s := replay.Step{At: time.Duration(i) * 60 * time.Millisecond, Phase: i / 40, Load: int(slow) - 1}
		for _, ms := range []float64{5, 20} {
			s.Latency = append(s.Latency, time.Duration(ms*slow*(1+0.01*float64(i%3))*float64(time.Millisecond)))
		}
		b.WriteString(s.String() + "\n")
	}
	path := filepath.Join(t.TempDir(), "trace.txt")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// mustLines reads JSON objects, one a line, all with the same keys.
func mustLines(t *testing.T, out string, keys ...string) (lines []map[string]any) {
	t.Helper()
	slices.Sort(keys)
	for line := range strings.Lines(out) {
		var l map[string]any
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if got := slices.Sorted(maps.Keys(l)); !slices.Equal(got, keys) {
			t.Fatalf("got keys %v, want %v", got, keys)
		}
		lines = append(lines, l)
	}
	return lines
}

func governorKeys() []string {
	return []string{"policy", "deadline_ms", "queue", "miss_percent", "effective_accuracy", "regret_percent",
		"switches_per_100", "steady_switches_per_100", "settle_down_inferences", "settle_up_inferences"}
}

func TestBenchGovernorPrintsWhatTheContractSays(t *testing.T) {
	got := limber(t, "bench", "governor", "--trace", mustTrace(t), "--deadlines", "10,30", "--top1", "0.7,0.8",
		"--json")
	if got.code != exitDone {
		t.Fatal(got.stderr)
	}
	count := map[string]int{}
	for _, l := range mustLines(t, got.stdout, governorKeys()...) {
		policy := l["policy"].(string)
		count[policy]++
		if all := l["deadline_ms"] == "all"; all != (count[policy] == 3) {
			t.Errorf("%s: line %d is for %v", policy, count[policy], l["deadline_ms"])
		}
		if l["deadline_ms"] == 30.0 && policy == "oracle" && (l["regret_percent"] != 0.0 ||
			l["effective_accuracy"].(float64) < 0.766) {
			t.Errorf("got %v", l)
		}
	}
	for _, policy := range []string{"static:0", "static:1", "best-static", "dynamic-ofa", "one-step", "alert",
		"slackfit", "limber", "limber+hint", "phase-oracle", "oracle"} {
		if count[policy] != 3 {
			t.Errorf("%s has %d lines, want 3", policy, count[policy])
		}
	}
	again := limber(t, "bench", "governor", "--trace", mustTrace(t), "--deadlines", "10,30", "--top1", "0.7,0.8",
		"--json")
	if again.stdout != got.stdout {
		t.Error("the same trace gave other figures")
	}
}

func TestBenchGovernorQueuePrintsWhatTheContractSays(t *testing.T) {
	got := limber(t, "bench", "governor", "--trace", mustTrace(t), "--top1", "0.7,0.8", "--queue", "--seed", "3",
		"--json")
	if got.code != exitDone {
		t.Fatal(got.stderr)
	}
	patterns := map[string]bool{}
	for _, l := range mustLines(t, got.stdout, "policy", "deadline_ms", "queue", "arrivals", "seed",
		"attainment_percent", "mean_accuracy",
		"effective_accuracy", "shed_percent", "switches_per_100") {
		patterns[l["queue"].(string)] = true
		if l["seed"] != 3.0 || !(l["arrivals"].(float64) > 0) {
			t.Errorf("got %v", l)
		}
	}
	if want := []string{"10/40 D60", "20/80 D100", "20/80 D60",
		"30/120 D60"}; !slices.Equal(slices.Sorted(maps.Keys(patterns)), want) {
		t.Errorf("got patterns %v, want %v", patterns, want)
	}
}

func TestBenchGovernorSaysWhatIsWrong(t *testing.T) {
	trace := mustTrace(t)
	for _, tt := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"--top1", "0.7,0.8"}, exitUsage, "--trace is missing"},
		{[]string{"--trace", trace}, exitUsage, "--top1 wants"},
		{[]string{"--trace", trace, "--top1", "0.7,0.8", "--deadlines", "0"}, exitUsage, "--deadlines: 0 ms"},
		{[]string{"--trace", trace, "--top1", "0.7,0.8", "--queue", "--plot", "a.svg"}, exitUsage, "leave out --queue"},
		{[]string{"--trace", "nowhere.txt", "--top1", "0.7"}, exitFailed, "nowhere.txt"},
		{[]string{"--trace", trace, "--top1", "0.7"}, exitFailed, "line 1: 5 fields, want 4"},
		{[]string{"--trace", trace, "--top1", "0.8,0.7"}, exitFailed, "Pareto"},
		{[]string{"--trace", trace, "--top1", "70,80"}, exitFailed, "not in (0, 1]"},
		{[]string{"--trace", trace, "--top1", "0.7,0.8", "--plot", "out.png"}, exitFailed,
			"pictures are SVG: call it out.svg"},
	} {
		got := limber(t, append([]string{"bench", "governor"}, tt.args...)...)
		if got.code != tt.code || !strings.Contains(got.stderr, tt.says) {
			t.Errorf("%v: exit %d, %q; want %d, %q", tt.args, got.code, got.stderr, tt.code, tt.says)
		}
	}
}

func TestBenchGovernorDrawsAPicture(t *testing.T) {
	picture := filepath.Join(t.TempDir(), "out.svg")
	got := limber(t, "bench", "governor", "--trace", mustTrace(t), "--top1", "0.7,0.8", "--deadlines", "30", "--plot",
		picture)
	b, err := os.ReadFile(picture)
	if got.code != exitDone || err != nil || !strings.Contains(string(b), ">limber<") || !strings.Contains(string(b),
		">phase-oracle<") {
		t.Errorf("exit %d, %s, %v", got.code, got.stderr, err)
	}
}

func TestAStoppedRecordingLeavesTheEarlierTrace(t *testing.T) {
	name := filepath.Join(t.TempDir(), "trace.txt")
	if err := os.WriteFile(name, []byte("earlier"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, complaint strings.Builder
	code := run(canceled(t), []string{"bench", "record", "--out", name}, &out, &complaint)
	if code != exitFailed || !strings.Contains(complaint.String(), "stopped in stage 1 of 7") {
		t.Errorf("exit %d, %s", code, complaint.String())
	}
	got, err := os.ReadFile(name)
	if _, part := os.Stat(name + ".part"); err != nil || string(got) != "earlier" || part == nil {
		t.Errorf("got %q, %v, no part: %v; want the earlier trace alone", got, err, part)
	}
}

func TestARecordingMustBeginIdle(t *testing.T) {
	if got := limber(t, "bench", "record", "--schedule", "1s cpu:1"); got.code != exitUsage ||
		!strings.Contains(got.stderr, "must be idle") {
		t.Errorf("exit %d, %s", got.code, got.stderr)
	}
}

func TestAHogOfAnUnknownKindIsWrongUsage(t *testing.T) {
	limber(t, "hog", "gpu").complained(t, exitUsage, `hog: "gpu" is none of [cpu memory low]`)
}
