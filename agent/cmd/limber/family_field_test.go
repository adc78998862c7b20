package main

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family/familytest"
	"github.com/limber-edge/limber/family/onnx"
)

// A second softmax of ten probabilities gives none over e/(e+9) = 0.23.
func TestADeviceAnswersWithTheProbabilitiesOfAMember(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	f := familytest.Stock(t)
	mustWrite(t, in("d.json"), f.Describe)
	mustWrite(t, in("logits.onnx"), familytest.Scores(t, func(_ *onnx.Graph, scores string) string { return scores }))
	mustWrite(t, in("softmax.onnx"), familytest.Scores(t,
		func(g *onnx.Graph, scores string) string { return g.Node("Softmax", "p", []string{scores}) }))
	frame, _ := mustFrame(t, 0)
	var answers [2]wire.Result
	for i, model := range []string{"logits.onnx", "softmax.onnx"} {
		t.Run(model, func(t *testing.T) { // there is one runtime in a process, and one agent at a time
			says(t, 0, "1 members", "family", "import", "--describe", in("d.json"), "--out", in("f.family"),
				"--member", "m="+in(model)+":0.5")
			state := filepath.Join(t.TempDir(), "state")
			says(t, 0, "1 members", "family", "install", "--family", in("f.family"), "--state", state)
			d := mustDeskOn(t, state)
			d.awaitOnline(t)
			stdout, stderr, _ := d.limber(t, "publish", "--json", "--deadline", "10s", frame)
			if err := json.Unmarshal([]byte(stdout), &answers[i]); err != nil {
				t.Fatalf("%v: %s%s", err, stdout, stderr)
			}
		})
	}
	logits, own := answers[0].Classes, answers[1].Classes
	if len(logits) != 5 || len(own) != 5 || own[0].P < 0.3 {
		t.Fatalf("got %+v of logits and %+v of probabilities", logits, own)
	}
	for i, c := range logits {
		if c.Index != own[i].Index || c.P-own[i].P > 1e-5 || own[i].P-c.P > 1e-5 {
			t.Errorf("place %d: got %+v of logits and %+v of probabilities, want the same", i, c, own[i])
		}
	}
}
