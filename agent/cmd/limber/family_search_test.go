package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/limber-edge/limber/family/ofa"
)

// searchFixtures are a small predictor and a table with made-up rows.
var searchFixtures = filepath.Join("..", "..", "..", "family", "search", "testdata")

func searchCommand(more ...string) []string {
	return append([]string{"family", "search", "--accuracy-predictor", filepath.Join(searchFixtures, "predictor.pth"),
		"--latency-table", filepath.Join(searchFixtures, "table"), "--resolutions", "160,176"}, more...)
}

func TestSearchPrintsALineForEachLimit(t *testing.T) {
	limits := []float64{60, 1, 45.5}
	got := limber(t, searchCommand("--max-latency", "60", "--max-latency", "1", "--max-latency", "45.5", "--json")...)
	lines := strings.Split(strings.TrimSpace(got.stdout), "\n")
	if got.code != exitDone || got.stderr != "" || len(lines) != len(limits) {
		t.Fatalf("got %+v, want exit 0 and %d lines", got, len(limits))
	}
	d := ofa.Published()
	for i, text := range lines {
		dec := json.NewDecoder(strings.NewReader(text))
		dec.DisallowUnknownFields()
		var line searchLine
		if err := dec.Decode(&line); err != nil {
			t.Fatal(err)
		}
		if err := d.Check(line.Arch); err != nil || line.MaxLatency != limits[i] || line.Accuracy == 0 || line.Latency <= 0 {
			t.Errorf("got %+v, %v; want an architecture for %v ms", line, err, limits[i])
		}
		if want := limits[i] > 1; line.Feasible != want || line.Feasible != (line.Latency <= limits[i]) {
			t.Errorf("got %+v, want feasible %v", line, want)
		}
	}
}

func TestSearchPrintsATableForPeople(t *testing.T) {
	got := limber(t, searchCommand("--max-latency", "1,60")...)
	for _, part := range []string{"limit ms", "accuracy %", "\n1.0", "nothing is that fast", "\n60.0"} {
		if got.code != exitDone || got.stderr != "" || !strings.Contains(got.stdout, part) {
			t.Errorf("got %+v, want exit 0 and %q", got, part)
		}
	}
	whole := limber(t, searchCommand()...)
	if n := strings.Count(whole.stdout, "\n"); whole.code != exitDone || n != 11 || strings.Contains(whole.stdout, "nothing is that fast") {
		t.Errorf("without limits: got %+v, want a head and ten lines", whole)
	}
}

func TestSearchSaysWhatIsWrong(t *testing.T) {
	for _, tt := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"no predictor", []string{"family", "search", "--latency-table", "."}, exitUsage, "--accuracy-predictor is missing"},
		{"no table", []string{"family", "search", "--accuracy-predictor", "p.pth"}, exitUsage, "--latency-table is missing"},
		{"limit of nothing", searchCommand("--max-latency", "0"), exitUsage, "--max-latency 0"},
		{"limit that is no number", searchCommand("--max-latency", "NaN"), exitUsage, "--max-latency NaN"},
		{"unknown resolution", searchCommand("--resolutions", "161"), exitUsage, "--resolutions 161"},
		{"resolution without a table", searchCommand("--resolutions", "192"), exitFailed, "192_lookup_table.json"},
		{"missing predictor", searchCommand("--accuracy-predictor", "none.pth"), exitFailed, "none.pth"},
		{"other checkpoint", searchCommand("--accuracy-predictor", filepath.Join(fixtures, "containers", "zip.pth")), exitFailed, "zip.pth"},
		{"missing table", searchCommand("--latency-table", "none"), exitFailed, "none: latency table"},
	} {
		t.Run(tt.name, func(t *testing.T) { limber(t, tt.args...).complained(t, tt.code, tt.says) })
	}
}
