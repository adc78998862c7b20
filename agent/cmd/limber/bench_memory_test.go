package main

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/limber-edge/limber/family/ort/orttest"
)

func TestBenchMemoryPrintsWhatTheContractSays(t *testing.T) {
	t.Setenv("ONNXRUNTIME_LIB", orttest.Path(t))
	var out bytes.Buffer
	b := memoryBench{printer: printer{w: &out, asJSON: true}, progress: newProgress(io.Discard), folder: t.TempDir(), rounds: 1}
	if err := b.run(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range mustFigures(t, out.String()) {
		if f.Bench != "memory" || f.Better != lower || f.Rounds != 1 || !(f.Ours > 0 && f.Base > 0 && f.Ratio > 0) || !(f.Stretch < f.Goal) {
			t.Errorf("got %+v", f)
		}
		// Memory does not depend on who else uses the machine, times do.
		if strings.HasPrefix(f.Name, "resident") && !(f.Unit == "MiB" && f.Ours < f.Base && f.Ratio < 1) {
			t.Errorf("got %+v, want less memory than plain sessions take", f)
		}
		names = append(names, f.Name)
	}
	members := fmt.Sprintf(" stock, %d members", stockMembers(t))
	if want := []string{"resident" + members, "create" + members, "run" + members}; !slices.Equal(names, want) {
		t.Errorf("got figures %q, want %q", names, want)
	}
}
