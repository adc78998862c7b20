package main

import (
	"testing"

	"github.com/limber-edge/limber/family/ort/orttest"
)

func TestEvalTellsHowMembersAgreeAndWhatTheyConfuse(t *testing.T) {
	t.Setenv("ONNXRUNTIME_LIB", orttest.Path(t))
	says(t, 0, "images that two members take for the same", "family", "eval", "--agreement")
	says(t, 0, "truck", "family", "eval", "--confusion", "29.7M")
	says(t, 2, "no such member", "family", "eval", "--confusion", "nix")
	says(t, 2, "json", "family", "eval", "--json", "--agreement")
}
