package workshop

import (
	"strings"
	"testing"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/familytest"
	"github.com/limber-edge/limber/family/ort/orttest"
)

// another is a member that gives other numbers than any file.
type another struct{ family.Session }

func (another) Run(out []float32, _ ...[]float32) error {
	for i := range out {
		out[i] = float32(i)
	}
	return nil
}

func TestAFileThatGivesOtherNumbersIsNotExported(t *testing.T) {
	rt := orttest.Open(t)
	f := familytest.Stock(t)
	m := f.Members[0]
	m.Arch.R = 24 // as the model has it; the canary's is larger
	e := Exported{Input: "x", Output: "y", Classes: 10}
	if err := e.check(rt, another{}, f, &m, familytest.Model(t, "Identity")); err == nil ||
		!strings.Contains(err.Error(), "1e-05 is allowed; nothing was written") {
		t.Errorf("got %v, want it refused", err)
	}
}
