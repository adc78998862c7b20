package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/limber-edge/limber/family/familytest"
)

func TestProfilePrintsALineForEachMemberInEachWay(t *testing.T) {
	got := limber(t, "family", "profile", "--threads", "2", "--batch", "1,3", "--rounds", "2", "--json")
	if got.code != exitDone {
		t.Fatalf("got %+v", got)
	}
	seen := map[[2]int]int{}
	for line := range strings.Lines(got.stdout) {
		var l struct {
			Member, Provider string
			Threads, Batch   int
			Runs             int
			P50              float64 `json:"p50_ms"`
			P95              float64 `json:"p95_ms"`
			PerSecond        float64 `json:"images_per_second"`
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatal(err)
		}
		if l.Provider != "cpu" || l.Runs != 2 || !(l.P50 > 0 && l.P95 >= l.P50 && l.PerSecond > 0) {
			t.Errorf("got %s", line)
		}
		seen[[2]int{l.Threads, l.Batch}]++
	}
	if len(seen) != 2 || seen[[2]int{2, 3}] != stockMembers(t) {
		t.Errorf("got lines for %v, want all members for each of two ways", seen)
	}
	if got := limber(t, "family", "profile", "--rounds", "1", "--providers", "tensorrt,cpu"); got.code != exitDone ||
		!strings.Contains(got.stderr, "left out") || !strings.Contains(got.stdout, "cpu") ||
		!strings.Contains(got.stdout, "images/s") {
		t.Errorf("got %+v, want what the library lacks left out, and a table of the rest", got)
	}
	limber(t, "family", "profile", "--batch", "0").complained(t, exitUsage, "at least 1")
	limber(t, "family", "profile", "--providers", "cpu,foo").complained(t, exitUsage,
		"--providers foo: known are cpu, cuda, tensorrt")
	limber(t, "family", "profile", "--providers", "").complained(t, exitUsage, "--providers is empty")
}

func TestTableIsReadByASearchAndComparedWithWholeNetworks(t *testing.T) {
	dir := t.TempDir()
	supernet, out := familytest.NarrowSupernet(t, dir), filepath.Join(dir, "table")
	args := []string{"family", "table", "--supernet", supernet, "--resolutions", "24", "--rounds", "2", "--out", out}
	if got := limber(t, args...); got.code != exitDone || !strings.Contains(got.stdout, "69 rows") ||
		!strings.Contains(got.stdout, "20 whole networks") {
		t.Fatalf("got %+v, want 69 rows and a comparison with whole networks", got)
	}
	limber(t, append(args, "--threads", "2")...).complained(t, exitFailed, "another supernet, device or number of threads")
	limber(t, append(args, "--resolutions", "31")...).complained(t, exitUsage, "trained for")
}
