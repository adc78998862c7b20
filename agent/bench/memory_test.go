package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/limber-edge/limber/agent/bench/figure"
	"github.com/limber-edge/limber/family/ort/orttest"
)

// With all members, in processes of their own: TestMemoryIsLessThanPlainSessionsTake.
func TestMemoryPrintsWhatTheContractSays(t *testing.T) {
	rt := orttest.Open(t)
	fam, blobs, err := familyOf(rt, "")
	if err != nil {
		t.Fatal(err)
	}
	fam.Members = fam.Members[:1]
	var out bytes.Buffer
	b := memoryBench{Bench: testBench(t, &out), rounds: 1, probe: func(_ context.Context,
		models []Model) (found Residence, err error) {
		spec, err := json.Marshal(models)
		if err != nil {
			return found, err
		}
		var said bytes.Buffer
		if err := ProbeModels(rt, bytes.NewReader(spec), &said); err != nil {
			return found, err
		}
		err = json.Unmarshal(said.Bytes(), &found)
		found.AnonMiB = 1 // in this process others come and go
		return found, err
	}}
	plain, ours, err := b.written(rt, fam, blobs)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.family(t.Context(), "stock", plain, ours); err != nil {
		t.Fatal(err)
	}
	mustAgree(t, mustFigures(t, out.String()), "memory", memoryFigures(1))
}

func memoryFigures(members int) [][3]string {
	of := fmt.Sprintf(" stock, %d members", members)
	return [][3]string{{"resident" + of, "MiB", figure.Lower}, {"create" + of, "ms", figure.Lower}, {"run" + of, "ms",
		figure.Lower}}
}
