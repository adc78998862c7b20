package main

import (
	"encoding/json"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/limber-edge/limber/family/ofa"
)

// searchFixtures are a small predictor and a table with made-up rows.
var searchFixtures = filepath.Join("..", "..", "..", "family", "search", "testdata")

func searchCommand(more ...string) []string {
	return append([]string{"family", "search", "--accuracy-predictor", filepath.Join(searchFixtures, "predictor.pth"),
		"--latency-table", filepath.Join(searchFixtures, "table"), "--resolutions", "160,176", "--climbs", "10"}, more...)
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
		if err := d.Check(line.Arch); err != nil || line.Max != limits[i] || line.Accuracy == 0 || line.Cost <= 0 {
			t.Errorf("got %+v, %v; want an architecture for %v ms", line, err, limits[i])
		}
		if want := limits[i] > 1; line.Feasible != want || line.Feasible != (line.Cost <= limits[i]) {
			t.Errorf("got %+v, want feasible %v", line, want)
		}
	}
}

func TestSearchPrintsATableForPeople(t *testing.T) {
	got := limber(t, searchCommand("--max-latency", "1,60")...)
	for _, part := range []string{"limit ms", "accuracy %", "\n1.0", "nothing has so little", "\n60.0"} {
		if got.code != exitDone || got.stderr != "" || !strings.Contains(got.stdout, part) {
			t.Errorf("got %+v, want exit 0 and %q", got, part)
		}
	}
	whole := limber(t, searchCommand()...)
	if n := strings.Count(whole.stdout, "\n"); whole.code != exitDone || n != 11 ||
		strings.Contains(whole.stdout, "nothing has so little") {
		t.Errorf("without limits: got %+v, want a head and ten lines", whole)
	}
}

func TestSearchLimitsMMACsOfASupernet(t *testing.T) {
	net := filepath.Join("..", "..", "..", "family", "ofa", "testdata", "imagenet", "supernet.pth")
	got := limber(t, "family", "search", "--accuracy-predictor", filepath.Join(searchFixtures, "predictor.pth"),
		"--supernet", net,
		"--resolutions", "160", "--max-mmacs", "1e9", "--max-mmacs", "0.001", "--climbs", "10", "--json")
	var lines []macLine
	for text := range strings.Lines(got.stdout) {
		var l macLine
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, l)
	}
	if got.code != exitDone || len(lines) != 2 || !lines[0].Feasible || lines[1].Feasible ||
		!(lines[0].Cost > lines[1].Cost && lines[1].Cost > 0) {
		t.Fatalf("got %+v, want one limit met and the least there is for the other", got)
	}
	supernet, err := ofa.Load(net)
	if err != nil {
		t.Fatal(err)
	}
	sub, err := supernet.Cut(lines[0].Arch)
	if err != nil || math.Abs(sub.MMACs()-lines[0].Cost) > 1e-9 {
		t.Errorf("got %v MMACs, %v; want those of the sub-network, %v", lines[0].Cost, err, sub.MMACs())
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
		{"limit of nothing", searchCommand("--max-latency", "0"), exitUsage, "--max-mmacs 0"},
		{"limit that is no number", searchCommand("--max-latency", "NaN"), exitUsage, "--max-mmacs NaN"},
		{"both kinds of limit", searchCommand("--max-mmacs", "3", "--supernet", "x.pth"), exitUsage, "either latency"},
		{"MMACs of no supernet", []string{"family", "search", "--accuracy-predictor", "p.pth", "--max-mmacs", "3"},
			exitUsage, "--supernet is missing"},
		{"unknown resolution", searchCommand("--resolutions", "161"), exitUsage, "--resolutions 161"},
		{"resolution without a table", searchCommand("--resolutions", "192"), exitFailed, "192_lookup_table.json"},
		{"missing predictor", searchCommand("--accuracy-predictor", "none.pth"), exitFailed, "none.pth"},
		{"other checkpoint", searchCommand("--accuracy-predictor", filepath.Join(fixtures, "containers", "zip.pth")),
			exitFailed, "zip.pth"},
		{"supernet for a predictor", searchCommand("--accuracy-predictor",
			filepath.Join(fixtures, "imagenet", "supernet.pth")), exitFailed, "tensors, the first of them "},
		{"missing table", searchCommand("--latency-table", "none"), exitFailed, "none: latency table"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := limber(t, tt.args...)
			got.complained(t, tt.code, tt.says)
			if len(got.stderr) > 400 {
				t.Errorf("got a message of %d bytes, want a sentence: %s", len(got.stderr), got.stderr)
			}
		})
	}
}
