package main

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/limber-edge/limber/family/familytest"
)

func TestEvalTellsHowMembersAgreeAndWhatTheyConfuse(t *testing.T) {
	tree := familytest.Tree(t, filepath.Join(t.TempDir(), "tree"), 0, 30, familytest.Stock(t).Classes...)
	got := limber(t, "family", "eval", "--data", tree, "--agreement", "--confusion", "23.1M")
	for _, want := range []string{"images that two members take for the same", "taken for the class above", "truck"} {
		if got.code != exitDone || !strings.Contains(got.stdout, want) {
			t.Errorf("got %+v, want exit 0 and %q", got, want)
		}
	}
	says(t, 2, "no such member", "family", "eval", "--confusion", "nix")
	interrupted, cancel := context.WithCancel(t.Context())
	cancel()
	for _, what := range []string{"eval", "verify"} {
		var stdout, stderr strings.Builder
		if code := run(interrupted, []string{"family", what}, &stdout, &stderr); code != exitFailed ||
			!strings.Contains(stderr.String(), "limber: interrupted") {
			t.Errorf("%s that is interrupted: got exit %d, %s", what, code, stderr.String())
		}
	}
	says(t, 2, "json", "family", "eval", "--json", "--agreement")
}

func TestEvalPrintsALineForEachMemberOnTheImagesNamed(t *testing.T) {
	tree := familytest.Tree(t, filepath.Join(t.TempDir(), "tree"), 0, 6, "truck", "cat", ".cache")
	got := limber(t, "family", "eval", "--data", tree, "--json")
	if n := strings.Count(got.stdout, `"images":4,`); got.code != exitDone || n != stockMembers(t) {
		t.Errorf("got %+v, want a line of 4 images for each member", got)
	}
	limber(t, "family", "eval", "--data", "nonexist").complained(t, exitFailed, "images nonexist: no such folder")
}
