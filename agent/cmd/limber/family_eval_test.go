package main

import (
	"strings"
	"testing"

	"github.com/limber-edge/limber/family/ort/orttest"
)

func TestEvalTellsHowMembersAgreeAndWhatTheyConfuse(t *testing.T) {
	t.Setenv("ONNXRUNTIME_LIB", orttest.Path(t))
	got := limber(t, "family", "eval", "--agreement", "--confusion", "29.7M")
	for _, want := range []string{"images that two members take for the same", "taken for the class above", "truck"} {
		if got.code != exitDone || !strings.Contains(got.stdout, want) {
			t.Errorf("got %+v, want exit 0 and %q", got, want)
		}
	}
	says(t, 2, "no such member", "family", "eval", "--confusion", "nix")
	says(t, 2, "json", "family", "eval", "--json", "--agreement")
}
