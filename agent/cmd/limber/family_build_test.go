package main

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/familytest"
)

func TestBuildMakesAVerifiedFamilyAndGoesOnAfterCtrlC(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "mine.family")
	args := []string{"family", "build", "--supernet", familytest.NarrowSupernet(t, dir),
		"--calibration", familytest.Tree(t, filepath.Join(dir, "train"), 0, 20),
		"--validation", familytest.Tree(t, filepath.Join(dir, "val"), 500, 20),
		"--samples", "10", "--finalists", "2", "--size", "16", "--augment", "--out", out}

	ctx, cancel := context.WithCancel(t.Context())
	var stdout, stderr strings.Builder
	code := make(chan int)
	go func() { code <- run(ctx, args, &stdout, &stderr) }()
	journal := filepath.Join(out+".work", "journal.jsonl")
	for cut := false; !cut; {
		b, err := os.ReadFile(journal)
		if cut = err == nil && bytes.Count(b, []byte("\n")) > 3; !cut {
			select {
			case c := <-code:
				t.Fatalf("ended with %d before it was cut off: %s", c, stderr.String())
			case <-time.After(time.Millisecond):
			}
		}
	}
	cancel()
	if got := <-code; got != exitFailed || !strings.Contains(stderr.String(), "the same command goes on from there") {
		t.Fatalf("cut off: got exit %d, %q; want exit 1 and what to do", got, stderr.String())
	}
	other := append(slices.Clone(args), "--calibration-batch", "7")
	if got := limber(t, other...); got.code != exitFailed || !strings.Contains(got.stderr, "another batch") {
		t.Errorf("another batch: got %+v, want it refused: the measurements do not fit", got)
	}

	got := limber(t, args...)
	if got.code != exitDone || !strings.Contains(got.stdout, "measurements taken over") ||
		!strings.Contains(got.stdout, "pass their canaries") {
		t.Fatalf("got %+v, want a verified family that goes on from measurements", got)
	}
	for _, part := range []string{"train: all of its 20 images are used, fewer than --calibration-images 2000",
		"val: all of its 20 images", "members, --size asked for 16"} {
		if !strings.Contains(got.stderr, part) {
			t.Errorf("got %q, want it to say %q", got.stderr, part)
		}
	}
	f, err := family.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n := len(f.Members); n < 1 || n > 10+2 || len(f.Classes) != 10 || f.Classes[3] != "class3" ||
		f.Members[0].Images != 20 {
		t.Errorf("got %d members, classes %v, %d images; want 1 to 12, those of the folders, and 20", n, f.Classes,
			f.Members[0].Images)
	}
	if _, err := os.Stat(out + ".work"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the working folder is still there: %v", err)
	}
	limber(t, args...).complained(t, exitFailed, "exists")
}

func TestBuildSaysWhatItNeeds(t *testing.T) {
	dir := t.TempDir()
	supernet, tree := familytest.NarrowSupernet(t, dir), familytest.Tree(t, filepath.Join(dir, "few"), 0, 9)
	with := func(more ...string) []string {
		return append([]string{"family", "build", "--supernet", supernet, "--calibration", tree, "--validation", tree,
			"--out", filepath.Join(dir, "x")}, more...)
	}
	for _, tt := range []struct {
		name string
		code int
		args []string
		says string
	}{
		{"no flags", exitUsage, []string{"family", "build"}, "--supernet is missing"},
		{"unknown cost", exitUsage, with("--cost", "money"), "known are latency and mmacs"},
		{"one member", exitUsage, with("--size", "1"), "--size 1: wants at least 2"},
		{"too many members", exitUsage, with("--size", "17"), "at most 16"},
		{"name of no family", exitUsage, with("--name", "a b"), "--name"},
		{"too few images", exitFailed, with(), "has 9 images; after 2000 for BN statistics none is left"},
		{"nine classes of ten", exitFailed, with("--calibration-images", "5"), "9 classes, and the supernet tells 10 apart"},
	} {
		t.Run(tt.name, func(t *testing.T) { limber(t, tt.args...).complained(t, tt.code, tt.says) })
	}
}
